"""A control group (cgroup v2) for each person's server, where this machine hands a part of the tree to us.

A part is ours when the hub runs in a group of its own below it, nobody runs in it directly, it has the
controllers, and we may write there: what systemd's `Delegate=yes` with `DelegateSubgroup=hub` makes, or a
container with a writable tree. Nobody is moved to make it so. Source: docs.kernel.org, cgroup-v2.
"""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from majlis.settings import Profile
from spawner.limits import GIB

CONTROLLERS = frozenset({"cpu", "memory", "pids"})
PERIOD_MICROSECONDS = 100_000  # in which the processor time is counted; the kernel's own default
REMOVE_TRIES, REMOVE_SECONDS = 50, 0.1  # a killed process takes a moment to leave its group


@dataclass(frozen=True)
class Tree:
    """The part of the tree that is ours, if any, and otherwise why not."""

    folder: Path | None
    reason: str = ""


@dataclass(frozen=True)
class Group:
    """The group of one server."""

    path: Path

    def make(self, profile: Profile, processes: int) -> None:
        """A new group with a profile's limits."""
        self.path.mkdir(exist_ok=True)
        self.write("memory.max", f"{int(profile.memory_limit_gib * GIB)}")
        self.write("memory.swap.max", "0", optional=True)  # a kernel without swap accounting has no such file
        self.write("cpu.max", f"{int(profile.cpu_limit * PERIOD_MICROSECONDS)} {PERIOD_MICROSECONDS}")
        self.write("pids.max", f"{processes}")

    def enter(self) -> None:
        """Let this process, and all that it starts, be in the group."""
        self.write("cgroup.procs", f"{os.getpid()}")

    def write(self, name: str, value: str, optional: bool = False) -> None:
        """Write one of the group's files."""
        if not optional or (self.path / name).exists():
            (self.path / name).write_text(value)

    def killed(self) -> int:
        """Processes that were ended because the group's memory was used up."""
        events = self.path / "memory.events"
        lines = events.read_text().splitlines() if events.exists() else []
        return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def memory_gib(self) -> float:
        """What all of its processes may have together."""
        return int((self.path / "memory.max").read_text()) / GIB

    async def remove(self) -> bool:
        """End what still runs in the group, and remove it; False when something stays."""
        for _ in range(REMOVE_TRIES):
            if not self.path.exists():
                return True
            self.write("cgroup.kill", "1", optional=True)
            try:
                self.path.rmdir()
            except OSError:  # somebody has not left yet
                await asyncio.sleep(REMOVE_SECONDS)
        return not self.path.exists()


def tree(process: Path = Path("/proc/self")) -> Tree:
    """Which part of the tree is ours; it is made ready for groups."""
    group = own_group(process)
    if group is None:
        return Tree(None, "no cgroup v2 is mounted here")
    folder = group.parent
    if not (folder / "cgroup.controllers").exists():
        return Tree(None, f"the hub is in {group}, above which there is no group")
    if missing := CONTROLLERS - set((folder / "cgroup.controllers").read_text().split()):
        return Tree(None, f"{folder} has no controller {', '.join(sorted(missing))}")
    if (folder / "cgroup.procs").read_text().strip():
        return Tree(None, f"processes run in {folder} itself; the hub needs a group of its own below it")
    if not all(os.access(place, os.W_OK) for place in (folder, folder / "cgroup.procs")):
        return Tree(None, f"this account may not write to {folder}")
    try:
        (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(CONTROLLERS)))
    except OSError as error:
        return Tree(None, f"the controllers cannot be switched on in {folder}: {error.strerror}")
    return Tree(folder)


def own_group(process: Path) -> Path | None:
    """The folder of the cgroup v2 that a process is in; None where no such tree is seen."""
    own = [line[3:] for line in (process / "cgroup").read_text().splitlines() if line.startswith("0::")]
    for line in (process / "mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        root, place = before.split()[3:5]
        if after.split()[0] == "cgroup2" and own and Path(own[0]).is_relative_to(root):
            return Path(place) / Path(own[0]).relative_to(root)
    return None
