"""A real JupyterHub that starts people's servers as pods of the cluster in `tests.support.kube`."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from majlis.settings import load
from tests.support.kube import ApiServer, Store, Thing, write_config
from tests.support.kube_nodes import Node, Nodes
from tests.support.people import Person
from tests.support.workbench import ROOT, free_ports, without_settings

VALUES = ROOT / "hub_config" / "kubernetes" / "values.yaml"
CONFIG = Path(__file__).with_name("kube_hub_config.py")
PASSWORD, SECOND_ENGINEER = "a password of the tests", "second-engineer"
MISSING_IMAGE = "registry.example.org/majlis/gone:1"
START_SECONDS, STOP_SECONDS, POLL_SECONDS = 90.0, 30.0, 0.1


def taint(key: str, value: str) -> tuple[dict[str, str], ...]:
    """One taint that keeps new pods off."""
    return ({"key": key, "value": value, "effect": "NoSchedule"},)


NODES = [  # the cheap ones first: a pod that may run anywhere is put there
    Node("spot-1", {"majlis/pool": "cpu", "majlis/capacity": "spot"}, taint("majlis/capacity", "spot")),
    Node("cpu-1", {"majlis/pool": "cpu"}),
    Node("large-1", {"majlis/pool": "cpu-large"}, taint("majlis/pool", "cpu-large")),
    Node("gpu-1", {"majlis/pool": "gpu"}, taint("nvidia.com/gpu", "present"),
         {"cpu": "16", "memory": "128Gi", "nvidia.com/gpu": "1"}),
    Node("mig-1", {"majlis/pool": "gpu-shared"}, taint("nvidia.com/gpu", "present"),
         {"cpu": "16", "memory": "64Gi", "nvidia.com/mig-1g.10gb": "7"}),
    Node("restricted-1", {"majlis/pool": "restricted", "topology.kubernetes.io/region": "me-central-1"},
         taint("majlis/pool", "restricted")),
]  # fmt: skip


class Cluster:
    """The API server and the nodes, in a thread of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="cluster")
        self.store = Store()
        self.api = ApiServer(self.store)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Have something done in the cluster's thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(STOP_SECONDS)

    def start(self) -> "Cluster":
        """Let the API answer and the nodes work."""
        self.thread.start()
        self.do(self.api.come())
        self.do(self.join())
        return self

    async def join(self) -> None:
        """Let the nodes join."""
        self.nodes = Nodes(self.store, NODES, self.folder, frozenset({MISSING_IMAGE}))

    def stop(self) -> None:
        """End every pod, and the API."""
        try:
            self.do(self.api.leave())
            self.do(self.nodes.close())
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(STOP_SECONDS)
            self.loop.close()

    def leave(self) -> None:
        """Let the API be out of reach."""
        self.do(self.api.leave())

    def come_back(self) -> None:
        """Let it answer again."""
        self.do(self.api.come())

    def things(self, plural: str) -> list[Thing]:
        """What the cluster holds of a kind."""

        async def listed() -> list[Thing]:
            return self.store.every(plural)

        found: list[Thing] = self.do(listed())
        return found

    def pod(self, name: str) -> Thing | None:
        """The pod of a person's server, if there is one."""
        found = [
            each
            for each in self.things("pods")
            if each["metadata"]["annotations"]["hub.jupyter.org/username"] == name
        ]
        return found[0] if found else None

    def events(self, name: str) -> list[str]:
        """What is told about the pod of a person's server."""
        pod = self.pod(name)
        uid = pod["metadata"]["uid"] if pod else ""
        return [each["message"] for each in self.things("events") if each["involvedObject"]["uid"] == uid]


class KubeHub:
    """The hub; `pace` is how much faster its watches give up than they would."""

    def __init__(
        self,
        folder: Path,
        pace: float = 1,
        overrides: Mapping[str, str] = MappingProxyType({}),  # settings, as environment variables name them
        spawner: str = "",  # the class of another spawner, to compare with
    ) -> None:
        self.cluster = Cluster(folder)
        self.log = folder / "hub.log"
        port, hub_port, proxy_port = free_ports(3)
        self.url = f"http://127.0.0.1:{port}"
        self.settings_overrides = {
            "MAJLIS_SETTINGS": str(ROOT / "settings.ini"),
            "MAJLIS_WORKBENCH_HOME": str(folder / "var"),
            "MAJLIS_KUBERNETES_PROXY_URL": self.url,
            **overrides,
        }
        self.environment = without_settings(os.environ) | {
            **self.settings_overrides,
            "PYTHONPATH": str(ROOT),
            "KUBE_HUB_FOLDER": str(folder),
            "KUBE_HUB_PACE": str(pace),
            "KUBE_HUB_SPAWNER": spawner,
            "KUBE_HUB_URL": self.url,
            "KUBE_HUB_API": f"http://127.0.0.1:{hub_port}",
            "KUBE_HUB_PROXY_API": f"http://127.0.0.1:{proxy_port}",
        }
        self.settings = load(ROOT / "settings.ini", self.settings_overrides)
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "KubeHub":
        """Start the cluster and the hub, and wait until the hub answers."""
        self.cluster.start()
        environment = self.environment | {"KUBECONFIG": write_config(self.folder, self.cluster.api.url)}
        command = [sys.executable, "-m", "jupyterhub", "-f", str(CONFIG)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self.process.poll() is None, f"the hub ended:\n{self.said()}"
            assert time.monotonic() < deadline, f"the hub did not start:\n{self.said()}"
            time.sleep(POLL_SECONDS)
        return self

    def stop(self) -> None:
        """Stop the hub, with its proxy, and the cluster."""
        if self.process:
            self.process.terminate()
            self.process.wait(STOP_SECONDS)
        self.cluster.stop()

    def answers(self) -> bool:
        """Can people open the hub?"""
        try:
            return httpx.get(f"{self.url}/hub/health", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def said(self) -> str:
        """The hub's log."""
        return self.log.read_text()

    def person(self, name: str) -> Person:
        """Somebody, logged in."""
        return Person(self.url, self.url, name, PASSWORD)
