"""An idle server is stopped: its person is warned before, and never while a cell or a run is going on.

The hub's culler sees what passes through the proxy, and an open page always sends something, also when nobody
looks at it. From inside, the server knows better: what its kernels and terminals do, which files are written,
and what pages say of the person in front of them. That something was merely asked for does not count.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tornado import web
from tornado.ioloop import PeriodicCallback

from majlis_lab.problems import Handler
from majlis_lab.runs import Runs

EVENT = "urn:majlis:events:idle"  # what the page listens for, on Jupyter's own event bus
SCHEMA = {
    "$id": EVENT,
    "version": "1",
    "title": "The server will be stopped",
    "description": "Nobody uses the server and nothing runs in it.",
    "type": "object",
    "required": ["stops_in_seconds"],
    "properties": {"stops_in_seconds": {"type": "number", "description": "0 once somebody came back."}},
}
CONTENTS = "https://events.jupyter.org/jupyter_server/contents_service/v1"  # Jupyter's own: files
WRITES = ("save", "create", "rename", "copy", "delete")
WORKING = ("busy", "starting", "restarting")  # states of a kernel in which something goes on
LOOKS = 20  # within the time that a server may be idle
LONGEST_PAUSE_SECONDS = 30.0

log = logging.getLogger(__name__)


class Idle:
    """Looks after how long the server has been idle."""

    def __init__(
        self,
        app: Any,  # Jupyter's server
        runs: Runs,
        seconds: float,  # the server may be idle; 0 is for ever
        warning_seconds: float,  # before the end, its person is warned
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.app, self.runs, self.clock = app, runs, clock
        self.seconds, self.warning_seconds = seconds, warning_seconds
        self.warned = False

    def start(self) -> None:
        """Look from now on, if there is an end to look for."""
        self.app.event_logger.register_event_schema(SCHEMA)
        self.app.event_logger.add_listener(schema_id=CONTENTS, listener=self.written)
        if self.seconds:
            pause = min(self.seconds / LOOKS, LONGEST_PAUSE_SECONDS)
            PeriodicCallback(self.look, pause * 1000).start()

    async def look(self) -> None:
        """Note work as activity; warn, or stop the server, when it is time to."""
        if await asyncio.to_thread(self.works):
            self.use()
        left = self.left()
        if left <= 0:
            log.warning("nobody used this server for %g s and nothing runs in it: it stops", self.seconds)
            self.app.stop()
        elif left <= self.warning_seconds and not self.warned:
            self.warned = True
            self.tell(left)
        elif left > self.warning_seconds and self.warned:
            self.warned = False
            self.tell(0)

    def works(self) -> bool:
        """Is a cell running, or a run of the person's?"""
        kernels = self.app.kernel_manager.list_kernels()
        return any(kernel["execution_state"] in WORKING for kernel in kernels) or self.runs.any_alive()

    async def written(self, logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        """A file was read or written; who writes is at work."""
        if data["action"] in WRITES:
            self.use()

    def use(self) -> None:
        """Count as used now; the hub hears of it too, so that its own culler waits as well."""
        self.app.web_app.settings["last_activity_times"][EVENT] = self.clock()

    def left(self) -> float:
        """Seconds until the server is stopped."""
        return self.seconds - (self.clock() - self.last_used()).total_seconds()

    def last_used(self) -> datetime:
        """When something was last done here, by a person or for one."""
        settings = self.app.web_app.settings
        known = [settings["started"], self.app.kernel_manager.last_kernel_activity]
        known += [settings[name] for name in ("terminal_last_activity",) if name in settings]
        found: datetime = max(*known, *settings["last_activity_times"].values())
        return found

    def tell(self, seconds: float) -> None:
        """Say it to every open page."""
        self.app.event_logger.emit(schema_id=EVENT, data={"stops_in_seconds": round(seconds)})


class IdleHandler(Handler):
    """`idle`: somebody is here after all."""

    def initialize(self, idle: Idle) -> None:
        self.idle = idle

    @web.authenticated
    async def post(self) -> None:
        self.idle.use()
        await self.idle.look()
        self.answer({"stops_in_seconds": round(self.idle.left())})
