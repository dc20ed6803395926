"""What the operator sees."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from hub_config.services import decisions_origin, origin
from majlis.settings import Settings
from spawner.isolation import Isolation


class Screen:
    """Writes to the terminal, plainly enough that a log of it reads well, too."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        self.began = time.monotonic()

    def say(self, text: str) -> None:
        """One line with the time since the start."""
        seconds = time.monotonic() - self.began
        self.console.print(f"[dim]{seconds:6.1f} s[/]  ", end="")
        self.console.print(text, markup=False, soft_wrap=True)

    def opening(self, settings: Settings, alone: Isolation, made: Mapping[str, str], kept: Path) -> None:
        """What is about to start, and accounts that are new."""
        self.say(f"the workbench in {settings.home}, settings from {settings.source}")
        if not alone:
            self.say(f"isolation is off: {alone.reason}")
        if made:
            self.say(f"demo accounts, also in {kept}:")
            table = Table("account", "password")
            for name, password in made.items():
                table.add_row(name, password)
            self.console.print(table)

    def where_to_click(self, settings: Settings) -> None:
        """The addresses."""
        base = settings.workbench.base_url
        table = Table(show_header=False, box=None, padding=(0, 2))
        table.add_row("Workbench", f"{origin(settings)}{base}")
        table.add_row("Control plane", f"{origin(settings)}{base}services/majlis/")
        table.add_row("Decisions", f"{decisions_origin(settings)}{base}services/majlis/")
        table.add_row("MLflow", f"{origin(settings)}{base}services/mlflow/")
        table.add_row("Gateway", f"{settings.gateway.url}/v2")
        if settings.workbench.demo_accounts:
            table.add_row("Accounts", str(settings.home / "hub" / "accounts"))
        self.console.print(table)
        self.say("ready; Ctrl-C stops everything")

    @contextmanager
    def steps(self) -> Iterator["Steps"]:
        """A line for each step of a run: live on a terminal, once each in a log."""
        if not self.console.is_terminal:
            yield Steps(self, None)
            return
        columns = (TextColumn("{task.description:<12}"), BarColumn(24), TextColumn("{task.fields[state]}"))
        with Progress(*columns, TimeElapsedColumn(), console=self.console) as progress:
            yield Steps(self, progress)


class Steps:
    """The steps of a run, as they go."""

    def __init__(self, screen: Screen, progress: Progress | None) -> None:
        self.screen, self.progress = screen, progress
        self.tasks: dict[str, TaskID] = {}
        self.states: dict[str, str] = {}

    def show(self, run: Mapping[str, Any]) -> None:
        """Show where `run` is now."""
        for step in run["steps"]:
            if self.progress:
                self.move(self.progress, step)
            elif step["state"] != self.states.get(step["name"]) and step["state"] != "pending":
                self.screen.say(f"  {step['name']:<10} {step['state']}")
            self.states[step["name"]] = step["state"]

    def move(self, progress: Progress, step: Mapping[str, Any]) -> None:
        """Move one step's bar."""
        name, state, cells = step["name"], step["state"], step.get("cells") or 1
        if name not in self.tasks:
            self.tasks[name] = progress.add_task(name, start=False, state=state, total=cells)
        task = self.tasks[name]
        if state == "running" and self.states.get(name) != state:
            progress.start_task(task)
        done = cells if state in ("done", "reused") else step.get("cell", 0)
        progress.update(task, completed=done, total=cells, state=state)
        if state not in ("pending", "running"):
            progress.stop_task(task)
