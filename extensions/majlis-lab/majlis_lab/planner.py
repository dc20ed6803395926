"""Starts what is due, and tells the control plane when the next time comes.

A person's usual server looks for as long as it is up. The control plane, told of the next times, has a server
started when one comes and none is up (see `majlis.control.alarms`); such a server is for one schedule, whose
run it carries out itself. Two servers may look at once: the folder's lock lets each time be dealt with once.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from majlis import clock
from majlis.errors import MajlisError, NotFound
from majlis.pipelines.runs import new_id
from majlis.pipelines.schedule import Schedule, Schedules, Versions
from majlis_lab.control import ControlPlane
from majlis_lab.elsewhere import Elsewhere
from majlis_lab.runs import Runs, schedule_of

log = logging.getLogger(__name__)
TELL_SECONDS = 10.0  # what is due does not wait longer for the control plane
JSON = {"content-type": "application/json"}


class Seen(Schedules):
    """Schedules whose runs may be on other servers, where only the hub sees whether they go on."""

    def __init__(self, seen: Runs) -> None:
        super().__init__(seen.folder)
        self.seen = seen

    def __iter__(self) -> Iterator[Schedule]:
        """Every schedule that can be read; a faulty file is named in the log and keeps no other waiting."""
        for path in sorted(self.folder.glob("*.json")):
            try:
                yield self.read(path.stem)
            except MajlisError as error:
                log.warning("%s", error)

    def going(self, schedule: Schedule) -> bool:
        """Whether the schedule's last run has not ended, nor its server."""
        return schedule.last_run is not None and self.seen.going(schedule.last_run)


class Planner:
    """The schedules of one folder of runs, and the task that starts what is due."""

    def __init__(
        self,
        runs: Runs,
        elsewhere: Elsewhere,
        control: ControlPlane,
        every_seconds: float,  # between two looks
        versions: Callable[[], Versions],  # called when a schedule waits for a table: not needed before
    ) -> None:
        self.schedules = Seen(runs)
        self.runs, self.elsewhere, self.control = runs, elsewhere, control
        self.every_seconds, self.versions = every_seconds, versions
        self.only = schedule_of(runs.server)  # the schedule that this server was started for, if it was
        self.told: list[dict[str, Any]] | None = None  # to the control plane; None: nothing yet
        self.changed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look for what is due until the server ends."""
        self.task = asyncio.create_task(self.watch())

    async def watch(self) -> None:
        """Look now and then, and when a schedule was changed; what was missed before comes first."""
        while True:
            self.changed.clear()
            try:
                await self.look()
            except Exception:  # a fault of one look must not end the next
                log.exception("could not look for schedules that are due")
            with suppress(TimeoutError):
                async with asyncio.timeout(self.every_seconds):
                    await self.changed.wait()

    async def errand(self) -> None:
        """Start what this server is for, and come back when it is over; look on meanwhile."""
        begun = await self.look()
        while begun:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.every_seconds):
                    for schedule in begun:
                        await self.runs.followed(str(schedule.last_run))
                    begun = []
            begun = [*begun, *await self.look()]

    async def look(self) -> list[Schedule]:
        """Hear what was refused, start what is due, tell what comes next; the schedules that were started."""
        await self.tell()
        if await asyncio.to_thread(self.runs.any_elsewhere):
            await self.elsewhere.ask()
        started = await asyncio.to_thread(self.tick)
        for schedule in started:
            await self.start(schedule)
        await self.tell()
        return started

    def tick(self) -> list[Schedule]:
        """Write the records of what is due; the folder is made only when there is something to keep."""
        if not self.schedules.folder.is_dir():
            return []
        known: list[Versions] = []

        def version_of(table: str) -> int:
            if not known:
                known.append(self.versions())
            return known[0](table)

        return self.schedules.tick(self.prepare, version_of, self.mine)

    def mine(self, schedule: Schedule) -> bool:
        """Whether this server starts a schedule."""
        return not self.only or schedule.name == self.only

    def prepare(self, schedule: Schedule, run_id: str) -> None:
        """Write the record of a schedule's run."""
        self.runs.prepare(Path(schedule.source), schedule.parameters, schedule.profile, run_id)

    async def start(self, schedule: Schedule) -> None:
        """Have a schedule's run carried out: here, or on a server with the profile that it needs."""
        run_id = str(schedule.last_run)
        try:
            if schedule.profile and not self.only:
                await self.elsewhere.send(run_id)
            else:
                await asyncio.to_thread(self.runs.launch, self.runs.record(run_id))
        except (MajlisError, OSError) as error:
            await asyncio.to_thread(self.fail, schedule.name, run_id, str(error))

    def fail(self, name: str, run_id: str, why: str) -> None:
        """Note with a run, and with its schedule if there still is one, why it did not begin."""
        self.runs.fail(run_id, why)
        with suppress(NotFound):
            schedule = self.schedules.read(name)
            schedule.note = f"not started: {why}"
            self.schedules.write(schedule)

    async def tell(self) -> None:
        """Tell the control plane the next times where they differ from what it knows."""
        if not self.control.url:
            return
        coming = await asyncio.to_thread(self.coming)
        if coming == self.told or (
            self.told is None and not self.only and not self.schedules.folder.is_dir()
        ):
            return
        try:
            async with asyncio.timeout(TELL_SECONDS):
                answer = await self.control.ask("PUT", "alarms", "", JSON, json.dumps(coming).encode())
        except (MajlisError, TimeoutError) as error:
            return log.warning("the control plane does not know what is due: %s", error or "it is silent")
        if answer.status != HTTPStatus.OK:
            log.warning("the control plane wakes nobody: %s", answer.body.decode(errors="replace"))
        if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self.told = coming
        if answer.status == HTTPStatus.OK:
            await self.hear([alarm for alarm in json.loads(answer.body) if alarm["refused"]])

    def coming(self) -> list[dict[str, Any]]:
        """The next times; none where servers cannot share a home, as another profile's would have to."""
        if not self.elsewhere.profiles:
            return []
        return [next_time(schedule) for schedule in self.schedules if schedule.next()]

    async def hear(self, refused: Sequence[Mapping[str, str]]) -> None:
        """Take note of times for which no server was started."""
        if refused:
            await self.elsewhere.ask()  # or a run that did not begin is taken for one that is about to
        for alarm in refused:
            try:
                await asyncio.to_thread(self.refused, alarm)
            except (MajlisError, OSError) as error:
                log.warning("%s was not started, and cannot be shown: %s", alarm["name"], error)

    def refused(self, alarm: Mapping[str, str]) -> None:
        """Make a time for which no server was started a run that failed and says why, once."""
        at = clock.parsed(alarm["refused"])
        with self.schedules.alone():
            schedule = self.schedules.read(alarm["name"])
            if schedule.settled >= at:
                return
            schedule.settled, schedule.last_run = at, new_id()
            self.schedules.write(schedule)
            self.prepare(schedule, schedule.last_run)
            self.fail(
                schedule.name, schedule.last_run, f"no server was started at {at:%H:%M} UTC: {alarm['why']}"
            )

    async def end(self) -> None:
        """Stop looking."""
        if self.task:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task


def next_time(schedule: Schedule) -> dict[str, Any]:
    """A schedule's next time, as the control plane is told it."""
    due = schedule.next()
    assert due is not None  # who asks has looked
    told = {"name": schedule.name, "cron": schedule.cron, "profile": schedule.profile}
    return told | {"due": clock.isoformat(due)}


def lake_versions() -> Versions:
    """The latest version of a table of the lake."""
    from majlis.data.lake import Lake  # it imports much, and most servers have no schedule that needs it
    from majlis.settings import load

    lake = Lake(load().lake.uri)
    return lambda table: lake.version(table).version
