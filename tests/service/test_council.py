"""The whole path of a model through the API and the client: register, checks, tier, release, deployment."""

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from majlis.client import Workbench, connect
from majlis.errors import Conflict, Forbidden, Invalid, NotFound
from majlis.registry.release import verify
from majlis.serving import snapshot
from majlis.settings import Settings, load

FACTS = {
    "purpose": "Warn planners of flights that will probably be late.",
    "personal_data": False,
    "affected_people": "none",
    "autonomy": "advises",
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    with socket.create_server(("127.0.0.1", 0)) as free:  # where no gateway answers
        port = free.getsockname()[1]
    environ = {"WORKBENCH_HOME": str(home), "CHECKS_BOOTSTRAP_RESAMPLES": "50", "GATEWAY_PORT": str(port)}
    return load(environ={f"MAJLIS_{name}": value for name, value in environ.items()})


@pytest.fixture(scope="module")
def wb(settings: Settings) -> Iterator[Workbench]:
    with connect(settings, environ={}) as workbench:
        yield workbench


@pytest.fixture(scope="module")
def table(wb: Workbench) -> tuple[pd.DataFrame, int]:
    rng = np.random.default_rng(11)
    rows = pd.DataFrame({"wind": rng.normal(10, 4, 1200), "distance": rng.uniform(100, 2000, 1200)})
    rows["late"] = (rows.wind + rng.normal(0, 4, 1200) > 12).astype(int)
    rows["split"] = np.where(np.arange(1200) < 800, "train", "test")
    return rows, wb.lake.write(rows, "gold.flights", mode="overwrite").version


@pytest.fixture(scope="module")
def logged(wb: Workbench, table: tuple[pd.DataFrame, int]) -> tuple[str, float]:
    """A model in MLflow, and its PR-AUC on the test rows."""
    rows, _ = table
    train, test = rows[rows.split == "train"], rows[rows.split == "test"]
    inputs = ["wind", "distance"]
    with wb.track("flights"):
        model = LogisticRegression(max_iter=500).fit(train[inputs], train.late)
        info = mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(train[inputs], model.predict_proba(train[inputs])),
            input_example=train[inputs].head(2),
            pyfunc_predict_fn="predict_proba",
            serialization_format="skops",
            pip_requirements=[],
        )
    return info.model_uri, average_precision_score(test.late, model.predict_proba(test[inputs])[:, 1])


def evaluation(version: int) -> dict[str, object]:
    return {"table": "gold.flights", "version": version, "target": "late", "where": {"split": "test"}}


def test_whole_path(
    wb: Workbench, settings: Settings, table: tuple[pd.DataFrame, int], logged: tuple[str, float]
) -> None:
    uri, found = logged
    version = wb.register(uri, "flights", evaluation(table[1]), FACTS, metrics={"pr_auc": found}).wait(120)
    assert {check["verdict"] for check in version.checks} == {"passed"}, version
    assert (version.state, version.tier, version.stage) == ("released", "low", "Staging")

    folder = settings.release.folder / str(version.release)
    statement = verify(folder, settings.release.public_key)
    assert statement.formats == {"native": "model", "onnx": "onnx/model.onnx"}
    assert statement.evidence == version.record["evidence"] != ""
    assert statement.owner == wb.whoami()["name"] and statement.approvals[0].chair == "policy"

    deployment = wb.deploy(version)
    assert not deployment.record["ready"] and deployment.record["reason"] == "the gateway does not answer"
    published = snapshot.load(settings.snapshot, settings.release.public_key)
    assert [(r.release, r.weight) for r in published.deployments["flights"].revisions] == [("flights-1", 1.0)]
    assert wb.version("flights").stage == "Production"
    assert wb.models()[0]["production"] == 1

    key = wb.key("flights")
    again = snapshot.load(settings.snapshot, settings.release.public_key)
    assert (
        again.serial > published.serial and len(again.keys) == 1 and key not in settings.snapshot.read_text()
    )

    actions = [record["action"] for record in wb.audit()]
    assert actions[0] == "version.registered" and "release.signed" in actions and actions[-1] == "key.issued"
    assert wb.api("GET", "/audit/verify")["ok"]


def test_claim_that_does_not_reproduce(
    wb: Workbench, table: tuple[pd.DataFrame, int], logged: tuple[str, float]
) -> None:
    version = wb.register(
        logged[0], "boast", evaluation(table[1]), FACTS, metrics={"pr_auc": min(1.0, logged[1] + 0.05)}
    )
    assert version.wait(120).state == "failed"
    assert "claimed" in version.record["reason"] and "found" in version.record["reason"]
    with pytest.raises(Conflict, match="has no release"):
        wb.deploy(version)


def test_second_version_rollback_and_revocation(
    wb: Workbench, settings: Settings, table: tuple[pd.DataFrame, int], logged: tuple[str, float]
) -> None:
    second = wb.register(logged[0], "flights", evaluation(table[1]), FACTS).wait(120)
    assert second.state == "released", second
    deployment = wb.deploy(second)
    loaded = snapshot.load(settings.snapshot, settings.release.public_key).deployments["flights"].revisions
    assert [(r.release, r.weight) for r in loaded] == [("flights-1", 0.0), ("flights-2", 1.0)]

    deployment.rollback("the second one is slower")
    loaded = snapshot.load(settings.snapshot, settings.release.public_key).deployments["flights"].revisions
    assert [(r.release, r.weight) for r in loaded] == [("flights-1", 1.0), ("flights-2", 0.0)]
    assert (wb.version("flights", 1).stage, wb.version("flights", 2).stage) == ("Production", "Archived")

    wb.api("POST", "/releases/flights-2/revoke", json={"reason": "trained on the wrong months"})
    assert wb.version("flights", 2).state == "revoked"
    assert snapshot.load(settings.snapshot, settings.release.public_key).revoked == ("flights-2",)
    with pytest.raises(Conflict, match="was revoked: trained on the wrong months"):
        wb.deploy("flights-2")


def test_refusals_say_what_to_do(
    wb: Workbench, table: tuple[pd.DataFrame, int], logged: tuple[str, float], tmp_path: Path
) -> None:
    good = evaluation(table[1])
    with pytest.raises(Invalid, match="does not name a model in MLflow"):
        wb.register(f"file://{tmp_path}", "flights", good, FACTS)
    with pytest.raises(NotFound, match="has no version 99"):
        wb.register(logged[0], "flights", good | {"version": 99}, FACTS)
    with pytest.raises(Invalid, match="has no column gate"):
        wb.register(logged[0], "flights", good | {"target": "gate"}, FACTS)
    with pytest.raises(Invalid, match="cannot be computed again"):
        wb.register(logged[0], "flights", good, FACTS, metrics={"happiness": 1.0})
    with pytest.raises(Invalid, match="autonomy"):
        wb.register(logged[0], "flights", good, FACTS | {"autonomy": "sometimes"})
    with pytest.raises(NotFound, match="no release"):
        wb.deploy("flights-77")


def test_nobody_decides_on_their_own(
    wb: Workbench, table: tuple[pd.DataFrame, int], logged: tuple[str, float]
) -> None:
    facts = FACTS | {"autonomy": "decides"}
    version = wb.register(logged[0], "decider", evaluation(table[1]), facts).wait(120)
    assert (version.state, version.tier, version.record["required"]) == ("in review", "medium", ["review"])
    assert [row["model"] for row in wb.reviews()] == ["decider"]
    document = wb.api.bytes("GET", f"{version.path}/review.ipynb").content
    assert version.record["evidence"] == hashlib.sha256(document).hexdigest()
    assert "gold.flights version" in version.review() and "data:image/png" in version.review()
    with pytest.raises(Forbidden, match="made or requested this version"):
        wb.api(
            "POST",
            f"{version.path}/reviews",
            json={"decision": "approve", "as": "review", "reason": "it is mine"},
        )
