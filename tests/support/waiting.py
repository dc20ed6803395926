"""Waiting for what another process or thread will do."""

import time
from collections.abc import Callable
from typing import Any

PATIENCE_SECONDS = 90.0
POLL_SECONDS = 0.1
SOON_SECONDS = 0.02  # between two looks that cost nothing


def eventually(holds: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something holds; fail, saying what, when it does not."""
    until(holds, seconds, what, POLL_SECONDS)


def until(
    condition: Callable[[], Any],
    seconds: float,
    what: str = "it did not happen",
    poll_seconds: float = SOON_SECONDS,
) -> Any:
    """The first true value of `condition`; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"after {seconds:g} s: {what}"
        time.sleep(poll_seconds)
    return found
