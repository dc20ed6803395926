"""What a server is told about being idle: it stops itself, and tells the hub when it was last used."""

from majlis.settings import Workbench

REPORTS = 4  # of its use to the hub, within the time that a server may be idle
SELDOMEST_REPORT_SECONDS = 300
# A server stops itself in time. The hub culls one that does not; it hears of use only with each report.
CULLER_PATIENCE = 1.5


def environment(bench: Workbench) -> dict[str, str]:
    """What every server finds in its environment, as a process and as a pod."""
    told = {
        "MAJLIS_WORKBENCH_IDLE_SECONDS": f"{bench.idle_seconds:g}",
        "MAJLIS_WORKBENCH_IDLE_WARNING_SECONDS": f"{bench.idle_warning_seconds:g}",
    }
    if not bench.idle_seconds:
        return told
    every = min(SELDOMEST_REPORT_SECONDS, max(1, int(bench.idle_seconds / REPORTS)))
    return told | {"JUPYTERHUB_ACTIVITY_INTERVAL": str(every)}


def culler_seconds(bench: Workbench) -> int:
    """Seconds without activity after which the hub stops a server that did not stop itself."""
    return int(bench.idle_seconds * CULLER_PATIENCE)
