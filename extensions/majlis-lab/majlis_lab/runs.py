"""The runs of pipelines: started as processes of their own, followed through the records they write.

A run belongs to nobody's browser, kernel or connection. Its process leads its own session, so it outlives the
notebook server too. `majlis.pipelines.runs` owns the records; what a process says without one goes to a log.
"""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel

from majlis import clock
from majlis.errors import Conflict, Invalid, NotFound
from majlis.pipelines import runs as records
from majlis.pipelines.runs import Process, State, new_id, write_whole

STARTED = (
    ".started"  # one file for each process that a server started, and its log; the file browser hides it
)
GENTLY_FIRST = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


class Start(BaseModel):
    """A run that a server of this folder started, known before the run has a record."""

    id: str
    pipeline: str
    source: str  # the pipeline's folder
    parameters: dict[str, Any]
    started_at: datetime
    process: Process


class Runs:
    """The runs below one folder."""

    def __init__(
        self,
        folder: Path,  # <folder>/<pipeline>/<run id>/run.json
        command: Sequence[str],  # what runs a pipeline, up to its arguments
        cwd: Path,
        stop_seconds: float = 10.0,  # how long a run may take to end itself before it is ended
        log_bytes: int = 4000,  # how much of its log explains a run that ended before it had a record
    ) -> None:
        self.folder = folder
        self.command = tuple(command)
        self.cwd = cwd
        self.stop_seconds = stop_seconds
        self.log_bytes = log_bytes
        self.children: list[subprocess.Popen[bytes]] = []

    def __repr__(self) -> str:
        return f"Runs({str(self.folder)!r})"

    def stamps(self) -> dict[Path, tuple[int, int]]:
        """Every record's time and size, and the life of runs without one: it differs when a run moves on."""
        found: dict[Path, tuple[int, int]] = {}
        for record in self.folder.glob(f"[!.]*/*/{records.record_name}"):
            with suppress(FileNotFoundError):
                stat = record.stat()
                found[record] = (stat.st_mtime_ns, stat.st_size)
        self.reap()
        known = {record.parent.name for record in found}
        starts = (start for start in self.starts() if start.id not in known)
        return found | {self.path(start.id): (int(start.process.alive()), 0) for start in starts}

    def history(self, limit: int) -> list[dict[str, Any]]:
        """The newest runs first, those included that have no record yet."""
        self.reap()
        recorded = records.history(self.folder)
        known = {run.id for run in recorded}
        unrecorded = [
            unrecorded_run(start, self.log(start.id)) for start in self.starts() if start.id not in known
        ]
        found = [described(run) for run in recorded] + unrecorded
        return sorted(found, key=lambda run: str(run["id"]), reverse=True)[:limit]

    def get(self, run_id: str) -> dict[str, Any]:
        """The run as it stands; NotFound where there is none."""
        self.reap()
        run = self.recorded(run_id)
        return described(run) if run else unrecorded_run(self.start_of(run_id), self.log(run_id))

    def recorded(self, run_id: str) -> records.Run | None:
        """The run's record; None until it has one."""
        if not records.run_id.fullmatch(run_id):
            raise Invalid(f"{run_id!r} is not the id of a run", remedy="Choose a run from the history.")
        found = next(self.folder.glob(f"[!.]*/{run_id}/{records.record_name}"), None)
        return records.read(found.parent) if found else None

    def starts(self) -> list[Start]:
        """What servers of this folder started, as far as it still matters."""
        return [
            Start.model_validate_json(path.read_text()) for path in (self.folder / STARTED).glob("*.json")
        ]

    def start_of(self, run_id: str) -> Start:
        """How the run was started; NotFound where no server of this folder did."""
        if self.path(run_id).is_file():
            return Start.model_validate_json(self.path(run_id).read_text())
        raise NotFound(f"there is no run {run_id}", remedy="Choose a run from the history.")

    def path(self, run_id: str) -> Path:
        """Where the start of a run is noted; its log has the same name."""
        return self.folder / STARTED / f"{run_id}.json"

    def log(self, run_id: str) -> str:
        """The last words of the run's process."""
        with suppress(FileNotFoundError), self.path(run_id).with_suffix(".log").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - self.log_bytes))
            return log.read().decode(errors="replace").strip()
        return ""

    def start(
        self,
        source: Path,  # the pipeline's folder, or a notebook
        parameters: Mapping[str, Any],  # validated by the caller
    ) -> str:
        """Start a run; its id."""
        run_id = new_id()
        values = [
            part for name, value in parameters.items() for part in ("-p", f"{name}={json.dumps(value)}")
        ]
        self.launch(run_id, source, parameters, "--run-id", run_id, *values)
        return run_id

    def resume(self, run_id: str) -> None:
        """Carry on with a run that stopped: the steps that are done stay done."""
        run = self.recorded(run_id)
        if run is None:
            raise Conflict(f"the run {run_id} stopped before its first step", remedy="Start a new run.")
        if run.state is State.RUNNING:
            raise Conflict(f"the run {run_id} is still running", remedy="Wait for it, or cancel it first.")
        if run.state.finished:
            raise Conflict(f"the run {run_id} is done", remedy="Start a new run.")
        self.launch(run_id, Path(run.source), run.parameters, "--resume", run_id)

    def launch(self, run_id: str, source: Path, parameters: Mapping[str, Any], *arguments: str) -> None:
        """Start the process of a run and note it."""
        self.path(run_id).parent.mkdir(parents=True, exist_ok=True)
        with self.path(run_id).with_suffix(".log").open("ab") as log:
            child = subprocess.Popen(
                [*self.command, "run", str(source), "--runs", str(self.folder), *arguments],
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # it lives on when the server goes, and ends with all it started
            )
        self.children.append(child)
        start = Start(
            id=run_id,
            pipeline=source.stem,
            source=str(source),
            parameters=dict(parameters),
            started_at=clock.now(),
            process=process_of(child.pid),
        )
        write_whole(self.path(run_id), start.model_dump_json())

    async def cancel(self, run_id: str) -> None:
        """Interrupt the run as Ctrl-C would, and end it when it does not. What it finished stays."""
        run = self.recorded(run_id)
        process = run.process if run and run.state is State.RUNNING else None
        process = process or self.start_of(run_id).process
        if not process.alive():
            raise Conflict(f"the run {run_id} is not running", remedy="Nothing is left to cancel.")
        for number in GENTLY_FIRST:
            send(process.pid, number)
            if await self.ended(process):
                return

    async def ended(self, process: Process) -> bool:
        """Whether the process ends within the time it may take."""
        deadline = asyncio.get_running_loop().time() + self.stop_seconds
        while process.alive() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        self.reap()
        return not process.alive()

    async def cancel_all(self) -> None:
        """End every run that a server of this folder started."""
        living = [start.id for start in self.starts() if start.process.alive()]
        await asyncio.gather(*(self.cancel(run_id) for run_id in living))

    def reap(self) -> None:
        """Let go of the children that ended, so that they leave no zombies."""
        self.children = [child for child in self.children if child.poll() is None]


def process_of(pid: int) -> Process:
    """The process `pid`, as it can be found again by another server."""
    return Process.current().model_copy(update={"pid": pid, "started": psutil.Process(pid).create_time()})


def send(pid: int, number: signal.Signals) -> None:
    """Signal a run: with all it started where it leads a session, alone where a terminal started it."""
    with suppress(ProcessLookupError):
        if number is signal.SIGKILL and os.getsid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def described(run: records.Run) -> dict[str, Any]:
    """The record as the browser gets it."""
    return run.model_dump(mode="json", exclude={"process"}) | {"folder": str(run.folder)}


def unrecorded_run(start: Start, log: str) -> dict[str, Any]:
    """A run whose process has no record yet, or ended before it had one."""
    alive = start.process.alive()
    run = start.model_dump(mode="json", exclude={"process"}) | {"title": start.pipeline, "steps": []}
    return run | {"state": "starting" if alive else State.FAILED, "reason": "" if alive else log}
