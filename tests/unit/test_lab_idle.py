"""What counts as use of a server, and when it is warned and stopped, by a clock that the test moves."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("majlis_lab")

from jupyter_events.logger import EventLogger
from majlis_lab.idle import CONTENTS, EVENT, SCHEMA, Idle

START = datetime(2026, 1, 1, tzinfo=UTC)
IDLE_SECONDS, WARNING_SECONDS = 60, 20


class Server:
    """As much of Jupyter's server as is looked at, with a clock and what was said to pages."""

    def __init__(self) -> None:
        self.kernels: list[dict[str, str]] = []
        self.run = False
        self.now = START
        self.stopped = False
        self.told: list[float] = []
        self.settings: dict[str, Any] = {"started": START, "last_activity_times": {}}
        events = EventLogger()
        events.register_event_schema(SCHEMA)
        events.add_listener(schema_id=EVENT, listener=self.hear)
        app = SimpleNamespace(
            web_app=SimpleNamespace(settings=self.settings),
            kernel_manager=SimpleNamespace(list_kernels=lambda: self.kernels, last_kernel_activity=START),
            event_logger=events,
            stop=lambda: setattr(self, "stopped", True),
        )
        runs: Any = SimpleNamespace(any_alive=lambda: self.run)
        self.idle = Idle(app, runs, IDLE_SECONDS, WARNING_SECONDS, lambda: self.now)

    async def hear(self, logger: Any, schema_id: str, data: dict[str, Any]) -> None:
        self.told.append(data["stops_in_seconds"])

    def after(self, seconds: float) -> None:
        """Look, so many seconds after the start."""

        async def look() -> None:
            await self.idle.look()
            await self.idle.app.event_logger.gather_listeners()

        self.now = START + timedelta(seconds=seconds)
        asyncio.run(look())


def busy(server: Server) -> None:
    server.kernels = [{"execution_state": "idle"}, {"execution_state": "busy"}]


def run(server: Server) -> None:
    server.run = True


def test_nobody_is_warned_too_early_and_the_end_comes_after_the_warning() -> None:
    server = Server()
    server.kernels = [{"execution_state": "idle"}]
    for seconds, told, stopped in ((39, [], False), (41, [19], False), (59, [19], False), (60, [19], True)):
        server.after(seconds)
        assert (server.told, server.stopped) == (told, stopped)


@pytest.mark.parametrize("work", [busy, run])
def test_what_runs_is_never_stopped(work: Callable[[Server], None]) -> None:
    server = Server()
    work(server)
    server.after(1000)
    assert not server.stopped
    server.kernels, server.run = [], False
    server.after(1059)
    assert not server.stopped
    server.after(1060)
    assert server.stopped


def test_asking_is_not_use_and_writing_is() -> None:
    server = Server()
    server.settings["api_last_activity"] = START + timedelta(seconds=59)
    server.after(41)
    assert server.told == [19]
    asyncio.run(server.idle.written(None, CONTENTS, {"action": "get", "path": "a.ipynb"}))
    assert server.idle.left() == 19
    asyncio.run(server.idle.written(None, CONTENTS, {"action": "save", "path": "a.ipynb"}))
    assert server.idle.left() == 60
    server.after(42)
    assert server.told == [19, 0], "the warning is taken back"


def test_a_terminal_is_use() -> None:
    server = Server()
    server.settings["terminal_last_activity"] = START + timedelta(seconds=30)
    server.after(89)
    assert not server.stopped
