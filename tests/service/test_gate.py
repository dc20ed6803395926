"""What the gate does about a version that hides something: files that run, secrets, undeclared data."""

import os
import pickle
import socket
import stat
from pathlib import Path
from typing import Any

import mlflow
import nbformat
import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, mean_absolute_error, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from majlis.client import Version, Workbench
from majlis.control.containment import Limits
from majlis.control.evidence import Evidence, Page, executed
from majlis.errors import Invalid, MajlisError
from majlis.settings import Settings
from majlis.training.models import log_classifier, log_regressor, plain_columns, trusted_types
from tests.support.embedded import FACTS, flights, logged, registered

TOKEN = "ghp_" + "a1B2" * 9
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a process a user of its own")


@pytest.fixture(scope="module")
def rows(wb: Workbench) -> pd.DataFrame:
    rows = flights(600)
    wb.lake.write(rows, "gold.flights", mode="overwrite")
    wb.lake.write(pd.DataFrame({"email": ["amira@example.org", "omar@example.org"]}), "gold.passengers")
    return rows


def verdicts(version: Version) -> dict[str, str]:
    return {check["name"]: check["verdict"] for check in version.record["checks"]}


def actions(wb: Workbench, version: Version) -> list[str]:
    found = wb.audit(subject=f"{version.model}/{version.version}", limit=100)
    return [record["action"] for record in found]


@pytest.fixture(scope="module")
def cells(wb: Workbench) -> pd.DataFrame:
    """A table as people have them: words, whole numbers, booleans of which some are missing."""
    rng = np.random.default_rng(5)
    rows = pd.DataFrame(
        {
            "size of cell": rng.normal(0, 1, 600),
            "count": rng.integers(0, 9, 600),
            "stained": np.where(rng.random(600) < 0.1, None, rng.random(600) < 0.5),
        }
    )
    signal = rows["size of cell"] + rows["count"] / 9 + rng.normal(0, 0.5, 600)
    rows["kind"] = np.select([signal < 0, signal < 1], ["benign", "unclear"], "malignant")
    rows["grade"] = np.select([signal < 0, signal < 1], [3, 5], 9)
    rows["ill"] = np.where(signal > 0.5, "yes", "no")
    rows["days"] = (100 + 30 * signal).astype(int)
    wb.lake.write(rows, "gold.cells", mode="overwrite")
    return rows


LOOKED_AT = ["size of cell", "count", "stained"]


def learned(model: Any) -> Any:
    return make_pipeline(SimpleImputer(), StandardScaler(), model)


def by_hand(run: Any, model: Any, example: pd.DataFrame) -> str:
    """As MLflow's own documentation logs a model: what it answers is what `predict` says, a word."""
    info = mlflow.sklearn.log_model(
        model,
        name="model",
        input_example=example,
        serialization_format="skops",
        skops_trusted_types=trusted_types(model),
        pip_requirements=[],
    )
    return str(info.model_uri)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("target", "model", "log", "metric"),
    [
        ("kind", LogisticRegression(max_iter=500), log_classifier, "accuracy"),
        ("grade", LogisticRegression(max_iter=500), log_classifier, "accuracy"),
        ("ill", LogisticRegression(), log_classifier, "roc_auc"),
        ("kind", LogisticRegression(max_iter=500), by_hand, "accuracy"),
        ("days", Ridge(), log_regressor, "mae"),
    ],
)
def test_a_table_as_people_have_it_goes_through(
    wb: Workbench, cells: pd.DataFrame, target: str, model: Any, log: Any, metric: str
) -> None:
    """Labels in words, labels that do not count from 0, amounts; what the author claims is found again."""
    inputs = plain_columns(cells[LOOKED_AT])
    fitted = learned(model).fit(inputs, cells[target])
    claims = {
        "accuracy": lambda: accuracy_score(cells[target], fitted.predict(inputs)),
        "roc_auc": lambda: roc_auc_score(cells[target] == "yes", fitted.predict_proba(inputs)[:, 1]),
        "mae": lambda: mean_absolute_error(cells[target], fitted.predict(inputs)),
    }
    with wb.track("cells") as run:
        uri = log(run, fitted, inputs.head(3))
    evaluation = {"table": "gold.cells", "version": 0, "target": target}
    found = wb.check(uri, evaluation, {metric: float(claims[metric]())})
    faults = {check["name"]: check["reason"] for check in found if check["verdict"] in ("failed", "error")}
    assert not faults, faults
    assert any(check["name"] == "better_than_baseline" and check["value"] > 0 for check in found)


@pytest.mark.parametrize(
    ("where", "target", "said"),
    [
        ({"kind": "unheard of"}, "kind", "no rows"),
        ({"kind": 7}, "kind", "own type"),
        ({}, "stained", "no label"),
    ],
)
def test_rows_that_nothing_can_be_measured_on_are_refused_at_once(
    wb: Workbench, cells: pd.DataFrame, where: dict[str, Any], target: str, said: str
) -> None:
    with wb.track("flights"):
        uri = logged(
            cells.rename(columns={"size of cell": "wind", "count": "distance"}).assign(late=cells.days > 100)
        )
    evaluation = {"table": "gold.cells", "version": 0, "target": target, "where": where}
    with pytest.raises(Invalid, match=said):
        wb.register(uri, "cells", evaluation, FACTS)


class Runs:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({str(self.path)!r}, 'w').close()",)


@pytest.mark.timeout(300)
def test_files_that_run_are_never_loaded_and_quarantined(
    wb: Workbench, settings: Settings, rows: pd.DataFrame, tmp_path: Path
) -> None:
    touched = tmp_path / "touched"
    with wb.track("flights"):
        uri = logged(rows, serialization_format="cloudpickle")
    location = mlflow.MlflowClient().get_logged_model(uri.removeprefix("models:/")).artifact_location
    (Path(location.removeprefix("file://")) / "model.pkl").write_bytes(pickle.dumps(Runs(touched)))
    version = registered(wb, uri, "hostile")
    assert version.state == "failed" and verdicts(version)["artifact_scan"] == "failed"
    assert verdicts(version)["signature"] == "error" and not touched.exists()
    assert "version.quarantined" in actions(wb, version)
    kept = settings.control / "quarantine"
    assert (kept / "hostile-1" / "model" / "model.pkl").is_file()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert not (settings.control / "staging" / "hostile-1").exists()


@pytest.mark.timeout(300)
def test_a_secret_in_the_run_is_told_by_line_and_never_repeated(
    wb: Workbench, settings: Settings, rows: pd.DataFrame
) -> None:
    with wb.track("flights") as run:
        run.text(f"host = 'db'\ntoken = '{TOKEN}'\n", "notes/config.py")
        uri = logged(rows)
    version = registered(wb, uri, "leaky")
    found = {check["name"]: check for check in version.record["checks"]}
    assert found["secrets"]["reason"] == "run/notes/config.py, line 2: GitHub Token"
    assert version.state == "failed"
    assert set(verdicts(version).values()) == {"passed", "failed", "skipped"}  # the others were made
    assert TOKEN not in str(version.record) and TOKEN not in str(wb.audit(limit=1000))
    assert "version.quarantined" not in actions(wb, version)


@pytest.mark.timeout(300)
def test_without_a_list_of_advisories_the_version_says_that_it_was_not_audited(
    wb: Workbench, rows: pd.DataFrame
) -> None:
    with wb.track("flights"):
        uri = logged(rows)
    version = registered(wb, uri, "plain")
    found = {check["name"]: check for check in version.record["checks"]}
    assert version.state == "released", version
    assert found["dependencies"]["verdict"] == "skipped"
    assert found["dependencies"]["reason"].startswith("not audited")
    assert found["dependencies"]["evidence"]["environments"]["run/code/requirements.txt"] > 100
    assert "check.skipped" in actions(wb, version)


@pytest.mark.timeout(300)
def test_what_the_run_read_decides_the_tier_whatever_was_declared(wb: Workbench, rows: pd.DataFrame) -> None:
    with wb.track("flights"):
        assert wb.lake.read("gold.passengers").height == 2
        uri = logged(rows)
    version = registered(wb, uri, "curious")
    assert version.tier == "high"
    assert {"name": "gold.passengers", "version": 0} in version.record["lineage"]["read"]
    assert version.record["lineage"]["tables"] == []
    assert version.record["lineage"]["personal_columns"] == ["gold.passengers.email"]


def page(*sources: str) -> Page:
    """A notebook of these cells."""
    parameters = nbformat.v4.new_code_cell('record_file: str = ""', metadata={"tags": ["parameters"]})
    cells = [parameters, *(nbformat.v4.new_code_cell(source) for source in sources)]
    return Page("review.ipynb", nbformat.writes(nbformat.v4.new_notebook(cells=cells)), "{}")


def told(content: str) -> str:
    """What the last cell printed."""
    return str(nbformat.reads(content, as_version=4).cells[-1].outputs[0].text).strip()


@root_only
@pytest.mark.timeout(200)
def test_the_review_notebook_is_executed_contained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "hub-token")
    secret = tmp_path / "control"
    secret.mkdir()
    (secret / "signing.pem").write_text("key")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        probe = f"""
import os, socket, psutil
found = [os.getuid(), "JUPYTERHUB_API_TOKEN" in os.environ, len(psutil.pids()) < 20]
for attempt in (
    lambda: open({str(secret / "signing.pem")!r}).read(),
    lambda: socket.create_connection(("127.0.0.1", {port}), 2),
    lambda: os.kill({os.getpid()}, 0),
):
    try:
        found.append(attempt())
    except OSError:
        found.append("refused")
print(found)
"""
        content = executed(page(probe), Limits(timeout_seconds=120), (secret,))
    assert told(content) == str([Limits().user, False, True, "refused", "refused", "refused"])


@pytest.mark.timeout(200)
def test_a_review_notebook_that_fails_is_told_and_keeps_nothing(tmp_path: Path) -> None:
    template = tmp_path / "review.ipynb"
    template.write_text(page("1 / 0").notebook)
    evidence = Evidence(template, tmp_path / "kept", Limits(timeout_seconds=120))
    with pytest.raises(MajlisError, match="could not be executed"):
        evidence.make({"model": "m", "version": 1}, None, "")
    assert not (tmp_path / "kept").exists()
