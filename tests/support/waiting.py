"""Waiting for what another process will do."""

import time
from collections.abc import Callable

PATIENCE_SECONDS = 90.0
POLL_SECONDS = 0.1


def eventually(holds: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something holds; fail, saying what, when it does not."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"after {seconds:g} s: {what}"
        time.sleep(POLL_SECONDS)
