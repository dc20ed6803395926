"""What runs by itself, as the browser asks for it: listed, added, removed.

The schedules are those of `majlis schedule`: what is added here is seen there, and the other way round.
"""

import asyncio
from http import HTTPStatus
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from tornado import web

from majlis import clock
from majlis.errors import Invalid
from majlis.pipelines import definition
from majlis.pipelines.notebook import resolve
from majlis.pipelines.schedule import Missed, Schedule
from majlis_lab.files import Files
from majlis_lab.planner import Planner
from majlis_lab.problems import Handler

ASKED = frozenset({"name", "source", "parameters", "cron", "table", "profile"})  # what a request may say


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
        """Every schedule that can be read."""
        return [described(schedule, self.files) for schedule in self.planner.schedules]

    @web.authenticated
    async def post(self) -> None:
        added = await asyncio.to_thread(self.add, self.body())
        self.planner.changed.set()
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
        profile = body.get("profile", "")
        offered = [one["name"] for one in self.planner.elsewhere.profiles]
        if profile != "" and profile not in offered:
            given = ", ".join(offered) or "none but the usual server"
            raise Invalid(f"profile is {profile!r}", remedy=f"Leave it out, or give one of: {given}.")
        try:
            new = Schedule(
                **kept,
                source=str(source),
                pipeline=read.name,
                parameters=given,
                profile=profile,
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
        self.planner.changed.set()
        self.set_status(HTTPStatus.NO_CONTENT)
        self.finish()
