"""MLflow, the control plane and the gateway as their manifests say, beside a hub whose servers are pods."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.conftest import open_folder
from tests.service.databases import PostgreSQL
from tests.support.kube_hub import GATEWAY_ADDRESS, SERVING, KubeHub
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(600)
KERNEL_SECONDS = 300.0
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
    for name, namespace in (
        ("majlis-control-0", "majlis"),
        ("mlflow-0", "majlis"),
        ("majlis-gateway-0", SERVING),
    ):
        assert hub.cluster.is_ready(name, namespace)
    health = httpx.get(f"{hub.url}/services/majlis/health", trust_env=False).json()
    found = {one["name"]: one["status"] for one in health["components"]}
    assert [found[name] for name in ("hub", "proxy", "MLflow", "gateway")] == ["ok"] * 4


def test_a_person_registers_and_a_gateway_pod_serves_the_signed_release(
    hub: KubeHub, served: dict[str, Any]
) -> None:
    eventually(lambda: ask(served["key"]).status_code == 200, "the gateway does not serve it")
    answer = ask(served["key"]).json()
    assert answer["outputs"][0]["data"][-1] == pytest.approx(served["expected"], abs=1e-5)
    folder = hub.folder / "share" / "releases" / served["release"]
    assert folder.is_dir()
    eventually(
        lambda: list((hub.folder / "share" / "predictions" / "kube").rglob("*.parquet")), "nothing was logged"
    )
