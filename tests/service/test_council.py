"""The whole path of a model through the API and the client: register, checks, tier, release, deployment."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import average_precision_score

from majlis import clock
from majlis.access import Principal, Scope
from majlis.client import Workbench
from majlis.control.service import ControlPlane
from majlis.data.lineage import Lineage
from majlis.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from majlis.monitoring.predictions import LOG
from majlis.registry.release import verify
from majlis.serving import snapshot
from majlis.serving.tokens import Tokens
from majlis.settings import Settings
from tests.support.embedded import FACTS, INPUTS, fitted, flights, settings_in
from tests.support.embedded import logged as log


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_in(tmp_path_factory.mktemp("home"), CHECKS_BOOTSTRAP_RESAMPLES=50)


@pytest.fixture(scope="module")
def table(wb: Workbench) -> tuple[pd.DataFrame, int]:
    rows = flights(1200)
    rows["split"] = np.where(np.arange(1200) < 800, "train", "test")
    return rows, wb.lake.write(rows, "gold.flights", mode="overwrite").version


@pytest.fixture(scope="module")
def logged(wb: Workbench, table: tuple[pd.DataFrame, int]) -> tuple[str, float]:
    """A model in MLflow, and its PR-AUC on the test rows."""
    rows, _ = table
    train, test = rows[rows.split == "train"], rows[rows.split == "test"]
    with wb.track("flights"):
        uri = log(train)
    return uri, average_precision_score(test.late, fitted(train).predict_proba(test[INPUTS])[:, 1])


def evaluation(version: int) -> dict[str, object]:
    return {"table": "gold.flights", "version": version, "target": "late", "where": {"split": "test"}}


def test_whole_path(
    wb: Workbench, settings: Settings, table: tuple[pd.DataFrame, int], logged: tuple[str, float]
) -> None:
    uri, found = logged
    version = wb.register(uri, "flights", evaluation(table[1]), FACTS, metrics={"pr_auc": found}).wait(120)
    assert {check["verdict"] for check in version.checks} <= {"passed", "skipped"}, version
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
    wb: Workbench,
    settings: Settings,
    table: tuple[pd.DataFrame, int],
    logged: tuple[str, float],
    tmp_path: Path,
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

    bundle = wb.version("flights", 2).export(tmp_path / "device")
    assert bundle.name == "flights-2" and (bundle / "predict.py").is_file()
    assert wb.version("flights", 2).export(tmp_path / "flights.zip").read_bytes()[:2] == b"PK"
    assert wb.audit()[-1]["action"] == "release.exported"

    wb.api("POST", "/releases/flights-2/revoke", json={"reason": "trained on the wrong months"})
    with pytest.raises(Conflict, match="was revoked: trained on the wrong months"):
        wb.version("flights", 2).export(tmp_path / "again")
    assert wb.version("flights", 2).state == "revoked"
    assert snapshot.load(settings.snapshot, settings.release.public_key).revoked == ("flights-2",)
    with pytest.raises(Conflict, match="was revoked: trained on the wrong months"):
        wb.deploy("flights-2")


def test_a_persons_token_is_minted_and_withdrawn(wb: Workbench, settings: Settings) -> None:
    def published() -> Tokens:
        now = snapshot.load(settings.snapshot, settings.release.public_key)
        return Tokens(now.token_keys, now.tokens_revoked)

    made = wb.api("POST", "/deployments/flights/tokens")
    claims = published().claims(made["token"].encode())
    assert claims.subject == made["subject"] and claims.deployments == {"flights"}
    assert settings.gateway.token_key.stat().st_mode & 0o777 == 0o600
    wb.api("POST", f"/people/{made['subject']}/tokens/revoke", json={"reason": "left in a train"})
    with pytest.raises(Unauthenticated, match="withdrawn"):
        published().claims(made["token"].encode())
    assert [record["action"] for record in wb.audit()][-2:] == ["token.issued", "tokens.revoked"]
    with pytest.raises(NotFound):
        wb.api("POST", "/deployments/unknown/tokens")


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
        version.decide("review", "approve", "it is mine")
    assert version.waiting == "engineer"
    assert [row["by"] for row in wb.story("decider/1").chapters if row["what"] == "waits for engineer"] == [
        ""
    ]


def predicted(settings: Settings, deployment: str, release: str, ids: list[str], trace: str) -> None:
    """Rows in the prediction log, as the gateway writes them."""
    day = settings.gateway.predictions / deployment / f"date={clock.now():%Y-%m-%d}"
    day.mkdir(parents=True, exist_ok=True)
    told = {"at": clock.now(), "deployment": deployment, "revision": "1", "release": release}
    told |= {"client": "key-1", "inputs": '{"wind":21.5}', "outputs": "0.93", "latency_ms": 1.5}
    rows = [told | {"id": id, "trace_id": trace, "shadow": False} for id in ids]
    pl.DataFrame(rows, schema=LOG).write_parquet(day / f"{ids[0]}.parquet")


@pytest.mark.timeout(300)
def test_the_story_from_the_table_to_the_request(
    wb: Workbench, settings: Settings, table: tuple[pd.DataFrame, int], logged: tuple[str, float]
) -> None:
    wb.lake.write(table[0], "silver.weather", mode="overwrite")
    read = wb.lake.version("gold.flights")
    Lineage(wb.lake).record("flights.join", [wb.lake.version("silver.weather")], [read])
    lineage = {"tables": [{"name": read.name, "version": read.version}]}
    told = wb.register(logged[0], "told", evaluation(read.version), FACTS, lineage=lineage).wait(120)
    wb.deploy(told, reason="the planners asked for it")
    predicted(settings, "told", "told-1", ["r-1-0", "r-1-1", "r-1-2", "r-1-3"], "4bf92f35")

    story = wb.story("r-1")
    order = list(dict.fromkeys(row["chapter"] for row in story.chapters))
    kinds = ["data", "training", "version", "check", "approval", "release", "deployment", "request"]
    assert order == kinds and story.kind == "prediction" and story.version == "told/1"
    by_kind = {kind: [row for row in story.chapters if row["chapter"] == kind] for kind in order}
    assert by_kind["data"][0]["what"] == f"gold.flights version {read.version}"
    assert by_kind["data"][0]["reason"] == "from table:silver.weather@0" and by_kind["data"][0]["at"]
    assert by_kind["data"][1]["what"].endswith("where split = test")
    assert told.record["run_id"] in by_kind["training"][0]["what"]
    assert len(by_kind["check"]) == len(told.checks) and "passed" in by_kind["check"][0]["what"]
    assert by_kind["approval"][0]["what"] == "approve by the policy"
    assert by_kind["deployment"][0]["reason"] == "the planners asked for it"
    assert '{"wind":21.5} → 0.93' in by_kind["request"][0]["what"]
    assert by_kind["request"][-1]["what"] == "rows not shown: 1"

    assert wb.story("4bf92f35").version == "told/1"
    assert len([row for row in wb.story("r-1-2").chapters if row["chapter"] == "request"]) == 1
    for id, kind in {"told/1": "version", "told-1": "release", "told": "deployment"}.items():
        assert wb.story(id).kind == kind
        assert wb.story(id).chapters == [row for row in story.chapters if row["chapter"] != "request"]


@pytest.mark.timeout(120)
def test_the_story_goes_on_when_the_deployment_is_gone(wb: Workbench, settings: Settings) -> None:
    wb.deployment("told").delete("<i>too many</i> false alarms")
    story = wb.story("r-1-0")
    last = [row for row in story.chapters if row["chapter"] == "deployment"][-1]
    assert (last["what"], last["reason"]) == ("told deleted", "<i>too many</i> false alarms")
    assert "&lt;i&gt;" in story._repr_html_() and "<i>" not in story._repr_html_()
    assert "too many" in repr(story)
    with pytest.raises(NotFound, match="Nothing is known as 'told'") as refusal:
        wb.story("told")
    assert "the id of a release" in refusal.value.remedy and "prediction" in refusal.value.remedy


@pytest.mark.timeout(120)
def test_what_was_asked_is_not_told_to_every_reader(wb: Workbench, settings: Settings) -> None:
    wb.deploy("told-1")
    reader = Principal("ben", frozenset({Scope.READ.value}), frozenset(), "session")
    control = ControlPlane(settings)
    try:
        told = control.stories.tell(reader, "r-1-0")["chapters"][-1]
    finally:
        control.close()
    assert told["chapter"] == "request" and "21.5" not in str(told) and "key-1" not in str(told)
    assert f"{wb.whoami()['name']} and admins only" in told["reason"]


@pytest.mark.timeout(300)
def test_a_rehearsal_finds_what_the_gate_finds(
    wb: Workbench, table: tuple[pd.DataFrame, int], logged: tuple[str, float]
) -> None:
    uri, found = logged
    rehearsed = wb.check(uri, evaluation(table[1]), metrics={"pr_auc": found}, name="rehearsed")
    version = wb.register(uri, "rehearsed", evaluation(table[1]), FACTS, metrics={"pr_auc": found}).wait(120)
    again = wb.check(version)
    assert [row["name"] for row in again] == [row["name"] for row in version.checks]
    assert {row["name"] for row in again} < {row["name"] for row in rehearsed}  # no tier yet: all checks
    judged = {row["name"]: row for row in version.checks if row["name"] != "latency"}  # a time differs
    for rows in (rehearsed, again):
        by_name = {row["name"]: row for row in rows}
        for name, row in judged.items():
            same = ("verdict", "value", "threshold", "reason", "evidence", "code_digest")
            assert {key: by_name[name][key] for key in same} == {key: row[key] for key in same}, name
            assert by_name[name]["seconds"] >= 0
    assert wb.version("rehearsed").record == version.record  # nothing was recorded

    wb.deploy(version)
    (against,) = wb.check(uri, evaluation(table[1]), checks=["better_than_baseline"], name="rehearsed")
    assert "gain_over_production" not in judged["better_than_baseline"]["evidence"]
    assert against["evidence"]["gain_over_production"] == [0.0, 0.0, 0.0]  # the same model is served


@pytest.mark.timeout(300)
def test_a_rehearsal_fails_where_the_gate_would(
    wb: Workbench, table: tuple[pd.DataFrame, int], logged: tuple[str, float]
) -> None:
    uri, found = logged
    boast = {"pr_auc": min(1.0, found + 0.05)}
    (row,) = wb.check(uri, evaluation(table[1]), metrics=boast, checks=["better_than_baseline"])
    assert row["verdict"] == "failed" and "claimed" in row["reason"]
    with pytest.raises(Invalid, match="There is no check 'charm'") as refusal:
        wb.check(uri, evaluation(table[1]), checks=["charm"])
    assert "better_than_baseline" in refusal.value.remedy
    with pytest.raises(Invalid, match="nothing to measure"):
        wb.check(uri)
    with pytest.raises(Invalid, match="has no column gate"):
        wb.check(uri, evaluation(table[1]) | {"target": "gate"})
    version = wb.version("rehearsed")
    version.record["digest"] = "0" * 64
    with pytest.raises(Conflict, match="not those that were registered"):
        wb.check(version)
