"""Whether users' servers can have accounts of their own on this machine, and which.

A hub that runs as root gives every server a user id of its own: no entry in /etc/passwd is needed, a home of
mode 0700 and one common group for the lake are. Anywhere else all servers share the hub's account, and the
workbench's state says so.
"""

import os
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

GROUP = 20_000  # the group id that all users' servers share: it may write to the lake and the features
FIRST_UID = 20_000  # a person's user id is this plus their number in the hub
TRACKING_UID = 19_999  # MLflow's server


@dataclass(frozen=True)
class Isolation:
    """Do servers run under accounts of their own, and if not, why?"""

    on: bool
    reason: str

    def __bool__(self) -> bool:
        return self.on


def isolation(places: Iterable[Path]) -> Isolation:
    """Isolation is on when this process is root and other accounts can reach all `places`."""
    if os.getuid() != 0:
        return Isolation(False, "the workbench does not run as root, so all users share one account")
    for place in (Path(sys.executable), *places):
        if closed := closed_to_others(place.resolve()):
            return Isolation(
                False, f"other accounts cannot enter {closed}, so all users share root's account"
            )
    return Isolation(True, "every user's server runs under an account of its own")


def closed_to_others(place: Path) -> Path | None:
    """The first folder on the way to `place` (or itself) that other accounts may not enter, if any."""
    for step in (*reversed(place.parents), place):
        if not step.stat().st_mode & stat.S_IXOTH and (step.is_dir() or step == place):
            return step
    return None


def user_id(number: int) -> int:
    """The user id for the person with this number in the hub's database."""
    return FIRST_UID + number
