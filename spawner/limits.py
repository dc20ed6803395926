"""What a profile's limits become on one machine, and which of them nothing enforces here."""

import os
import resource
from collections.abc import Callable

from majlis.settings import Profile

GIB = 2**30


def apply(profile: Profile, enter: Callable[[], None] | None = None) -> Callable[[], None]:
    """A function for the new process to call before it becomes the server.

    With `enter` it joins a control group, which holds memory and processor for all of a server's processes.
    """
    memory, cores = int(profile.memory_limit_gib * GIB), usable_cores(profile)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold secrets
        if enter is not None:
            return enter()
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (memory if most < 0 else min(memory, most), most))
        os.sched_setaffinity(0, cores)

    return limit


def usable_cores(profile: Profile) -> set[int]:
    """As many of this machine's cores as the profile may use; at least one."""
    cores = sorted(os.sched_getaffinity(0))
    return set(cores[: max(1, round(profile.cpu_limit))])


def environment(profile: Profile) -> dict[str, str]:
    """Tell numerical libraries how many threads make sense."""
    threads = str(len(usable_cores(profile)))
    return dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), threads)


def unenforced(profile: Profile, grouped: bool = False) -> list[str]:
    """What the profile promises and this machine does not see to; `grouped`: there are control groups."""
    found = [] if grouped else ["the memory limit holds for each process, not for all of a server's together"]
    if profile.cpu_limit > len(os.sched_getaffinity(0)):
        found.append(f"this machine has {len(os.sched_getaffinity(0))} cores, not {profile.cpu_limit:g}")
    if profile.cpu_guarantee or profile.memory_guarantee_gib:
        found.append("guarantees are not reserved")
    if profile.gpu:
        found.append(f"no {profile.gpu_resource} is set aside; all servers see what the machine has")
    if profile.image or profile.images:
        found.append("no image is used; all servers run what the workbench itself runs")
    if profile.kind == "restricted":
        found.append("the way out to the network is not closed")
    return found
