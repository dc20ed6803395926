"""Runs on another profile: each gets a server of its own, which carries it out and stops.

All servers of a person have the same home, so the run's record, written here, is all that has to be handed
over. The server's name says which run it is for. It needs no word from the one that started it, which may
stop, and none from the hub, which may restart: it looks up its run, carries it out, and takes itself away,
whatever the end was. A server that the control plane started for a schedule does the same with what is due.
"""

import asyncio
import json
import logging
import shutil
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tornado import web

from majlis.errors import Invalid, MajlisError, Unavailable
from majlis_lab.hub import Hub, Standing
from majlis_lab.problems import Handler
from majlis_lab.runs import Runs, run_of, schedule_of

log = logging.getLogger(__name__)


class Elsewhere:
    """What this server knows of, and does about, runs on servers of their own."""

    def __init__(
        self,
        runs: Runs,
        hub: Hub,
        profiles: Sequence[Mapping[str, str]],  # open to the person, as the hub told at this server's start
        every_seconds: float,  # between two looks at the hub
    ) -> None:
        self.runs, self.hub, self.profiles, self.every_seconds = runs, hub, profiles, every_seconds
        self.looked = 0.0

    def __repr__(self) -> str:
        return f"Elsewhere({[profile['name'] for profile in self.profiles]!r})"

    def title(self, profile: str) -> str:
        """What people call a profile."""
        return next((one["title"] for one in self.profiles if one["name"] == profile), profile)

    async def start(self, source: Path, parameters: Mapping[str, Any], profile: str) -> str:
        """Start a run on a server with that profile; its id. A refusal of the hub's leaves nothing behind."""
        if not self.profiles:
            raise Invalid("no other profile is offered here", remedy="Run it on this server.")
        run_id = await asyncio.to_thread(self.runs.prepare, source, parameters, profile)
        try:
            await self.send(run_id)
        except MajlisError:
            await asyncio.to_thread(self.forget, run_id)
            raise
        return run_id

    async def send(self, run_id: str) -> None:
        """Have the run carried out by a server with the profile that its note names."""
        run = self.runs.record(run_id)
        profile = self.runs.noted(run_id).profile
        title = f"{run.title or run.pipeline} on {self.title(profile)}"
        await self.ask()  # names of servers that are gone would count
        self.runs.send_away(run_id, profile)
        try:
            await self.hub.start(self.runs.server_of(run_id), profile, title)
        finally:
            await self.ask()  # whether it is there is not to be guessed, least of all where it was refused

    async def cancel(self, run_id: str) -> None:
        """Stop the run's server, which interrupts the run first."""
        await self.hub.stop(self.runs.server_of(run_id))
        await self.ask()

    def forget(self, run_id: str) -> None:
        """Remove a run that never began."""
        shutil.rmtree(self.runs.record(run_id).folder)
        self.runs.note(run_id).unlink(missing_ok=True)

    async def look(self) -> None:
        """Ask the hub now and then while runs are on other servers."""
        now = asyncio.get_running_loop().time()
        if now - self.looked >= self.every_seconds and await asyncio.to_thread(self.runs.any_elsewhere):
            self.looked = now
            await self.ask()

    async def ask(self) -> None:
        """Learn which servers there are; remove the names of those that were there for a run and are gone."""
        with suppress(Unavailable):  # what was known last holds until the hub answers again
            servers = await self.hub.servers()
            self.runs.servers = {name for name, standing in servers.items() if standing is not Standing.GONE}
            for name in servers.keys() - self.runs.servers:
                if run_of(name) or schedule_of(name):
                    await self.hub.stop(name)


class Errand:
    """What a server does that was started for one thing."""

    def __init__(self, name: str, work: Callable[[], Awaitable[None]], hub: Hub, app: Any) -> None:
        self.name, self.work, self.hub, self.app = name, work, hub, app
        self.task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Set out; from now on an interrupt, with which a hub stops a process, ends the work as well."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self.app.stop)
        self.task = asyncio.create_task(self.carry_out())

    async def end(self) -> None:
        """Let go of the work, so that its runs can be cancelled."""
        if self.task:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task

    async def carry_out(self) -> None:
        """Do the work, then take this server away, whatever happened."""
        try:
            await self.work()
        except Exception:  # whatever it was, the server is not to stay for it
            log.exception("what the server %s is for could not be done", self.name)
        try:
            await self.hub.started(self.name)
            await self.hub.stop(self.name)
        except MajlisError as error:  # it sees that this server is gone when it is back
            log.warning("%s; this server stops by itself", error)
            self.app.stop()


async def carry_out(runs: Runs, run_id: str) -> None:
    """Carry a run out unless it is done."""
    run = await asyncio.to_thread(runs.record, run_id)
    if not run.state.finished:
        await asyncio.to_thread(runs.launch, run)
        await runs.followed(run_id)


class ProfilesHandler(Handler):
    """`profiles`: where a run may be carried out, besides here."""

    def initialize(self, elsewhere: Elsewhere) -> None:
        self.elsewhere = elsewhere

    @web.authenticated
    async def get(self) -> None:
        self.answer(list(self.elsewhere.profiles))


def told(text: str) -> list[dict[str, str]]:
    """The profiles that the hub named at the server's start; none outside a hub."""
    found: list[dict[str, str]] = json.loads(text or "[]")
    return found
