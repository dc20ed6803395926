"""Pipelines that run by themselves while this server is up: kept, listed, removed, started when they are due.

The schedules are those of `majlis schedule`: what is added here is seen there, and the other way round. Both
may look for what is due at the same time, since the folder's lock lets each time be dealt with once.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from tornado import web

from majlis import clock
from majlis.errors import Invalid, MajlisError
from majlis.pipelines import definition
from majlis.pipelines.notebook import resolve
from majlis.pipelines.schedule import Missed, Schedule, Schedules, Versions, launcher
from majlis_lab.files import Files
from majlis_lab.problems import Handler

log = logging.getLogger(__name__)
ASKED = frozenset({"name", "source", "parameters", "cron", "table"})  # what a request may say


class Planner:
    """The schedules of one folder of runs, and the task that starts what is due."""

    def __init__(self, runs: Path, every_seconds: float, versions: Callable[[], Versions]) -> None:
        self.schedules = Schedules(runs)
        self.launch = launcher(runs)
        self.every_seconds = every_seconds
        self.versions = versions  # called when a schedule waits for a table: the lake is not needed before
        self.task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look for what is due until the server ends."""
        self.task = asyncio.create_task(self.watch())

    async def watch(self) -> None:
        """Start what is due, now and then; what was missed while the server was down comes first."""
        while True:
            try:
                await asyncio.to_thread(self.tick)
            except Exception:  # a fault of one look must not end the next
                log.exception("could not look for schedules that are due")
            await asyncio.sleep(self.every_seconds)

    def tick(self) -> list[Schedule]:
        """Start what is due; the folder is made only when there is something to keep."""
        if not self.schedules.folder.is_dir():
            return []
        known: list[Versions] = []

        def version_of(table: str) -> int:
            if not known:
                known.append(self.versions())
            return known[0](table)

        return self.schedules.tick(self.launch, version_of)

    async def end(self) -> None:
        """Stop looking."""
        if self.task:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task


def lake_versions() -> Versions:
    """The latest version of a table of the lake."""
    from majlis.data.lake import Lake  # it imports much, and most servers have no schedule that needs it
    from majlis.settings import load

    lake = Lake(load().lake.uri)
    return lambda table: lake.version(table).version


def described(schedule: Schedule, files: Files) -> dict[str, Any]:
    """A schedule, as the browser gets it."""
    due = schedule.next()
    told = schedule.model_dump(mode="json", exclude={"settled", "version"})
    return told | {"source": files.relative(Path(schedule.source)), "next": due and clock.isoformat(due)}


class SchedulesHandler(Handler):
    """`schedules`: those there are, and a new one."""

    def initialize(self, planner: Planner, files: Files) -> None:
        self.planner, self.files = planner, files

    @web.authenticated
    async def get(self) -> None:
        self.answer(await asyncio.to_thread(self.listed))

    def listed(self) -> list[dict[str, Any]]:
        """Every schedule that can be read; a faulty file is named in the log."""
        found = []
        for path in sorted(self.planner.schedules.folder.glob("*.json")):
            try:
                found.append(described(self.planner.schedules.read(path.stem), self.files))
            except MajlisError as error:
                log.warning("%s", error)
        return found

    @web.authenticated
    async def post(self) -> None:
        added = await asyncio.to_thread(self.add, self.body())
        self.answer(described(added, self.files), HTTPStatus.CREATED)

    def add(self, body: dict[str, Any]) -> Schedule:
        """Keep a new schedule, its values checked as a run's are."""
        if strangers := sorted(set(body) - ASKED):
            raise Invalid(f"a schedule has no {strangers[0]!r}", remedy=f"Give {', '.join(sorted(ASKED))}.")
        place = str(body.get("source", ""))
        source = self.files.notebook(place) if place.endswith(".ipynb") else self.files.pipeline(place)
        read = definition.read(source)
        given = body.get("parameters", {})
        if not isinstance(given, dict):
            raise Invalid(f"parameters is {given!r}", remedy="Give an object: names and values.")
        allowed = {parameter.name: parameter.declaration() for parameter in read.parameters}
        resolve(allowed, given, f"the pipeline {read.name}")
        kept = {key: body.get(key) for key in ("name", "cron", "table")}
        try:
            new = Schedule(
                **kept,
                source=str(source),
                pipeline=read.name,
                parameters=given,
                missed=Missed.ONCE,
                settled=clock.now(),
            )
        except ValidationError as error:
            told = f"the schedule is not valid: {definition.explained(error)}"
            raise Invalid(told, remedy="Change it.") from error
        return self.planner.schedules.add(new)


class ScheduleHandler(Handler):
    """`schedules/<name>`: forget one; its runs stay."""

    def initialize(self, planner: Planner) -> None:
        self.planner = planner

    @web.authenticated
    async def delete(self, name: str) -> None:
        await asyncio.to_thread(self.planner.schedules.remove, name)
        self.set_status(HTTPStatus.NO_CONTENT)
        self.finish()
