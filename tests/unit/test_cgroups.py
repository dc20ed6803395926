"""Control groups: what is written into a folder like the kernel's, and the kernel's own."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from majlis.settings import Profile
from spawner import cgroups, limits
from spawner.cgroups import CONTROLLERS, Group, own_group, tree
from spawner.local import LocalSpawner
from tests.support.waiting import eventually

PROFILE = Profile(title="A", groups=("scientist",), cpu_limit=1.5, memory_limit_gib=2, cpu_guarantee=0,
                  memory_guarantee_gib=0)  # fmt: skip
MOUNT = "41 31 0:38 {root} {place} rw,relatime - cgroup2 cgroup2 rw"


class Machine:
    """A process in `unit/hub` of a tree, of which `unit` is handed to us."""

    def __init__(self, folder: Path) -> None:
        self.process, self.mount = folder / "self", folder / "cgroup"
        self.unit = self.mount / "unit"
        (self.unit / "hub").mkdir(parents=True)
        self.process.mkdir()
        self.seen("0::/unit/hub")
        (self.unit / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
        (self.unit / "cgroup.procs").write_text("")
        (self.unit / "cgroup.subtree_control").write_text("")

    def seen(self, *groups: str, root: str = "/") -> None:
        """What the process is told about its groups and the mount."""
        (self.process / "cgroup").write_text("\n".join(["4:memory:/somewhere", *groups]))
        mounts = ["31 1 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw", MOUNT.format(root=root, place=self.mount)]
        (self.process / "mountinfo").write_text("\n".join(mounts))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine that hands a part of its tree to us."""
    return Machine(tmp_path)


def test_a_part_that_is_handed_to_us_is_made_ready(machine: Machine) -> None:
    found = tree(machine.process)
    assert (found.folder, found.reason) == (machine.unit, "")
    switched = (machine.unit / "cgroup.subtree_control").read_text().split()
    assert {name.removeprefix("+") for name in switched} == CONTROLLERS


def test_a_container_sees_its_part_as_the_root(machine: Machine) -> None:
    machine.seen("0::/docker/1/unit/hub", root="/docker/1")
    assert tree(machine.process).folder == machine.unit
    machine.seen("0::/elsewhere", root="/docker/1")
    assert own_group(machine.process) is None


def test_without_a_part_of_ours_it_is_said_why(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine.unit / "cgroup.procs").write_text("17\n")
    assert "processes run in" in tree(machine.process).reason
    (machine.unit / "cgroup.procs").write_text("")
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    assert "may not write" in tree(machine.process).reason
    (machine.unit / "cgroup.controllers").write_text("cpu io\n")
    assert "no controller memory, pids" in tree(machine.process).reason
    machine.seen("0::/")
    assert "above which there is no group" in tree(machine.process).reason
    machine.seen()
    assert tree(machine.process).reason == "no cgroup v2 is mounted here"
    assert tree(machine.process).folder is None


def test_a_profile_becomes_limits(tmp_path: Path) -> None:
    group = Group(tmp_path / "server-1-")
    group.path.mkdir()
    (group.path / "memory.swap.max").write_text("max")
    group.make(PROFILE, 4096)
    written = {file.name: file.read_text() for file in group.path.iterdir()}
    assert written == {
        "memory.max": str(2 * 2**30),
        "memory.swap.max": "0",
        "cpu.max": "150000 100000",
        "pids.max": "4096",
    }
    assert group.memory_gib() == 2


def test_a_process_enters_before_it_becomes_the_server_and_keeps_its_cores(tmp_path: Path) -> None:
    group = Group(tmp_path / "server-1-")
    group.make(PROFILE, 10)
    code = "import os, resource; print(os.getpid(), resource.getrlimit(resource.RLIMIT_DATA)[0])"
    limit = limits.apply(PROFILE, group.enter)
    done = subprocess.run([sys.executable, "-c", code], preexec_fn=limit, capture_output=True, text=True)
    pid, data = done.stdout.split()
    assert (group.path / "cgroup.procs").read_text() == pid
    assert int(data) != 2 * 2**30, "the group holds the memory, not each process"


def test_memory_that_was_used_up_is_counted(tmp_path: Path) -> None:
    group = Group(tmp_path)
    assert group.killed() == 0
    (tmp_path / "memory.events").write_text("low 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert group.killed() == 2


def spawner_for(name: str = "", **traits: Any) -> LocalSpawner:
    """A spawner of ana's server of that name."""
    spawner = LocalSpawner(_mock=True, **traits)
    spawner.user, spawner.orm_spawner = (
        SimpleNamespace(id=1, name="ana"),
        SimpleNamespace(name=name, server=None),
    )
    return spawner


def test_a_person_reads_that_their_memory_was_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "REMOVE_TRIES", 1)  # only the kernel removes a group with its files
    spawner = spawner_for(cgroup=tmp_path, processes=10)
    assert spawner.group is not None
    spawner.group.make(PROFILE, spawner.processes)
    asyncio.run(spawner.leave(spawner.group))
    assert spawner.ran_out == "", "it ended for another reason"
    (spawner.group.path / "memory.events").write_text("oom_kill 1\n")
    asyncio.run(spawner.poll())  # it does not run
    assert "all of its 2 GiB were used up" in spawner.ran_out


def test_a_servers_group_has_a_name_that_stays_below_ours(tmp_path: Path) -> None:
    spawner = spawner_for("../../x", cgroup=tmp_path)
    assert spawner.group is not None and spawner.group.path.parent == tmp_path
    assert spawner_for().group is None


def test_with_a_group_the_memory_is_held_for_all_processes_together() -> None:
    assert any("for each process" in fact for fact in limits.unenforced(PROFILE))
    assert not any("for each process" in fact for fact in limits.unenforced(PROFILE, grouped=True))


def test_the_kernels_own_group_is_entered_and_removed_with_all_that_runs_in_it() -> None:
    here = own_group(Path("/proc/self"))
    if here is None or not os.access(here / "cgroup.procs", os.W_OK):
        pytest.skip("no cgroup v2 that we may write to")
    group = Group(here / f"majlis-test-{os.getpid()}")
    group.path.mkdir()
    try:
        code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
        server = subprocess.Popen([sys.executable, "-c", code], preexec_fn=group.enter, stdin=subprocess.PIPE)
        inside = group.path / "cgroup.procs"
        eventually(lambda: len(inside.read_text().split()) == 2, "the server's child is not in its group")
        assert asyncio.run(group.remove())
        assert server.wait(10) != 0
        assert not group.path.exists()
    finally:
        if group.path.exists():
            asyncio.run(group.remove())
