"""The checks: each verdict for a reason, and no way to pass by breaking one."""

import dataclasses
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    mean_absolute_error,
    mean_squared_error,
    roc_auc_score,
    root_mean_squared_error,
)
from sklearn.tree import DecisionTreeClassifier

from majlis.control.containment import told
from majlis.errors import Invalid
from majlis.governance.behaviour import EVERY, alone, differences
from majlis.governance.checks import Limits, Subject, code, code_digest
from majlis.governance.labels import aligned, chosen, coded, declared
from majlis.governance.scan import scan
from majlis.governance.signature import WIDENING, incompatible
from majlis.registry.artifacts import Description
from majlis.registry.formats import agreement

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
    expected = dict.fromkeys(EVERY, "passed") | {"dependencies": "skipped"}  # there is no list of advisories
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
    assert verdict("calibration", subject, labels=hours, predict=double)[0] == "skipped"


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


GUST = column("gust")


def tensor(name: str, dtype: str, *shape: int) -> dict[str, Any]:
    return {"name": name, "type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [*shape]}}


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ([column("wind")], [column("wind"), column("gust", required=False)], ""),
        ([column("wind")], [column("wind"), GUST], "gust is new and required"),
        ([column("wind"), GUST], [column("wind")], "gust was an input and is none"),
        ([column("wind")], [], "wind was an input and is none"),
        ([column("wind")], [column("wind", required=False)], ""),
        ([column("wind", required=False)], [column("wind")], "wind was optional and is required"),
        ([column("wind"), GUST], [GUST, column("wind")], ""),
        ([tensor("x", "float32", -1, 8)], [tensor("x", "float32", -1, 8)], ""),
        ([tensor("x", "float32", -1, 8)], [tensor("x", "float32", -1, -1)], ""),
        (
            [tensor("x", "float32", -1, -1)],
            [tensor("x", "float32", -1, 8)],
            "x was tensor float32 [-1, -1] and is tensor float32 [-1, 8]",
        ),
        (
            [tensor("x", "float32", -1, 8)],
            [tensor("x", "float64", -1, 8)],
            "x was tensor float32 [-1, 8] and is tensor float64 [-1, 8]",
        ),
        (
            [tensor("x", "float32", -1, 8)],
            [column("x", "float")],
            "x was tensor float32 [-1, 8] and is float",
        ),
    ],
)
def test_compatibility_with_what_is_served(
    before: list[dict[str, Any]], after: list[dict[str, Any]], fault: str
) -> None:
    assert "; ".join(incompatible(described(*before), described(*after))) == fault


KINDS = ("boolean", "integer", "long", "float", "double", "string", "datetime", "binary")


@pytest.mark.parametrize("old", KINDS)
@pytest.mark.parametrize("new", KINDS)
def test_types_may_only_widen(old: str, new: str) -> None:
    faults = incompatible(described(column("x", old)), described(column("x", new)))
    assert faults == ([] if old == new or (old, new) in WIDENING else [f"x was {old} and is {new}"])


@pytest.mark.parametrize(("old", "new"), sorted(WIDENING))
def test_the_gateway_takes_what_the_rules_call_wider(old: str, new: str) -> None:
    """Whatever a caller could send to the old column goes through the signature of the new one."""
    from majlis.serving.signature import KINDS as SERVED

    before, after = SERVED[old], SERVED[new]
    assert before.v2 in after.accepts and before.python <= after.python
    assert not after.high or (after.low <= before.low and before.high <= after.high)


@pytest.mark.parametrize(
    ("outputs", "fault"),
    [
        ([{"type": "double"}, {"type": "long"}], ""),
        ([], "the answer 0 is gone"),
        ([{"type": "float"}], "the answer 0 was double and is float"),
        ([{"type": "double", "name": "p"}], "the answer 0 is gone"),
    ],
)
def test_answers_stay(outputs: list[dict[str, Any]], fault: str) -> None:
    wind = column("wind")
    after = dataclasses.replace(described(wind), signature={"inputs": [wind], "outputs": outputs})
    assert "; ".join(incompatible(described(wind), after)) == fault


def with_example(subject: Subject, frame: pd.DataFrame) -> Subject:
    """The subject, logged with an example as MLflow keeps it."""
    signature = (
        'signature: {inputs: \'[{"name": "wind", "type": "double"}]\', outputs: \'[{"type": "double"}]\'}'
    )
    info = "{artifact_path: example.json, type: dataframe, pandas_orient: split}"
    (subject.folder / "MLmodel").write_text(f"flavors: {{}}\n{signature}\nsaved_input_example_info: {info}\n")
    (subject.folder / "example.json").write_text(frame.to_json(orient="split"))
    described = dataclasses.replace(subject.description, example="example.json")
    return dataclasses.replace(subject, description=described)


def test_the_example_is_answered_as_it_is_and_through_json(subject: Subject) -> None:
    example = pd.DataFrame({"wind": [1 / 3, 1e-7]})
    found = EVERY["signature"](with_example(subject, example))
    assert (found.verdict, found.evidence["example"]) == ("passed", "2 rows")
    assert EVERY["signature"](subject).evidence["example"] == "none was logged"


def test_an_example_that_is_not_answered_fails(subject: Subject) -> None:
    state, reason = verdict("signature", with_example(subject, pd.DataFrame({"gust": [1.0]})))
    assert (state, reason) == ("failed", "the example that was logged lacks wind")
    logged = with_example(subject, pd.DataFrame({"wind": [0.125, 2.0]}))
    calls: list[int] = []

    def forgetful(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
        calls.append(len(frame))
        return logistic(frame) + (0.1 if calls.count(2) > 1 else 0.0)

    state, reason = verdict("signature", logged, predict=forgetful)
    assert state == "failed" and "after JSON" in reason
    state, reason = verdict(
        "signature", logged, predict=lambda f: logistic(f)[: max(1, len(f) - (len(f) == 2))]
    )
    assert (state, reason) == ("failed", "the example has 2 rows and 1 answers came")


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


def test_slices_are_compared_by_quality(subject: Subject) -> None:
    """Groups that get a positive answer equally often, and a right one unequally often."""
    rng = np.random.default_rng(4)
    group, labels = rng.choice(["a", "b"], 1500), rng.integers(0, 2, 1500)
    guess = np.where(group == "a", labels, rng.integers(0, 2, 1500)).astype(float)
    rows = pd.DataFrame({"wind": guess, "region": group})
    lenient = Limits(bootstrap_resamples=50, fairness_difference_max=1.0)
    unequal = dataclasses.replace(
        subject,
        rows=rows,
        labels=labels,
        predict=lambda f: f.wind.to_numpy(),
        protected=("region",),
        limits=lenient,
    )
    found = EVERY["fairness"](unequal)
    value, low, high = found.evidence["attributes"]["region"]["slice_gap"]
    assert found.verdict == "failed" and "in accuracy" in found.reason
    assert low < value < high and value == pytest.approx(0.5, abs=0.06)
    wide = Limits(bootstrap_resamples=50, fairness_difference_max=1.0, slice_gap_max=0.7)
    assert EVERY["fairness"](dataclasses.replace(unequal, limits=wide)).verdict == "passed"


def test_slices_of_numbers_are_compared_by_their_error(subject: Subject) -> None:
    rng = np.random.default_rng(5)
    group, wind = rng.choice(["a", "b"], 1500), rng.normal(0, 4, 1500)
    hours = wind + rng.normal(0, 1, 1500) * np.where(group == "a", 1, 3)
    rows = pd.DataFrame({"wind": wind, "sex": group})
    numbers = dataclasses.replace(subject, rows=rows, labels=hours, predict=lambda f: f.wind.to_numpy())
    found = EVERY["fairness"](numbers)
    assert found.verdict == "failed" and found.reason.endswith("in rmse")
    alike = dataclasses.replace(numbers, labels=wind + rng.normal(0, 1, 1500))
    assert EVERY["fairness"](alike).verdict == "passed"


HOUR = pd.Timedelta(hours=1)


@pytest.mark.parametrize("late_rows", [0, 1])
def test_what_is_known_too_late_is_a_leak(subject: Subject, late_rows: int) -> None:
    asked = pd.Series(pd.date_range("2026-01-01", periods=1500, freq="h", tz="UTC"))
    measured = asked - HOUR
    measured[:late_rows] += 2 * HOUR
    rows = subject.rows.assign(asked=asked, measured=measured)
    found = EVERY["leakage"](
        dataclasses.replace(subject, rows=rows, asked_at="asked", known_at={"wind": "measured"})
    )
    if late_rows:
        assert found.reason == "wind is not known in time: measured is after asked in 1 of 1500 rows"
    assert found.verdict == ("failed" if late_rows else "passed")


def test_an_input_that_is_a_moment_is_known_then(subject: Subject) -> None:
    asked = pd.Series(pd.date_range("2026-01-01", periods=1500, freq="h", tz="UTC"))
    rows = subject.rows.assign(asked=asked, landed=asked + HOUR)
    signature = described(column("wind"), column("landed", "datetime"))
    state, reason = verdict("leakage", subject, rows=rows, description=signature, asked_at="asked")
    assert state == "failed" and "landed is not known in time: it is after asked" in reason
    assert verdict("leakage", subject, asked_at="nowhere")[0] == "failed"


def test_a_number_that_one_column_tells_is_a_leak(subject: Subject) -> None:
    hours = subject.rows.wind.to_numpy() * 2
    state, reason = verdict("leakage", subject, labels=hours, predict=lambda f: f.wind.to_numpy() * 2)
    assert state == "failed" and reason.startswith("wind alone")
    noisy = hours + np.random.default_rng(2).normal(0, 8, 1500)
    assert verdict("leakage", subject, labels=noisy)[0] == "passed"


def test_the_digest_of_a_check_covers_what_it_calls() -> None:
    from inspect import unwrap

    reached = {name.rpartition(".")[2] for name in code(unwrap(EVERY["fairness"]))}
    assert {"fairness", "compared", "differences", "spread", "slice_gap", "QUARTERS", "resample"} <= reached
    digests = [code_digest(unwrap(one)) for one in EVERY.values()]
    assert len({*digests}) == len(EVERY)


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


def test_rows_are_asked_as_the_gateway_asks_them() -> None:
    """A lake keeps whole numbers and booleans; a signature of floats takes them, missing ones too."""
    inputs = [
        column("n"),
        column("flag"),
        column("holes"),
        column("narrow", "float"),
        column("word", "string"),
    ]
    rows = pd.DataFrame(
        {
            "word": ["a", None],
            "n": [2**40, 1],
            "flag": [True, False],
            "holes": [True, None],
            "narrow": pd.array([1, None], dtype="Int32"),
            "other": [0, 0],
        }
    )
    given = declared(rows, inputs)
    assert list(given) == ["n", "flag", "holes", "narrow", "word"]
    assert [str(kind) for kind in given.dtypes] == ["float64"] * 3 + ["float32", "object"]
    assert given.n.tolist() == [2**40, 1] and given.holes.isna().tolist() == [False, True]
    whole = declared(pd.DataFrame({"n": [1, 2]}), [column("n", "long")])
    assert whole.n.dtype == np.int64  # what is declared whole stays whole
    with pytest.raises(Invalid, match="lacks word"):
        declared(rows.drop(columns="word"), inputs)


LABELS = [
    (["no", "yes"], pd.Series(["yes", "no"])),
    ([3, 5, 9], pd.Series([5, 3])),
    ([False, True], pd.Series([True, False])),
    ([0.0, 1.0], pd.Series([1, 0])),
    (["a", "b"], pd.Series(["b", "a"], dtype="category")),
    (["a", "b"], pd.Series(["b", "a"], dtype="string")),
    ([0, 1], pd.Series([1, 0], dtype="Int64")),
]


@pytest.mark.parametrize(("classes", "labels"), LABELS)
def test_labels_are_places_among_the_classes_of_the_model(classes: list[Any], labels: pd.Series) -> None:
    assert coded(labels, classes).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "classes", "said"),
    [
        (pd.Series(["a", None], name="y"), ["a"], "1 of 2 rows have no label in y"),
        (pd.Series([1.0, np.nan], name="y"), [], "1 of 2 rows have no label in y"),
        (pd.Series(["a", "c"], name="y"), ["a", "b"], "does not know: 'c'"),
        (pd.Series([0, 7], name="y"), [0, 1], "does not know: 7"),
        (pd.Series(["a", "b"], name="y"), [], "log_classifier"),
        (pd.Series(pd.to_datetime(["2024-01-01"]), name="y"), [], "log_classifier"),
    ],
)
def test_a_label_without_a_place_is_refused(labels: pd.Series, classes: list[Any], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        coded(labels, classes)


def test_what_is_chosen_is_what_scikit_learn_chooses() -> None:
    rng = np.random.default_rng(4)
    for classes in (2, 5):
        table = rng.dirichlet(np.ones(classes), 200)
        labels = rng.integers(0, classes, 200)
        wanted = accuracy_score(labels, table.argmax(1))
        assert (chosen(table) == labels).mean() == wanted
    column = table[:, :1]
    assert (chosen(column) == (column.ravel() >= 0.5)).all()


def test_accuracy_must_beat_the_commonest_class(subject: Subject) -> None:
    """Of a rare event: whoever always says no is right 99 times of 100, and knows nothing."""
    rare = (np.arange(len(subject.rows)) % 100 == 0).astype(int)
    always_no = np.column_stack([np.ones(len(rare)), np.zeros(len(rare))])
    state, reason = verdict(
        "better_than_baseline",
        subject,
        labels=rare,
        predict=lambda frame: always_no[: len(frame)],
        claimed={"accuracy": accuracy_score(rare, np.zeros(len(rare)))},
    )
    assert state == "failed" and "trivial baseline" in reason


def test_the_baseline_of_an_error_is_the_best_constant(subject: Subject) -> None:
    """Whole numbers may be amounts: the median for the absolute error, the mean for the squared one."""
    prices = (100 * np.exp(subject.rows.wind.to_numpy() / 4)).astype(int)
    for metric, constant in (("mae", np.median(prices)), ("rmse", prices.mean())):
        state, reason = verdict(
            "better_than_baseline",
            subject,
            labels=prices,
            predict=lambda frame, constant=constant: np.full(len(frame), constant),
            claimed={
                metric: float(
                    {"mae": mean_absolute_error, "rmse": root_mean_squared_error}[metric](
                        prices, np.full(len(prices), constant)
                    )
                )
            },
        )
        assert state == "failed" and "trivial baseline" in reason, metric
    close = dataclasses.replace(
        subject, labels=prices, predict=lambda frame: 100 * np.exp(frame.wind.to_numpy(float) / 4) + 0.25
    )
    assert not close.several and EVERY["better_than_baseline"](close).evidence["metric"] == "rmse"
    assert EVERY["leakage"](close).verdict == "failed"  # wind alone tells it


def test_several_answers_where_one_is_measured_are_refused(subject: Subject) -> None:
    state, reason = verdict(
        "better_than_baseline",
        subject,
        labels=subject.rows.wind.to_numpy(),
        predict=lambda frame: np.ones((len(frame), 2)) * 0.5,
    )
    assert state == "error" and "2 numbers" in reason


def test_rows_of_one_class_are_told_to_measure_nothing(subject: Subject) -> None:
    for claimed in ({}, {"roc_auc": 0.9}):
        found = EVERY["better_than_baseline"](
            dataclasses.replace(subject, labels=np.zeros(len(subject.rows), int), claimed=claimed)
        )
        assert found.verdict == "failed" and "every label is 0" in found.reason
        assert "found" not in found.evidence  # nothing that is no number reaches the card


def test_the_order_in_which_classes_were_learned_does_not_count() -> None:
    wanted = ["high", "low", "mid"]
    table = np.array([[0.7, 0.2, 0.1]])
    for own in (["low", "mid", "high"], ["mid", "low", "high"], ["high", "mid", "low"], wanted):
        answers = aligned(lambda frame, own=own: table, own, wanted)(pd.DataFrame())
        assert {name: answers[0, wanted.index(name)] for name in own} == dict(zip(own, table[0], strict=True))
    words = aligned(lambda frame: frame.said.to_numpy(), [], wanted)
    assert words(pd.DataFrame({"said": ["mid", "high", "?"]})).tolist() == [2, 0, -1]
    with pytest.raises(Invalid, match="log_classifier"):
        aligned(lambda frame: table, [], wanted)(pd.DataFrame())


def test_forms_of_a_model_of_amounts_agree_by_digits() -> None:
    """A 32-bit float holds seven digits: of a probability that is 1e-7, of a price of a million a tenth."""
    prices = np.array([1e6, 2.5, 0.125])
    assert agreement(prices, prices.astype(np.float32)[:, None]) == 0
    assert agreement(prices * 1.0000001, prices) == pytest.approx(1e-7, rel=0.1)
    assert agreement(np.array([0.25]), np.array([0.2501])) == pytest.approx(1e-4)
    assert agreement(np.ones(3), np.ones((3, 2))) == math.inf


def test_what_a_model_refuses_is_told_in_a_sentence() -> None:
    rows = pd.DataFrame({"n": range(900)})
    error = MlflowException(f"Failed to enforce schema of data '{rows}' with schema 'x'. Error: n is an int.")
    assert told(error) == "MlflowException: n is an int."
    assert len(told(ValueError("too\nlong " * 400))) <= 500 and "\n" not in told(ValueError("a\nb"))


def test_a_wide_table_is_disturbed_in_few_questions(subject: Subject) -> None:
    """Every column still is, and a value that one of them may not have spoils no other."""
    names = [f"x{number}" for number in range(600)]
    rows = pd.DataFrame(np.random.default_rng(2).random((600, 600)), columns=names)
    asked: list[int] = []

    def mean(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
        asked.append(len(frame))
        if frame.x7.isna().any():
            raise ValueError("x7 is missing")
        p = np.clip(frame.fillna(0.5).to_numpy().mean(1), 0, 1)
        return np.column_stack([1 - p, p])

    wide = dataclasses.replace(
        subject,
        rows=rows,
        labels=np.arange(600) % 2,
        description=described(*map(column, names)),
        predict=mean,
    )
    found = EVERY["robustness"](wide)
    assert found.verdict == "passed" and found.evidence["refused"] == ["x7 missing"]
    assert len(found.evidence["changes"]) == 2 * 600 - 1
    assert len(asked) < 80 and max(asked) <= 500


def test_a_model_that_refuses_nearly_everything_is_not_asked_for_ever(subject: Subject) -> None:
    """One with a strict schema of whole numbers refuses every question; the verdict says how far it got."""
    names = [f"n{number}" for number in range(1200)]
    rows = pd.DataFrame(np.random.default_rng(3).integers(0, 9, (40, 1200)), columns=names)
    asked: list[int] = []

    def strict(frame: pd.DataFrame) -> np.ndarray[Any, Any]:
        asked.append(len(frame))
        if (frame.dtypes != np.int64).any():
            raise TypeError("whole numbers only")
        return np.full((len(frame), 2), 0.5)

    whole = described(*(column(name, "long") for name in names))
    wide = dataclasses.replace(
        subject, rows=rows, labels=np.arange(40) % 2, description=whole, predict=strict
    )
    found = EVERY["robustness"](wide)
    reached = found.evidence["columns"]
    assert found.verdict == "passed" and f"the first {reached} of 1200 columns" in found.reason
    assert len(found.evidence["refused"]) in (2 * reached, 2 * reached - 1)
    assert 100 < len(asked) < 1200


@pytest.mark.parametrize("digits", [1, 8])
def test_what_one_column_tells_is_the_area_under_the_curve(digits: int) -> None:
    rng = np.random.default_rng(4)
    labels = (rng.random(500) < 0.3).astype(float)
    score = np.round(rng.normal(0, 1, 500) - labels, digits)  # few digits make ties
    area = roc_auc_score(labels, score)
    assert area < 0.5 and math.isclose(alone(pd.Series(score), labels), 1 - area)
    assert math.isclose(alone(pd.Series(-score), labels + 1), 1 - area)  # whatever the classes are called


def test_the_rows_of_a_wide_table_are_made_ready_once(subject: Subject) -> None:
    """Not once for each of its columns."""
    asked: list[str] = []

    class Counted(Subject):
        @property
        def inputs(self) -> pd.DataFrame:
            asked.append("inputs")
            return super().inputs

    names = [f"x{number}" for number in range(50)]
    rng = np.random.default_rng(5)
    rows = pd.DataFrame(rng.random((1500, 50)), columns=names)
    labels = (rows.x1 > rng.random(1500)).to_numpy(int)
    wide = Counted(subject.folder, described(*map(column, names)), lambda frame: frame.x1, rows, labels)
    found = EVERY["leakage"](wide)
    assert found.verdict == "passed", found
    assert len(asked) < 3
