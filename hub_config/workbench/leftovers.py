"""The processes of a workbench, found by the mark in their environment, whoever their parent is by now.

A killed supervisor or hub cannot clean up after itself. Every process that it started, and theirs in turn,
carries `MAJLIS_WORKBENCH=<home>`, so whoever comes next can.
"""

import signal
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

import psutil

MARK, COMPONENT = "MAJLIS_WORKBENCH", "MAJLIS_COMPONENT"


def find(home: Path, components: Collection[str] | None = None) -> list[psutil.Process]:
    """Every process of the workbench in `home` but this one, or of some of its `components`."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            environ = process.environ()
            if environ.get(MARK) != str(home) or process.pid == psutil.Process().pid:
                continue
            if components is None or environ.get(COMPONENT) in components:
                found.append(process)
    return found


def end(processes: Iterable[psutil.Process], seconds: float) -> int:
    """Ask `processes` to end, then make them; how many there were."""
    asked = list(processes)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in asked:
            with suppress(psutil.Error):
                process.send_signal(number)
        _, alive = psutil.wait_procs(asked, timeout=seconds)
        if not alive:
            break
    return len(asked)


def sweep(home: Path, seconds: float, components: Collection[str] | None = None) -> int:
    """End what is left of the workbench in `home`, and what that starts meanwhile; how many there were."""
    count = 0
    while left := find(home, components):
        count += end(left, seconds)
    return count
