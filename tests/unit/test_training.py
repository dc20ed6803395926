"""Metrics are scikit-learn's, intervals are honest, runs are on record, networks resume to the bit."""

import datetime
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from majlis.errors import Conflict, Invalid, NotFound
from majlis.monitoring.performance import Period, State, judge, periods
from majlis.monitoring.predictions import LOG, Predictions, join_labels, segments, wait_for
from majlis.settings import Settings, load
from majlis.training.evaluation import (
    Interval,
    Ranked,
    best,
    calibration,
    compare,
    evaluate,
    evaluate_by,
    prior,
    resample,
    wilson,
)
from majlis.training.graph import to_onnx
from majlis.training.models import log_classifier, log_graph, log_regressor, numbers32, plain_columns
from majlis.training.network import Mlp, Plan, fit, probabilities
from majlis.training.search import Choice, Integer, Real, params_at, search
from majlis.training.tracking import environment, track

CPU = torch.device("cpu")


# --- evaluation


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=2, max_size=80).filter(
        lambda rows: len({label for label, _ in rows}) == 2
    )
)
@effort(max_examples=200, deadline=None)
def test_metrics_are_scikit_learns(rows: list[tuple[bool, int]]) -> None:
    y = np.array([label for label, _ in rows], float)
    p = np.array([score / 10 for _, score in rows])
    ranked, ones = Ranked(y, p), np.ones(len(y))
    assert ranked.pr_auc(ones) == pytest.approx(average_precision_score(y, p))
    assert ranked.roc_auc(ones) == pytest.approx(roc_auc_score(y, p))
    assert ranked.brier(ones) == pytest.approx(brier_score_loss(y, p))


@given(st.integers(0, 2**32 - 1))
@effort(max_examples=50, deadline=None)
def test_weights_mean_repeated_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, p = np.append(rng.integers(0, 2, 30), [0, 1]).astype(float), rng.integers(0, 9, 32) / 8
    times = rng.integers(0, 4, 32)
    times[-2:] = 1
    ranked = Ranked(y, p)
    assert ranked.pr_auc(times[ranked.order].astype(float)) == pytest.approx(
        average_precision_score(np.repeat(y, times), np.repeat(p, times))
    )


def test_resamples_are_reproducible_and_draw_groups_whole() -> None:
    groups = np.repeat(np.arange(7), 5)
    blocks = [np.concatenate(list(resample(35, 40, seed=3, groups=groups))) for _ in range(2)]
    assert np.array_equal(*blocks) and blocks[0].shape == (40, 35)
    assert (blocks[0].reshape(40, 7, 5).std(axis=2) == 0).all()


def test_intervals_do_not_depend_on_the_model() -> None:
    """Two models on the same rows are judged on the same resamples."""
    rng = np.random.default_rng(0)
    y, day = rng.integers(0, 2, 300), np.repeat(np.arange(30), 10)
    first, second = (evaluate(y, rng.random(300), groups=day) for _ in range(2))
    assert first.base_rate == second.base_rate and first.pr_auc != second.pr_auc


def test_one_class_only_is_said_not_hidden() -> None:
    found = evaluate([0, 0, 0], [0.1, 0.2, 0.3])
    assert np.isnan(found.pr_auc.value) and np.isnan(found.roc_auc.low)
    assert found.base_rate == Interval(0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([], [], "0 labels"),
        ([0, 1], [0.5], "2 labels and 1 probabilities"),
        ([0, np.nan], [0.5, 0.5], "label nan"),
        ([0, 1], [0.5, 1.5], "probability 1.5"),
        ([0, 1], [0.5, np.nan], "probability nan"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(labels: list[float], scores: list[float], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        evaluate(labels, scores)


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(Invalid, match="(?s)accuracy.*pr_auc"):
        compare([0, 1], [0.1, 0.2], [0.1, 0.2], metric="accuracy")


def test_a_worse_model_loses_and_groups_are_kept() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 2000)
    good, bad = np.clip(y * 0.4 + rng.random(2000) * 0.6, 0, 1), rng.random(2000)
    duel = compare(y, good, bad, groups=np.repeat(np.arange(100), 20))
    assert duel.decided and duel.difference.high < 0 and duel.wins == 0.0


def test_by_group_and_best() -> None:
    rng = np.random.default_rng(2)
    y, month = rng.integers(0, 2, 600), np.repeat([10, 11, 12], 200)
    found = evaluate_by(month, y, rng.random(600), resamples=20)
    assert list(found) == [10, 11, 12] and all(part.rows == 200 for part in found.values())
    results = {"prior": evaluate(y, prior(y, 600)), "oracle": evaluate(y, y.astype(float))}
    assert best(results) == "oracle" and results["oracle"].pr_auc.value == 1.0


def test_calibration_keeps_every_row_and_wilson_stays_inside() -> None:
    rng = np.random.default_rng(3)
    found = calibration(rng.integers(0, 2, 103), rng.random(103), bins=10)
    assert found.rows.sum() == 103 and found.promised.is_monotonic_increasing
    low, high = wilson([0, 5, 10], [10, 10, 10])
    assert (low >= -1e-12).all() and (high <= 1 + 1e-12).all() and (low < high).all()


# --- tracking


@dataclass(frozen=True)
class Table:
    name: str
    version: int


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load(environ={"MAJLIS_WORKBENCH_HOME": str(tmp_path_factory.mktemp("home"))})


def test_a_run_knows_its_data_code_environment_principal_and_cost(
    bench: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_USER", "noor")
    with track("unit", [Table("gold.x", 3)], {"depth": 2}, settings=bench) as run:
        run.log({"loss": 0.5}, step=1)
    seen = mlflow.get_run(run.id)
    tags = seen.data.tags
    assert tags["majlis.principal"] == "noor" and tags["majlis.table.gold.x"] == "3"
    assert len(tags["majlis.code"]) == len(tags["majlis.environment"]) == len(tags["majlis.lock"]) == 64
    assert {"cost/cpu_seconds", "cost/wall_seconds", "cost/peak_memory_mib"} <= set(seen.data.metrics)
    assert [(d.dataset.name, d.dataset.digest) for d in seen.inputs.dataset_inputs] == [("gold.x", "v3")]
    assert seen.data.params == {"depth": "2"}


def test_a_run_that_raises_is_failed_and_lets_the_error_through(bench: Settings) -> None:
    with pytest.raises(KeyError, match="lost"), track("unit", settings=bench) as run:
        raise KeyError("lost")
    seen = mlflow.get_run(run.id)
    assert seen.info.status == "FAILED" and "KeyError" in seen.data.tags["majlis.error"]
    assert seen.data.metrics["cost/wall_seconds"] >= 0 and mlflow.active_run() is None


def test_a_tracking_server_in_the_environment_wins(
    bench: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    elsewhere = f"sqlite:///{tmp_path}/new/mlflow.sqlite"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", elsewhere)
    with track("unit", settings=bench) as run:
        assert mlflow.get_tracking_uri() == elsewhere
    assert mlflow.get_run(run.id).info.status == "FINISHED"


def test_what_mlflow_itself_wrote_into_the_environment_does_not_win(bench: Settings, tmp_path: Path) -> None:
    """MLflow writes the server that it was pointed at into the environment; the next workbench is another."""
    other = load(environ={"MAJLIS_WORKBENCH_HOME": str(tmp_path)})
    for settings in (bench, other, bench):
        with track("unit", settings=settings):
            assert mlflow.get_tracking_uri() == settings.tracking.url == os.environ["MLFLOW_TRACKING_URI"]


def test_the_environment_is_what_is_installed() -> None:
    found = environment()
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert found.pins(["mlflow"]) == [f"mlflow=={mlflow.__version__}"]
    assert environment().digest == found.digest


# --- networks and models


def toy(rows: int = 600) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(rows, 4)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(int)


def fresh() -> Mlp:
    torch.manual_seed(1)
    return Mlp(4, hidden=(16,))


@pytest.mark.parametrize("stop", [0, 2, 3])
def test_a_resumed_training_is_the_same_training(stop: int, tmp_path: Path) -> None:
    x, y = toy()
    plan = Plan(epochs=4, batch=64)
    whole, kept = fresh(), tmp_path / "deep" / "checkpoint.pt"
    losses = fit(whole, x, y, plan, device=CPU)

    def killed(epoch: int, loss: float) -> None:
        if epoch == stop:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(fresh(), x, y, plan, device=CPU, checkpoint=kept, after_epoch=killed)
    second = Mlp(4, hidden=(16,))  # other first weights: the checkpoint has to bring everything
    assert fit(second, x, y, plan, device=CPU, checkpoint=kept) == losses
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))
    assert list(kept.parent.iterdir()) == [kept]


def test_a_finished_training_is_not_repeated_and_another_plan_is_refused(tmp_path: Path) -> None:
    x, y = toy()
    kept = tmp_path / "checkpoint.pt"
    plan = Plan(epochs=2, batch=64)
    losses = fit(fresh(), x, y, plan, device=CPU, checkpoint=kept)
    written = kept.stat().st_mtime_ns
    assert fit(fresh(), x, y, plan, device=CPU, checkpoint=kept) == losses
    assert kept.stat().st_mtime_ns == written
    with pytest.raises(Conflict, match="seed=1"):
        fit(fresh(), x, y, Plan(epochs=2, batch=64, seed=1), device=CPU, checkpoint=kept)


def test_a_graph_answers_as_the_network_and_is_served_without_torch(bench: Settings) -> None:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    x, y = toy()
    frame = pd.DataFrame(x, columns=list("abcd")).assign(word=np.where(x[:, 2] > 0, "up", "down"))
    frame.loc[::7, "a"] = np.nan
    words, numbers = ["word"], list("abcd")
    scaled = make_pipeline(numbers32(), SimpleImputer(), StandardScaler())
    prepare = ColumnTransformer(
        [("w", OneHotEncoder(handle_unknown="ignore", sparse_output=False), words), ("n", scaled, numbers)]
    )
    rows = plain_columns(frame[[*words, *numbers]])
    network = Mlp(6, hidden=(16,))
    prepared = prepare.fit_transform(rows).astype(np.float32)
    fit(network, prepared, y, Plan(epochs=2, batch=64), device=CPU)
    with track("unit", settings=bench) as run:
        address = log_graph(run, to_onnx(prepare, network, words, numbers), rows.head())
    served = mlflow.pyfunc.load_model(address)
    answer = served.predict(rows)
    assert answer.shape == (600, 2)
    assert np.abs(answer[:, 1] - probabilities(network, prepared)).max() < 1e-5
    assert served.predict(rows.head(1).assign(word=["sideways"])).shape == (1, 2)


def test_a_classifier_says_which_class_is_which(bench: Settings) -> None:
    frame = pd.DataFrame({"x": np.arange(90.0)})
    for labels in (["low", "mid", "top"], [3, 5, 8]):
        model = LogisticRegression().fit(frame, np.repeat(labels, 30))
        with track("unit", settings=bench) as run:
            address = log_classifier(run, model, frame.head())
        assert mlflow.models.get_model_info(address).metadata["classes"] == labels


def test_a_regressor_is_logged_as_one(bench: Settings) -> None:
    frame = pd.DataFrame({"x": np.arange(30.0), "n": range(30)})
    model = LinearRegression().fit(frame, frame.x * 2)
    with track("unit", settings=bench) as run:
        with pytest.raises(Invalid, match="log_regressor"):
            log_classifier(run, model, frame.head())
        address = log_regressor(run, model, frame.head())
    assert np.allclose(mlflow.pyfunc.load_model(address).predict(plain_columns(frame)), frame.x * 2)


def test_serving_a_graph_imports_neither_torch_nor_scikit_learn() -> None:
    code = "import sys, majlis.training.graph as g; print(sorted({'torch', 'sklearn'} & set(sys.modules)))"
    python = [sys.executable, "-c", code]
    done = subprocess.run(python, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_integers_become_floats_so_that_they_can_be_missing() -> None:
    found = plain_columns(pd.DataFrame({"n": [1, 2], "flag": [True, False], "word": ["a", None]}))
    assert [str(kind) for kind in found.dtypes] == ["float64", "float64", "object"]
    assert found.word.isna().tolist() == [False, True]


def test_trees_agree_in_32_and_64_bits() -> None:
    from sklearn.pipeline import make_pipeline

    rng = np.random.default_rng(0)
    x = rng.normal(40, 9, (2000, 3)).round(2)
    y = (x[:, 0] > 40).astype(int)
    model = make_pipeline(numbers32(), HistGradientBoostingClassifier(max_iter=10)).fit(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(model.predict_proba(x), model.predict_proba(x.astype(np.float32)))


# --- the prediction log

NOON = datetime.datetime(2013, 11, 1, 12, tzinfo=datetime.UTC)


def logged(day: int, rows: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": [f"{day}-{row}" for row in range(rows)],
            "at": [NOON.replace(day=day)] * rows,
            "inputs": [f'{{"x": {row}.5, "y": null}}' for row in range(rows)],
            "outputs": ["[0.25, 0.75]"] * rows,
            "release": ["r1"] * rows,
        },
        schema={name: LOG[name] for name in ("id", "at", "inputs", "outputs", "release")},
    )


@pytest.mark.parametrize("answer", ['["late"]', "late", '["0.5", "late"]'])
def test_answers_in_words_are_told_to_have_no_score(answer: str) -> None:
    with pytest.raises(Invalid, match="no score"):
        Predictions.parse(logged(1, 2).with_columns(outputs=pl.lit(answer)))


def test_segments_of_a_window(tmp_path: Path) -> None:
    assert segments(tmp_path, "nothing").is_empty()
    for day in (1, 2, 3):
        folder = tmp_path / "flights" / f"date=2013-11-{day:02d}"
        folder.mkdir(parents=True)
        logged(day, 2).write_parquet(folder / "part.parquet")
        (folder / ".next.parquet").write_bytes(b"half a segment")
    assert len(segments(tmp_path, "flights")) == 6
    found = segments(tmp_path, "flights", since=NOON.replace(day=2), until=NOON.replace(day=3))
    assert found["id"].to_list() == ["2-0", "2-1"]


def test_a_log_that_does_not_exist_yet_is_waited_for() -> None:
    answers = iter([NotFound("no prediction is logged yet"), logged(1, 2)])

    def fetch() -> pl.DataFrame:
        answer = next(answers)
        if isinstance(answer, NotFound):
            raise answer
        return answer

    assert len(wait_for(fetch, 2, every_seconds=0.001)) == 2


def test_a_column_that_was_never_given_is_null_and_single_outputs_are_one_column() -> None:
    found = Predictions.parse(logged(1, 3).with_columns(outputs=pl.lit("0.5")))
    assert found.inputs["y"].null_count() == 3 and found.outputs.shape == (3, 1)
    assert found.score.tolist() == [0.5] * 3 and "3 rows" in repr(found)


def test_labels_join_by_inputs_with_missing_values_and_32_bits() -> None:
    found = Predictions.parse(logged(1, 3))
    labels = pl.DataFrame({"x": [0.5 + 1e-12, 1.5], "y": [None, None], "label": [1, 0]}, strict=False)
    joined = join_labels(found, labels.with_columns(pl.col("y").cast(pl.Float64)), on=["x", "y"])
    assert joined.frame["label"].to_list() == [1, 0] and joined.waiting == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (pl.DataFrame({"id": ["a"]}), "no column 'label'"),
        (pl.DataFrame({"key": ["a"], "label": [1]}), "no column 'id'"),
        (pl.DataFrame({"id": ["a", "a"], "label": [1, 0]}), "share their key"),
    ],
)
def test_labels_that_cannot_be_joined_are_refused(labels: pl.DataFrame, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        join_labels(Predictions.parse(logged(1, 1)), labels)


# --- search

SPACE = {"x": Real(0.01, 1, log=True), "n": Integer(1, 9), "word": Choice(("a", "b"))}


def bowl(params: dict[str, object]) -> float:
    return (
        -((np.log10(float(params["x"])) + 1) ** 2)
        - (int(params["n"]) - 5) ** 2 / 16
        - (params["word"] == "a")
    )


@given(st.floats(0, 1, exclude_max=True))
def test_every_place_of_the_unit_interval_is_a_value(u: float) -> None:
    found = params_at(SPACE, [u, u, u])
    assert 0.01 <= found["x"] <= 1 and found["n"] in range(1, 10) and found["word"] in ("a", "b")


def test_integers_are_drawn_evenly() -> None:
    drawn = [Integer(1, 4).at(u) for u in np.arange(0, 1, 0.001)]
    assert np.bincount(drawn)[1:].tolist() == [250] * 4


def test_a_bayesian_search_finds_the_bowl_s_bottom_and_goes_round_failures() -> None:
    def touchy(params: dict[str, object]) -> float:
        if params["n"] == 1:
            raise ValueError("too small")
        return bowl(params)

    found = search(touchy, SPACE, trials=24, seed=4)
    assert found.best.value > -0.1 and found.best.params["word"] == "b"
    assert len(found.trials) == 24 and [trial.number for trial in found.trials] == list(range(24))


def test_a_search_is_kept_with_its_run(bench: Settings) -> None:
    with track("unit", settings=bench) as run:
        found = search(bowl, SPACE, "grid", trials=100, levels=3, run=run)
    best = mlflow.artifacts.load_dict(f"runs:/{run.id}/search/best.json")
    assert best == found.best.params and len(found.trials) == 3 * 3 * 2
    assert mlflow.get_run(run.id).data.metrics["search/best"] == pytest.approx(found.best.value)


@pytest.mark.parametrize("wrong", [lambda: Real(1, 1), lambda: Real(0, 1, log=True), lambda: Integer(3, 2)])
def test_an_empty_dimension_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(Invalid, match="is empty"):
        wrong()


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(Invalid, match="'annealing'"):
        search(bowl, SPACE, "annealing")


# --- performance


def served(weeks: int, strength: float, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, 300 * weeks)
    at = [NOON + datetime.timedelta(minutes=33 * row) for row in range(300 * weeks)]
    score = 1 / (1 + np.exp(-(rng.normal(size=len(label)) + strength * label)))
    return pl.DataFrame({"at": at, "score": score, "label": label})


def test_one_bad_week_is_no_alarm_and_two_are() -> None:
    reference = Interval(0.85, 0.82, 0.88)
    good, bad = (periods(served(1, strength, 1), every="30d", resamples=50) for strength in (1.6, 0.2))
    once, twice = (judge([*good[:1], *bad[:1] * times, *good[:1]], reference) for times in (1, 2))
    assert once.alarm is None and State.DECAYED in once.states
    assert twice.alarm is not None and "decayed" in twice.summary and "decayed" in twice._repr_html_()


def test_unknown_periods_neither_help_nor_hurt() -> None:
    bad = periods(served(1, 0.2, 1), every="30d", resamples=50)[0]
    silent = Period(NOON, 0, 0, None)
    found = judge([bad, silent, bad], Interval(0.85, 0.82, 0.88))
    assert found.states[1] is State.UNKNOWN and found.alarm is not None
    assert judge([silent], Interval(0.85, 0.82, 0.88)).alarm is None


def test_the_columns_of_labelled_predictions_are_asked_for() -> None:
    with pytest.raises(Invalid, match="'day'"):
        periods(served(1, 1.0, 1), groups="day")
