"""Outcomes: equals are seldom told apart however often one looks, and the difference is the true one."""

import json
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from majlis.errors import Invalid
from majlis.monitoring.outcomes import Question, outcome
from majlis.serving.rollout import Measure
from tests.support.sequences import counted, measured

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def log(revisions: list[str], scores: list[float], shadow: bool = False) -> pl.DataFrame:
    """A prediction log with one score a row."""
    rows = len(revisions)
    return pl.DataFrame(
        {
            "id": [f"r{row}" for row in range(rows)],
            "revision": revisions,
            "inputs": ['{"x": 1.0}'] * rows,
            "outputs": [json.dumps([score]) for score in scores],
            "shadow": [shadow] * rows,
        }
    )


def labels(values: list[float | None]) -> pl.DataFrame:
    """What happened, in the log's order."""
    known = {"id": [f"r{row}" for row in range(len(values))], "label": values}
    return pl.DataFrame(known, schema={"id": pl.String, "label": pl.Float64})


@pytest.mark.parametrize("level", [0.01, 0.05])
def test_equals_are_seldom_told_apart_though_one_looks_after_every_batch(level: float) -> None:
    generator, rate = np.random.default_rng(3), np.array([0.8])
    coin = counted(generator, 3_000, 30, 200, 0.5, rate, rate).apart(level)
    number = measured(generator, 3_000, 30, 100, (1, 4), (1, 4)).apart(level)
    assert coin.any((1, 2)).mean() <= level and number.any(1).mean() <= level


def test_a_difference_is_found() -> None:
    generator = np.random.default_rng(4)
    coin = counted(generator, 200, 60, 200, 0.5, np.array([0.8]), np.array([0.88]))
    assert coin.apart(0.01).any((1, 2)).mean() > 0.9
    number = measured(generator, 200, 60, 100, (2, 2), (3, 2)).apart(0.01)
    assert number.any(1).mean() > 0.9


def test_correct_is_the_share_of_right_answers() -> None:
    made = log(["1"] * 4 + ["2"] * 4, [0.9, 0.2, 0.6, 0.4, 0.9, 0.2, 0.6, 0.4])
    found = outcome(made, labels([1, 1, 1, None, 1, 0, 1, 0]), "1", "2", Question(), 0.05, NOW)
    assert (found.rows, found.waiting) == ((3, 4), 1)
    assert (found.stable, found.candidate) == (pytest.approx(2 / 3), 1.0)
    strict = outcome(made, labels([1, 0, 0, 0] * 2), "1", "2", Question(threshold=0.7), 0.05, NOW)
    assert (strict.stable, strict.candidate) == (1.0, 1.0)


def test_the_class_with_the_largest_probability_is_the_answer() -> None:
    made = log(["1", "2"], [0.0, 0.0]).with_columns(outputs=pl.Series(["[0.2, 0.5, 0.3]", "[0.6, 0.2, 0.2]"]))
    found = outcome(made, labels([1, 1]), "1", "2", Question(), 0.05, NOW)
    assert (found.stable, found.candidate) == (1.0, 0.0)


def test_a_mean_keeps_its_unit_and_its_bounds() -> None:
    made = log(["1", "2"] * 500, [0.0] * 1_000)
    money = labels([20.0, 60.0] * 500)
    found = outcome(made, money, "1", "2", Question(measure=Measure.MEAN, low=0, high=100), 0.05, NOW)
    assert (found.stable, found.candidate) == (pytest.approx(20), pytest.approx(60))
    assert found.difference.effect == pytest.approx(40) and 25 < found.difference.low < 40
    assert found.difference.decided and found.difference.high < 55
    with pytest.raises(Invalid, match="500 outcomes lie outside 0 to 50, such as 60"):
        outcome(made, money, "1", "2", Question(measure=Measure.MEAN, high=50), 0.05, NOW)
    with pytest.raises(Invalid, match="nothing lies between"):
        Question(low=1, high=1)


def test_shadows_other_revisions_and_missing_labels_do_not_count() -> None:
    made = log(["1", "2", "3"], [0.9] * 3)
    nothing = outcome(made, labels([None, None, 1]), "1", "2", Question(), 0.05, NOW)
    assert (nothing.rows, nothing.waiting) == ((0, 0), 2)
    assert (nothing.difference.low, nothing.difference.high) == pytest.approx((-1.0, 1.0))
    shadows = outcome(log(["1", "2"], [0.9] * 2, True), labels([1, 1]), "1", "2", Question(), 0.05, NOW)
    assert (shadows.rows, shadows.waiting) == ((0, 0), 0)
    with pytest.raises(Invalid, match="1 labels came for a row that has one, such as r0"):
        outcome(made, pl.concat([labels([1]), labels([0])]), "1", "2", Question(), 0.05, NOW)
