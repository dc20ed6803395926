"""A real JupyterHub that starts people's servers as pods of the cluster in `tests.support.kube`."""

import asyncio
import base64
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Mapping
from copy import deepcopy
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from hub_config import roles
from majlis.registry import release
from majlis.settings import load
from tests.support.kube import NAMESPACE, ApiServer, Store, Thing, write_config
from tests.support.kube_nodes import ADDRESS, Node, Nodes, address_of
from tests.support.kustomize import resolved
from tests.support.people import Person
from tests.support.workbench import ROOT, free_ports, without_settings

VALUES = ROOT / "hub_config" / "kubernetes" / "values.yaml"
CONFIG = Path(__file__).with_name("kube_hub_config.py")
PASSWORD, SECOND_ENGINEER, SPENDER = "a password of the tests", "second-engineer", "spender"
SERVING = "majlis-serving"  # the gateway's namespace
# Where the pods of our Deployments are: the first one's address, the next ones' follow.
PLACES = {"majlis-control": 250, "mlflow": 251, "majlis-gateway": 240}
CONTROL_ADDRESS, TRACKING_ADDRESS, GATEWAY_ADDRESS = (address_of(number) for number in PLACES.values())
SERVICES = {  # the Services that the chart's values and our manifests name, and where they lead here
    "majlis-control:8082": f"{CONTROL_ADDRESS}:8082",
    "mlflow:8083": f"{TRACKING_ADDRESS}:8083",
    "majlis-gateway.majlis-serving": GATEWAY_ADDRESS,
    "majlis-gateway-peers.majlis-serving": ",".join(
        address_of(PLACES["majlis-gateway"] + n) for n in range(4)
    ),
}
MISSING_IMAGE = "registry.example.org/majlis/gone:1"
START_SECONDS, STOP_SECONDS, POLL_SECONDS = 90.0, 30.0, 0.1


MANIFESTS: dict[
    str, dict[str, Thing]
] = {}  # by kind and name; ConfigMaps by namespace, they are all called alike
for each in resolved(VALUES.parent):
    about = each["metadata"]
    MANIFESTS.setdefault(each["kind"], {})[
        about["namespace"] if each["kind"] == "ConfigMap" else about["name"]
    ] = each


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

    def __init__(self, folder: Path, names: Mapping[str, str]) -> None:
        self.folder, self.names = folder, names
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="cluster")
        self.store, self.serving = Store(), Store(namespace=SERVING)
        self.stores = {store.namespace: store for store in (self.store, self.serving)}
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
        missing, shares = frozenset({MISSING_IMAGE}), {"majlis": self.folder / "share"}
        self.nodes = Nodes(self.store, NODES, self.folder, missing, self.names, shares)
        self.servers = Nodes(self.serving, NODES, self.folder, missing, self.names, shares)

    def create(self, plural: str, thing: Thing, namespace: str = NAMESPACE) -> None:
        """Keep something in the cluster, as `kubectl apply` does."""

        async def created() -> None:
            self.stores[namespace].create(plural, thing)

        self.do(created())

    def delete(self, plural: str, name: str, namespace: str = NAMESPACE) -> None:
        """Let something go, as `kubectl delete` does."""

        async def deleted() -> None:
            self.stores[namespace].delete(plural, name)

        self.do(deleted())

    def run(self, deployment: Thing, number: int = 0) -> None:
        """One pod of a Deployment."""
        name, namespace = deployment["metadata"]["name"], deployment["metadata"]["namespace"]
        template = deepcopy(deployment["spec"]["template"])
        address = address_of(PLACES[name] + number)
        template["metadata"] |= {"name": f"{name}-{number}", "annotations": {ADDRESS: address}}
        self.create("pods", template, namespace)

    def wait(self, name: str, namespace: str = NAMESPACE) -> None:
        """Wait until a pod is ready; fail with its log where it ended instead."""
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready(name, namespace):
            (pod,) = [each for each in self.things("pods", namespace) if each["metadata"]["name"] == name]
            log = self.folder / f"{name}.log"
            assert pod["status"]["phase"] in ("Pending", "Running"), log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(POLL_SECONDS)

    def exists(self, name: str, namespace: str = NAMESPACE) -> bool:
        """Is there such a pod?"""
        return any(each["metadata"]["name"] == name for each in self.things("pods", namespace))

    def endpoints(self, namespace: str) -> list[str]:
        """Addresses of the pods that a Service leads to: the ready ones that do not go."""
        return [
            pod["status"]["podIP"]
            for pod in self.things("pods", namespace)
            if not pod["metadata"].get("deletionTimestamp")
            and any(
                each["type"] == "Ready" and each["status"] == "True" for each in pod["status"]["conditions"]
            )
        ]

    def is_ready(self, name: str, namespace: str = NAMESPACE) -> bool:
        """Is a pod ready?"""
        return any(
            each["type"] == "Ready" and each["status"] == "True"
            for pod in self.things("pods", namespace)
            if pod["metadata"]["name"] == name
            for each in pod["status"].get("conditions", [])
        )

    def stop(self) -> None:
        """End every pod, and the API."""
        try:
            self.do(self.api.leave())
            self.do(self.nodes.close())
            self.do(self.servers.close())
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

    def things(self, plural: str, namespace: str = NAMESPACE) -> list[Thing]:
        """What a namespace holds of a kind."""

        async def listed() -> list[Thing]:
            return self.stores[namespace].every(plural)

        found: list[Thing] = self.do(listed())
        return found

    def pod(self, name: str) -> Thing | None:
        """The pod of a person's server, if there is one."""
        found = [
            each
            for each in self.things("pods")
            if each["metadata"].get("annotations", {}).get("hub.jupyter.org/username") == name
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
        control: bool = False,  # with a control plane, as its manifest says
        databases: Mapping[str, str] = MappingProxyType(
            {}
        ),  # with MLflow and a gateway too: the Secret of theirs
    ) -> None:
        self.databases = databases
        self.control = control or bool(databases)
        self.log = folder / "hub.log"
        port, hub_port, proxy_port = free_ports(3)
        self.url, self.decisions_url = f"http://127.0.0.1:{port}", f"http://{CONTROL_ADDRESS}:8082"
        names = {"hub:8081": f"127.0.0.1:{hub_port}", "proxy-public": f"127.0.0.1:{port}"} | SERVICES
        self.cluster = Cluster(folder, names)
        services = (roles.CONTROL, roles.DECISIONS, *([roles.TRACKING] if databases else []))
        self.tokens = {name: secrets.token_hex(32) for name in services}
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
            "KUBE_HUB_TOKENS": json.dumps(self.tokens),
            "KUBE_HUB_SERVICES": json.dumps(SERVICES),
            "KUBE_HUB_CONTROL": "yes" if self.control else "",
            "MAJLIS_HUB_ORIGIN": self.url,
            "MAJLIS_DECISIONS_ORIGIN": self.decisions_url,
            "KUBE_HUB_URL": self.url,
            "KUBE_HUB_API": f"http://127.0.0.1:{hub_port}",
            "KUBE_HUB_PROXY_API": f"http://127.0.0.1:{proxy_port}",
        }
        self.settings = load(ROOT / "settings.ini", self.settings_overrides)
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "KubeHub":
        """Start the cluster, the control plane where asked, and the hub; wait until they answer."""
        self.cluster.start()
        if self.control:
            self.start_services()
        environment = self.environment | {"KUBECONFIG": write_config(self.folder, self.cluster.api.url)}
        command = [sys.executable, "-m", "jupyterhub", "-f", str(CONFIG)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not answers(f"{self.url}/hub/health"):
            assert self.process.poll() is None, f"the hub ended:\n{self.said()}"
            assert time.monotonic() < deadline, f"the hub did not start:\n{self.said()}"
            time.sleep(POLL_SECONDS)
        return self

    def start_services(self) -> None:
        """Run our Deployments as their manifests say, with the two addresses and the secrets of this hub."""
        for config in MANIFESTS["ConfigMap"].values():
            mine = deepcopy(config)
            if mine["metadata"]["namespace"] == NAMESPACE:
                mine["data"] |= {"MAJLIS_HUB_ORIGIN": self.url, "MAJLIS_DECISIONS_ORIGIN": self.decisions_url}
                mine["data"] |= {"MAJLIS_KUBERNETES_PROXY_URL": self.url}  # there is no name server
            self.cluster.create("configmaps", mine, mine["metadata"]["namespace"])
        tokens = {f"hub.services.{name}.apiToken": token for name, token in self.tokens.items()}
        self.cluster.create("secrets", secret("hub", tokens))
        databases = self.databases or {"store": f"sqlite:///{self.folder}/share/control.sqlite"}
        self.cluster.create("secrets", secret("majlis-databases", databases))
        key = self.folder / "signing.pem"
        release.keypair(key, self.folder / "signing.pub")
        self.cluster.create("secrets", secret("majlis-signing", {"signing.pem": key.read_text()}))
        for name, number in self.workloads:
            self.cluster.run(MANIFESTS["Deployment"][name], number)
        for name, number in self.workloads:
            self.cluster.wait(f"{name}-{number}", MANIFESTS["Deployment"][name]["metadata"]["namespace"])

    @property
    def workloads(self) -> list[tuple[str, int]]:
        """The pods of our Deployments that are started: as many as replicas or the autoscaler say."""
        least = {
            name: scaler["spec"]["minReplicas"]
            for name, scaler in MANIFESTS["HorizontalPodAutoscaler"].items()
        }
        started = list(PLACES) if self.databases else ["majlis-control"]
        return [
            (name, number)
            for name in started
            for number in range(least.get(name) or MANIFESTS["Deployment"][name]["spec"]["replicas"])
        ]

    def stop(self) -> None:
        """Stop the hub, with its proxy, and the cluster."""
        process = self.process
        try:
            if process:
                process.terminate()
                process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as late:
            assert process is not None
            os.killpg(process.pid, signal.SIGKILL)  # its proxy too
            raise AssertionError(f"the hub did not stop:\n{self.said()}") from late
        finally:
            self.cluster.stop()

    def said(self) -> str:
        """The hub's log."""
        return self.log.read_text()

    def person(self, name: str) -> Person:
        """Somebody, logged in."""
        return Person(self.url, self.decisions_url, name, PASSWORD)


def secret(name: str, data: Mapping[str, str]) -> Thing:
    """A Secret's manifest."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"metadata": {"name": name}, "data": encoded}


def answers(url: str) -> bool:
    """Does somebody answer there?"""
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
