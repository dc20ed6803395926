"""The checks: each verdict for a reason, and no way to pass by breaking one."""

import dataclasses
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, mean_squared_error
from sklearn.tree import DecisionTreeClassifier

from majlis.governance.behaviour import EVERY, differences
from majlis.governance.checks import Limits, Subject, incompatible
from majlis.governance.scan import scan
from majlis.registry.artifacts import Description

LIMITS = Limits(bootstrap_resamples=50, latency_requests=10)


def described(*columns: dict[str, Any]) -> Description:
    return Description("r", "m", ("sklearn",), {"inputs": list(columns), "outputs": [{"type": "double"}]}, "")


def column(name: str, kind: str = "double", required: bool = True) -> dict[str, Any]:
    return {"name": name, "type": kind, "required": required}


def logistic(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
    p = 1 / (1 + np.exp(-frame.wind.fillna(0).to_numpy(float) / 2))
    return np.column_stack([1 - p, p])


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    rng = np.random.default_rng(1)
    rows = pd.DataFrame({"wind": rng.normal(0, 4, 1500), "sex": rng.choice(["f", "m"], 1500)})
    labels = (rng.random(1500) < logistic(rows)[:, 1]).astype(int)
    (tmp_path / "MLmodel").write_text("flavors: {python_function: {loader_module: mlflow.sklearn}}\n")
    (tmp_path / "requirements.txt").write_text("numpy==2.3.0\n")
    return Subject(tmp_path, described(column("wind")), logistic, rows, labels, limits=LIMITS)


def verdict(name: str, subject: Subject, **changes: Any) -> tuple[str, str]:
    found = EVERY[name](dataclasses.replace(subject, **changes))
    return found.verdict, found.reason


def test_an_honest_model_passes_everything(subject: Subject) -> None:
    found = {name: check(subject) for name, check in EVERY.items()}
    expected = dict.fromkeys(EVERY, "passed") | {"dependencies": "skipped"}  # there is no list here
    assert {name: check.verdict for name, check in found.items()} == expected, found
    assert all(check.seconds > 0 and len(check.code_digest) == 64 for check in found.values())


def test_claims_are_recomputed(subject: Subject) -> None:
    true = average_precision_score(subject.labels, logistic(subject.rows)[:, 1])
    assert verdict("better_than_baseline", subject, claimed={"pr_auc": true})[0] == "passed"
    for lie in (true + 1e-4, 1.0, float("nan")):
        state, reason = verdict("better_than_baseline", subject, claimed={"pr_auc": lie})
        assert state == "failed" and f"found {true:.6g}" in reason


def test_worse_than_production_is_refused(subject: Subject) -> None:
    rng = np.random.default_rng(0)

    def noisy(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
        return logistic(frame.assign(wind=frame.wind + rng.normal(0, 6, len(frame))))

    state, reason = verdict("better_than_baseline", subject, predict=noisy, production=logistic)
    assert state == "failed" and "worse than what is served" in reason
    assert verdict("better_than_baseline", subject, predict=logistic, production=noisy)[0] == "passed"


def test_numbers_and_classes_have_metrics_too(subject: Subject) -> None:
    hours = subject.rows.wind.to_numpy() * 2 + np.random.default_rng(2).normal(0, 1, 1500)

    def double(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
        return frame.wind.to_numpy() * 2

    rmse = mean_squared_error(hours, double(subject.rows)) ** 0.5
    assert (
        verdict("better_than_baseline", subject, labels=hours, predict=double, claimed={"rmse": rmse})[0]
        == "passed"
    )
    state, _ = verdict("better_than_baseline", subject, labels=hours, predict=lambda f: np.zeros(len(f)))
    assert state == "failed"
    for name in ("leakage", "calibration", "fairness"):
        assert verdict(name, subject, labels=hours, predict=double)[0] == "skipped"


@pytest.mark.parametrize(
    "answers",
    [
        lambda frame: np.full(len(frame), np.nan),
        lambda frame: np.ones(3),
        lambda frame: np.array(["late"] * len(frame)),
        lambda frame: None,
        lambda frame: 1 / 0,
    ],
)
def test_broken_answers_never_pass(subject: Subject, answers: Any) -> None:
    for name in ("better_than_baseline", "signature", "calibration"):
        assert verdict(name, subject, predict=answers)[0] in ("failed", "error"), name


def test_one_answer_for_everything_is_worth_nothing(subject: Subject) -> None:
    for answer in (0.5, 7.0):
        constant = dataclasses.replace(
            subject, predict=lambda frame, answer=answer: np.full(len(frame), answer)
        )
        assert EVERY["better_than_baseline"](constant).verdict in ("failed", "error")


@pytest.mark.parametrize(
    ("after", "fault"),
    [
        ([column("wind"), column("gust", required=False)], ""),
        ([column("wind", required=False)], ""),
        ([column("wind"), column("gust")], "gust is new and required"),
        ([column("wind", "string")], "wind was double and is string"),
        ([column("wind", "integer")], "wind was double and is integer"),
        ([], ""),
    ],
)
def test_compatibility_with_what_is_served(after: list[dict[str, Any]], fault: str) -> None:
    assert "; ".join(incompatible(described(column("wind")), described(*after))) == fault


def test_slow_models_fail_latency(subject: Subject) -> None:
    strict = dataclasses.replace(subject, limits=Limits(latency_requests=5, latency_p99_ms_max=1e-6))
    assert EVERY["latency"](strict).verdict == "failed"


def test_leak_by_a_name_that_is_only_unique_is_none(subject: Subject) -> None:
    """A column of unique names knows nothing about rows it was not made from."""
    unique = subject.rows.assign(flight=[f"UA{i}" for i in range(1500)])
    signature = described(column("wind"), column("flight", "string"))
    assert verdict("leakage", subject, rows=unique, description=signature)[0] == "passed"
    told = subject.rows.assign(flight=np.where(subject.labels == 1, "late", "fine"))
    state, reason = verdict("leakage", subject, rows=told, description=signature)
    assert state == "failed" and reason.startswith("flight alone")


def test_order_dependence_is_found(subject: Subject) -> None:
    def running(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
        return logistic(frame.assign(wind=frame.wind.cumsum()))

    assert verdict("robustness", subject, predict=running)[1].startswith("rows in another order")


def test_uncalibrated_is_found(subject: Subject) -> None:
    state, reason = verdict("calibration", subject, predict=lambda f: np.minimum(1, logistic(f)[:, 1] + 0.3))
    assert state == "failed" and "apart" in reason


def test_fairness_by_declared_attribute_and_small_groups(subject: Subject) -> None:
    skewed = np.where(subject.rows.wind > 0, "north", "south")
    rows = subject.rows.assign(region=skewed)
    state, reason = verdict("fairness", subject, rows=rows, protected=("region",))
    assert state == "failed" and "region" in reason and "demographic parity" in reason
    few = subject.rows.assign(sex=np.where(np.arange(1500) < 20, "x", subject.rows.sex))
    assert verdict("fairness", subject, rows=few) == ("passed", "too small to judge: sex x (20 rows)")
    assert verdict("fairness", subject, protected=("caste",))[0] == "failed"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_differences_agree_with_fairlearn(seed: int) -> None:
    from fairlearn.metrics import demographic_parity_difference, equalized_odds_difference

    rng = np.random.default_rng(seed)
    labels, chosen = rng.integers(0, 2, 200).astype(float), rng.integers(0, 2, 200).astype(float)
    groups = rng.choice(["a", "b", "c"], 200)
    members = [(groups == g).astype(float) for g in np.unique(groups)]
    parity, odds = differences(labels, chosen, members, np.ones(200))
    assert parity == pytest.approx(demographic_parity_difference(labels, chosen, sensitive_features=groups))
    assert odds == pytest.approx(equalized_odds_difference(labels, chosen, sensitive_features=groups))


class Command:
    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("true",)


class Evaluated:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1",)


MLMODEL = "flavors: {sklearn: {pickled_model: model.pkl, serialization_format: cloudpickle}}\n"


def model_folder(folder: Path, **files: bytes) -> Path:
    (folder / "MLmodel").write_text(MLMODEL)
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


TRUSTED = ["sklearn", "numpy"]


def test_scan_passes_an_honest_pickle(tmp_path: Path) -> None:
    honest = pickle.dumps(DecisionTreeClassifier().fit([[0], [1]], [0, 1]))
    assert scan(model_folder(tmp_path, model_dot_pkl=honest), TRUSTED) == []


@pytest.mark.parametrize(
    "name",
    ["model_dot_pkl", "notes_dot_txt", "weights_dot_onnx", "data__inner__blob", "input_example_dot_json"],
)
@pytest.mark.parametrize("payload", [Command, Evaluated])
def test_scan_finds_code_whatever_the_file_is_called(tmp_path: Path, name: str, payload: type) -> None:
    for protocol in (2, 4, 5):
        found = scan(model_folder(tmp_path, **{name: pickle.dumps(payload(), protocol)}), TRUSTED)
        assert any(finding.level == "danger" for finding in found), (name, protocol)


def test_scan_reads_text_pickles_where_pickle_loads_them(tmp_path: Path) -> None:
    found = scan(model_folder(tmp_path, model_dot_pkl=pickle.dumps(Command(), 0)), TRUSTED)
    assert any(finding.level == "danger" for finding in found)


def test_scan_opens_archives(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "inner.zip", "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps(Command()))
    content = (tmp_path / "inner.zip").read_bytes()
    (tmp_path / "inner.zip").unlink()
    assert scan(model_folder(tmp_path, weights_dot_pt=content), TRUSTED)


@pytest.mark.parametrize(
    ("mlmodel", "said"),
    [
        ("flavors: {python_function: {loader_module: os}}", "loaded by the module os"),
        ("flavors: {python_function: {loader_module: mlflow.sklearn, code: code}}", "brings code of its own"),
        ("flavors: {sklearn: {pickled_model: a.skops, serialization_format: cloudpickle}}", "cannot be read"),
    ],
)
def test_scan_reads_what_mlflow_would_load(tmp_path: Path, mlmodel: str, said: str) -> None:
    (tmp_path / "MLmodel").write_text(mlmodel)
    (tmp_path / "a.skops").write_bytes(b"garbage")
    assert any(said in str(finding) for finding in scan(tmp_path, TRUSTED))


def test_scan_finds_programs(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, setup_dot_py=b"x = 1")
    assert [str(finding) for finding in scan(folder, TRUSTED)] == ["setup.py: is a program (danger)"]
