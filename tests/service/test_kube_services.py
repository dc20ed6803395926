"""MLflow, the control plane and the gateway as their manifests say, beside a hub whose servers are pods."""

import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from tests.conftest import open_folder
from tests.service.databases import PostgreSQL
from tests.support.kube_hub import GATEWAY_ADDRESS, MANIFESTS, PLACES, SERVING, KubeHub
from tests.support.kube_nodes import address_of
from tests.support.people import Person
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(600)
KERNEL_SECONDS = 300.0
API = "/services/majlis/api/v1"
CLIENTS, HEARS_SECONDS, PAUSE_SECONDS = (
    3,
    0.5,
    0.02,
)  # who ask; until a node hears that a pod goes; between requests
GATEWAY = f"http://{GATEWAY_ADDRESS}:8080"
REGISTER = """
import json, numpy as np, pandas as pd, majlis
from sklearn.linear_model import LogisticRegression
from majlis.training.models import log_classifier

wb, rng = majlis.connect(), np.random.default_rng(11)
x = rng.normal(size=(1500, 2))
rows = pd.DataFrame({"a": x[:, 0], "b": x[:, 1]})
rows["yes"] = (x[:, 0] + rng.normal(size=1500) > 0).astype(int)
rows["split"] = np.where(np.arange(1500) < 1000, "train", "test")
table = wb.lake.write(rows, "gold.kube", mode="overwrite")
with wb.track("kube", tables=[table]) as run:
    model = LogisticRegression().fit(rows[["a", "b"]][:1000], rows.yes[:1000])
    uri = log_classifier(run, model, rows[["a", "b"]].head(3))
version = wb.register(
    uri, "kube", run_id=run.id,
    evaluation={"table": table.name, "version": table.version, "target": "yes", "where": {"split": "test"}},
    facts={"purpose": "See a cluster work.", "personal_data": False, "affected_people": "none",
           "autonomy": "advises"},
    lineage={"tables": [{"name": table.name, "version": table.version}]},
).wait(120)
told = {"state": version.state, "release": version.release, "checks": version.checks}
told["expected"] = model.predict_proba([[1.0, 0.0]])[0, 1]
print(json.dumps(told, default=str))
"""
DEPLOY = """
import json, majlis
wb = majlis.connect()
deployment = wb.deploy(wb.version("kube"))
print(json.dumps({"key": wb.key("kube")}))
"""


class Clients:
    """Several who ask one after the other, through what a node knows of the Service's pods."""

    def __init__(self, hub: KubeHub, key: str) -> None:
        self.hub, self.key = hub, key
        self.asked_at: Counter[str] = Counter()  # answers, by the pod that gave them
        self.failures: list[str] = []
        self.over = threading.Event()
        self.known = hub.cluster.endpoints(SERVING)

    @property
    def asked(self) -> int:
        """Requests that were answered."""
        return sum(self.asked_at.values())

    @contextmanager
    def asking(self) -> Iterator[None]:
        """They ask while the block runs."""
        threads = [threading.Thread(target=work) for work in (self.hear, *[self.work] * CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join()

    def hear(self) -> None:
        """What the node knows, some time after it is so."""
        while not self.over.wait(HEARS_SECONDS):
            self.known = self.hub.cluster.endpoints(SERVING)

    def work(self) -> None:
        """One of them."""
        for turn in itertools.count():
            if self.over.wait(PAUSE_SECONDS):
                return
            address = self.known[turn % len(self.known)]
            try:
                answer = ask(self.key, f"http://{address}:8080")
            except httpx.HTTPError as error:
                self.failures.append(f"{address}: {error!r}")
                continue
            if answer.status_code == 200:
                self.asked_at[address] += 1
            else:
                self.failures.append(f"{address}: {answer.status_code} {answer.text}")


@pytest.fixture(scope="module")
def hub(postgresql: PostgreSQL) -> Iterator[KubeHub]:
    """A hub and every Deployment of our manifests, on databases that the Secret names."""
    databases = {"store": postgresql.database(), "tracking": postgresql.database()}
    with open_folder() as folder:
        running = KubeHub(folder, databases=databases)
        try:
            yield running.start()
        finally:
            running.stop()


@pytest.fixture(scope="module")
def served(hub: KubeHub) -> dict[str, Any]:
    """A model that a scientist made in a pod, and an engineer deployed from another."""
    made: dict[str, Any] = told(hub.person("scientist").run(REGISTER, KERNEL_SECONDS))
    assert made["state"] == "released", made["checks"]
    return made | told(hub.person("engineer").run(DEPLOY, KERNEL_SECONDS))


def told(printed: str) -> dict[str, Any]:
    """What the last line says."""
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def ask(key: str, gateway: str = GATEWAY) -> httpx.Response:
    """One request by the V2 protocol."""
    columns = [
        {"name": name, "shape": [1, 1], "datatype": "FP64", "data": [value]}
        for name, value in (("a", 1.0), ("b", 0.0))
    ]
    headers = {"Authorization": f"Bearer {key}"}
    url = f"{gateway}/v2/models/kube/infer"
    return httpx.post(url, json={"inputs": columns}, headers=headers, trust_env=False)


def test_every_workload_is_ready_and_the_health_page_says_so(hub: KubeHub) -> None:
    pods = [("majlis-control-0", "majlis"), ("mlflow-0", "majlis")]
    for name, namespace in [*pods, ("majlis-gateway-0", SERVING), ("majlis-gateway-1", SERVING)]:
        assert hub.cluster.is_ready(name, namespace)

    def healthy() -> bool:
        health = httpx.get(f"{hub.url}/services/majlis/health", trust_env=False).json()
        found = {one["name"]: one["status"] for one in health["components"]}
        return [found[name] for name in ("hub", "proxy", "MLflow", "gateway")] == ["ok"] * 4

    eventually(healthy, "the control plane does not see the others")


def test_a_person_registers_and_a_gateway_pod_serves_the_signed_release(
    hub: KubeHub, served: dict[str, Any]
) -> None:
    eventually(lambda: ask(served["key"]).status_code == 200, "the gateway does not serve it")
    answer = ask(served["key"]).json()
    assert answer["outputs"][0]["data"][-1] == pytest.approx(served["expected"], abs=1e-5)
    folder = hub.folder / "share" / "releases" / served["release"]
    assert folder.is_dir()


def counted(hub: KubeHub, engineer: Person) -> int:
    """How many requests the deployment answered, as the control plane tells it."""
    found = engineer.page(f"{API}/deployments/kube/traffic").json()
    return int(sum(each["requests"] for each in found["revisions"]))


def logged(hub: KubeHub) -> int:
    """How many rows the share's prediction log holds."""
    segments = list((hub.folder / "share" / "predictions" / "kube").rglob("[!.]*.parquet"))
    return sum(pq.read_metadata(segment).num_rows for segment in segments)


def test_pods_are_replaced_and_no_request_is_lost(hub: KubeHub, served: dict[str, Any]) -> None:
    """A rolling update as the Deployment says, while clients ask: each answered, counted and logged once."""
    engineer, deployment = hub.person("engineer"), MANIFESTS["Deployment"]["majlis-gateway"]
    for number in (0, 1):
        at = f"http://{address_of(PLACES['majlis-gateway'] + number)}:8080"
        eventually(
            lambda at=at: ask(served["key"], at).status_code == 200, f"gateway {number} does not serve it"
        )
    answered = counted(hub, engineer)
    written = logged(hub)
    clients = Clients(hub, served["key"])
    with clients.asking():
        for old, new in ((0, 2), (1, 3)):
            hub.cluster.run(deployment, new)
            hub.cluster.wait(f"majlis-gateway-{new}", SERVING)
            hub.cluster.delete("pods", f"majlis-gateway-{old}", SERVING)
            while hub.cluster.exists(f"majlis-gateway-{old}", SERVING):
                counted(hub, engineer)  # a rollout looks every few seconds, too
    assert not clients.failures, f"{len(clients.failures)} of {clients.asked} failed: {clients.failures[:3]}"
    assert set(clients.asked_at) == {address_of(PLACES["majlis-gateway"] + number) for number in range(4)}
    eventually(lambda: counted(hub, engineer) >= answered + clients.asked, "not everything was counted")
    eventually(lambda: logged(hub) >= written + clients.asked, "not everything was logged")
