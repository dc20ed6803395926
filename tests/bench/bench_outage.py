"""What an outage of the Kubernetes API does to a hub: KubeSpawner as it is, beside ours.

Run as `python -m tests.bench.bench_outage [SECONDS]` (75 if not said): the API is away for so long while one
server runs; then a second person starts one. The watches pause as in production; the cluster is the tests'.
"""

import sys
import time

from rich.console import Console
from rich.table import Table

from tests.conftest import open_folder
from tests.support.kube_hub import KubeHub
from tests.support.people import Person

SPAWNERS = {"KubeSpawner": "kubespawner.KubeSpawner", "ours": ""}
START_TIMEOUT = {"MAJLIS_WORKBENCH_START_TIMEOUT_SECONDS": "30"}
POLL_SECONDS = 0.2


def first_start(person: Person) -> tuple[float, bool]:
    """How long a start takes and whether it succeeds."""
    began = time.monotonic()
    person.hub("POST", f"/users/{person.name}/server", json={"profile": "cpu-small"})
    while True:
        state = person.hub("GET", f"/users/{person.name}").json()
        if state["server"] or not state["pending"]:
            return time.monotonic() - began, bool(state["server"])
        time.sleep(POLL_SECONDS)


def measure(spawner: str, seconds: float) -> list[str]:
    """One row: did the server survive, did the first start afterwards succeed, how long did it take."""
    with open_folder() as folder:
        hub = KubeHub(folder, overrides=START_TIMEOUT, spawner=spawner)
        try:
            hub.start()
            scientist, owner = hub.person("scientist"), hub.person("owner")
            scientist.start_server(profile="cpu-small")
            hub.cluster.leave()
            time.sleep(seconds)
            hub.cluster.come_back()
            took, succeeded = first_start(owner)
            kept = bool(scientist.hub("GET", "/users/scientist").json()["server"])
        finally:
            hub.stop()
    return ["yes" if kept else "no", "yes" if succeeded else "no", f"{took:.1f} s"]


def main() -> None:
    """Measure both and print a table."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 75.0
    table = Table(title=f"The API away for {seconds:g} s")
    for column in ("spawner", "the running server is kept", "the first start afterwards succeeds", "it took"):
        table.add_column(column)
    for name, spawner in SPAWNERS.items():
        table.add_row(name, *measure(spawner, seconds))
    Console().print(table)


if __name__ == "__main__":
    main()
