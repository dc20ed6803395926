"""Templates and what comes of them: a worker ends with whoever asked for it, a template when nobody asks."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import psutil
import pytest

from majlis.serving.inside import frames
from majlis.serving.nursery import Kind, Nursery, ask
from tests.support import waiting

pytestmark = pytest.mark.timeout(60)

SECONDS = 20.0
PROGRAM = """
import os
import time

from majlis.serving import inside

inside.IDLE_SECONDS = {idle}
order, source, sink = inside.forked("json", "no_such_module")
inside.send(sink, [order, os.getpid(), os.getppid()])
time.sleep(3600)
"""


def kind(idle: float = 60.0) -> Kind:
    """A template whose workers say what they were asked, who they are, and of whom they come."""
    return Kind(sys.executable, ("-c", PROGRAM.format(idle=idle)))


@contextmanager
def nursery(folder: Path) -> Iterator[Nursery]:
    """A nursery that runs."""
    made = Nursery(folder)
    made.start()
    try:
        yield made
    finally:
        made.stop()


class Worker:
    """Our ends of a worker, and what it said of itself."""

    def __init__(self, of: Nursery, what: Kind, order: str = "something") -> None:
        pairs = [socket.socketpair() for _ in range(3)]
        ask(of.asking, what, order, [theirs.fileno() for _, theirs in pairs])
        for _, theirs in pairs:
            theirs.close()
        self.talk, self.printed, self.line = [ours for ours, _ in pairs]
        self.talk.settimeout(SECONDS)
        self.source: BinaryIO = self.talk.makefile("rb")
        self.order, pid, parent = next(frames(self.source))
        self.process, self.template = psutil.Process(pid), psutil.Process(parent)

    def leave(self) -> None:
        """Let go of it."""
        for end in (self.source, self.talk, self.printed, self.line):
            end.close()


def ended(process: psutil.Process) -> bool:
    """Whether a process is no more."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def until_ended(process: psutil.Process) -> None:
    """Wait for the end of a process."""
    waiting.until(lambda: ended(process), SECONDS, f"{process} goes on")


def test_workers_come_of_one_template_and_end_with_who_asked(tmp_path: Path) -> None:
    """Although each of them sleeps, and is no child of ours."""
    with nursery(tmp_path) as made:
        first, second = Worker(made, kind(), "one"), Worker(made, kind(), "two")
        assert (first.order, second.order) == ("one", "two") and first.template == second.template
        first.line.close()
        until_ended(first.process)
        assert not ended(second.process)
        second.leave()
        until_ended(second.process)
        first.leave()


def test_a_template_ends_when_nobody_needs_it(tmp_path: Path) -> None:
    """The next order gets another."""
    with nursery(tmp_path) as made:
        worker = Worker(made, kind(idle=0.1))
        worker.leave()
        until_ended(worker.template)
        again = Worker(made, kind(idle=0.1))
        assert again.template != worker.template
        again.leave()


def test_a_successor_finds_the_template(tmp_path: Path) -> None:
    """Even in a folder whose path is too long for a socket's address; only its owner may enter it."""
    folder = tmp_path / ("long" * 40)
    with nursery(folder) as left:
        worker = Worker(left, kind())
        with nursery(folder) as successor:
            again = Worker(successor, kind())
            assert again.template == worker.template and not successor.processes
            assert folder.stat().st_mode & 0o777 == 0o700
            again.leave()
        until_ended(worker.template)
        worker.leave()


def test_what_cannot_be_started_is_seen_at_once(tmp_path: Path) -> None:
    """The sockets of the order are closed, and the nursery goes on."""
    with nursery(tmp_path) as made:
        with pytest.raises(StopIteration):
            Worker(made, Kind(str(tmp_path / "no-python"), ()))
        worker = Worker(made, kind())
        worker.leave()
