"""One workbench for each state folder, however often it is started."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from majlis.errors import Conflict

LOCK = "workbench.lock"  # in the state folder


@contextmanager
def held(path: Path, url: str) -> Iterator[None]:
    """Hold the lock at `path` while the workbench runs; `Conflict` when another one does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(*already(path)) from None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "url": url}))
        file.flush()
        yield
        file.truncate(0)


def taken(path: Path) -> bool:
    """Does a workbench hold the lock at `path`?"""
    if not path.exists():
        return False
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def already(path: Path) -> tuple[str, str]:
    """What to say when another workbench holds the lock, and what to do about it."""
    try:
        other = json.loads(path.read_text())
    except ValueError:  # it took the lock this very moment
        return "The workbench is starting already", "Wait for it."
    return (
        f"The workbench is already running, pid {other['pid']}, at {other['url']}",
        f"Open it there, or stop it first: Ctrl-C where it runs, or kill {other['pid']}.",
    )
