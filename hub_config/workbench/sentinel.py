"""Outlives a supervisor that is killed, just long enough to end what it leaves.

The supervisor holds the other end of this process's standard input. When that closes without the word that
all is well, the supervisor is gone and nobody else will clean up.
"""

import subprocess
import sys
from pathlib import Path

from hub_config.workbench.leftovers import end, find
from hub_config.workbench.lock import LOCK, taken

ALL_WELL = b"all well\n"


def post(home: Path, seconds: float) -> "subprocess.Popen[bytes]":
    """Start a sentinel over the workbench in `home`."""
    command = [sys.executable, "-m", "hub_config.workbench.sentinel", str(home), str(seconds)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def relieve(sentinel: "subprocess.Popen[bytes]") -> None:
    """Tell a sentinel that all is well."""
    sentinel.communicate(ALL_WELL)


def main() -> None:
    """Wait; then end what was left."""
    home, seconds = Path(sys.argv[1]), float(sys.argv[2])
    if sys.stdin.buffer.read() == ALL_WELL:
        return
    # A workbench that was started meanwhile has cleaned up itself, and what is found then is its own.
    while (left := find(home)) and not taken(home / LOCK):
        end(left, seconds)


if __name__ == "__main__":
    main()
