"""What changed: one watcher for every open page, and a stream of events (SSE) to each of them.

An event only names what changed; the page asks for it again through the API. So a page that was away (asleep,
offline) needs no history: on connecting it hears the present digests, and asks for what differs.
"""

import asyncio
import hashlib
import json
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from tornado import web
from tornado.iostream import StreamClosedError

from majlis.errors import MajlisError, Unavailable
from majlis_lab.control import REMEDY, Answer, ControlPlane
from majlis_lab.elsewhere import Elsewhere
from majlis_lab.problems import Handler
from majlis_lab.runs import Runs

DECIDED = ("models", "reviews")  # topics that change only together with the audit trail
NEXT = re.compile(r'<\?([^>]*)>; rel="next"')  # the query of a listing's next page

log = logging.getLogger(__name__)


class Changes:
    """Looks at everything a page shows while any page is open, and keeps a digest of each topic."""

    def __init__(
        self,
        runs: Runs,
        elsewhere: Elsewhere,
        control: ControlPlane,
        every_seconds: float,
        patience_seconds: float = 10.0,  # until a control plane that is silent is said to be
    ) -> None:
        self.runs = runs
        self.elsewhere = elsewhere
        self.control = control
        self.every_seconds = every_seconds
        self.patience_seconds = patience_seconds
        self.digests: dict[str, str] = {}
        self.seen: int | None = None  # the last record of the audit trail
        self.problem: dict[str, Any] | None = None
        self.listeners: set[asyncio.Event] = set()
        self.task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever a digest changes; nothing is watched while nobody listens."""
        woken = asyncio.Event()
        self.listeners.add(woken)
        if self.task is None or self.task.done():
            self.task = asyncio.create_task(self.watch())
        try:
            yield woken
        finally:
            self.listeners.discard(woken)
            if not self.listeners:
                self.task.cancel()

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            before = (dict(self.digests), self.problem)
            try:
                await self.look()
            except Exception:  # a fault here must not end the stream of every page
                log.exception("could not look for changes")
            if (self.digests, self.problem) != before:
                for woken in self.listeners:
                    woken.set()
            await asyncio.sleep(self.every_seconds)

    async def look(self) -> None:
        """Bring every digest up to date."""
        await self.elsewhere.look()
        self.digests["runs"] = digest((await asyncio.to_thread(self.runs.mark)).encode())
        try:
            await self.look_at_trail()
            self.digests["deployments"] = digest(await self.whole("deployments"))
            self.problem = None
        except MajlisError as error:
            self.problem = {"title": error.title, "detail": error.message, "remedy": error.remedy}

    async def look_at_trail(self) -> None:
        """Every decision stands in the audit trail, so its last record tells whether anything was decided."""
        if self.seen is None:
            self.seen = await self.near_the_end()
        while records := await self.trail(self.seen):
            self.seen = int(records[-1]["seq"])
        for topic in DECIDED:
            self.digests[topic] = str(self.seen)

    async def near_the_end(self) -> int:
        """A record near the trail's end, in a few questions however long the trail is."""
        here, step = 0, 1
        while records := await self.trail(here + step, 1):
            here, step = int(records[0]["seq"]), 2 * step
        while step := step // 2:
            if records := await self.trail(here + step, 1):
                here = int(records[0]["seq"])
        return here

    async def trail(self, after: int, limit: int | None = None) -> list[dict[str, Any]]:
        """Records of the audit trail, the oldest first; as many as a page has when no `limit` is given."""
        answer = await self.ask("audit", f"after={after}" + (f"&limit={limit}" if limit else ""))
        found: list[dict[str, Any]] = json.loads(answer.body)
        return found

    async def whole(self, path: str) -> bytes:
        """Every page of a listing, one after the other."""
        pages, query = [], ""
        while True:
            answer = await self.ask(path, query)
            pages.append(answer.body)
            if (found := NEXT.search(answer.headers.get("link", ""))) is None:
                return b"".join(pages)
            query = found[1]

    async def ask(self, path: str, query: str = "") -> Answer:
        """What the control plane answers; Unavailable where it is at a loss."""
        try:
            async with asyncio.timeout(self.patience_seconds):
                answer = await self.control.ask("GET", path, query)
        except TimeoutError as error:
            raise Unavailable("the control plane takes too long to answer", remedy=REMEDY) from error
        if answer.status != HTTPStatus.OK:
            raise Unavailable(f"the control plane answered {answer.status} for {path}", remedy=REMEDY)
        return answer


def digest(content: bytes) -> str:
    """A short name for `content`."""
    return hashlib.sha256(content).hexdigest()[:16]


class EventsHandler(Handler):
    """`events`: the digests now, then again whenever one changes."""

    _track_activity = False  # an open page is not a person at work: it must not keep an idle server alive

    def initialize(self, changes: Changes, heartbeat_seconds: float) -> None:
        self.changes = changes
        self.heartbeat_seconds = heartbeat_seconds
        self.closed = False

    def on_connection_close(self) -> None:
        self.closed = True
        super().on_connection_close()

    @web.authenticated
    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Accel-Buffering", "no")
        async with self.changes.listening() as woken:
            while not self.closed:
                try:
                    await self.send(self.changes.digests, self.changes.problem)
                    await asyncio.wait_for(woken.wait(), self.heartbeat_seconds)
                except TimeoutError:
                    pass  # the digests again: a page that lost its connection notices within a heartbeat
                except StreamClosedError:
                    return
                woken.clear()

    async def send(self, digests: Mapping[str, str], problem: Mapping[str, Any] | None) -> None:
        """One event."""
        self.write(f"event: digests\ndata: {json.dumps({'digests': digests, 'problem': problem})}\n\n")
        await self.flush()
