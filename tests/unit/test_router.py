"""Traffic splits: exact in expectation, sticky by key, and moved no further than necessary."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from majlis.errors import Invalid
from majlis.serving.router import Split, uniform

REQUESTS = 100_000
WEIGHTS = {"a": 0.5, "b": 0.3, "c": 0.15, "d": 0.05}


@pytest.mark.parametrize("sticky", [True, False])
def test_shares_are_exact_in_expectation(sticky: bool) -> None:
    split = Split(tuple(WEIGHTS), tuple(WEIGHTS.values()), "flights")
    counts = [0] * len(WEIGHTS)
    for number in range(REQUESTS):
        counts[split.choose(b"user-%d" % number) if sticky else split.draw()] += 1
    expected = [REQUESTS * weight for weight in WEIGHTS.values()]
    assert chisquare(counts, expected).pvalue > 1e-4


@settings(max_examples=50, deadline=None)
@given(
    weights=st.lists(st.floats(0, 100), min_size=2, max_size=5).filter(any),
    grown=st.integers(0, 4),
    factor=st.floats(1, 50),
)
def test_keys_move_only_towards_the_revision_that_grew(
    weights: list[float], grown: int, factor: float
) -> None:
    grown %= len(weights)
    names = [f"r{i}" for i in range(len(weights))]
    before = Split(names, weights)
    after = Split(names, [w * factor if i == grown else w for i, w in enumerate(weights)])
    for number in range(200):
        key = b"%d" % number
        assert after.choose(key) in {before.choose(key), grown}


@given(st.binary(max_size=40))
def test_any_key_is_served(key: bytes) -> None:
    assert Split(("a", "b", "off"), (1, 2, 0)).choose(key) in {0, 1}
    assert 0 < uniform(key) < 1


def test_a_revision_that_leaves_gives_its_keys_to_the_others_only() -> None:
    before, after = Split(("a", "b", "c"), (1, 1, 1)), Split(("a", "b"), (1, 1))
    for number in range(1000):
        key = b"%d" % number
        if before.choose(key) < 2:
            assert after.choose(key) == before.choose(key)


@pytest.mark.parametrize("weights", [(1,), (1, -1), (1, math.nan), (math.inf, 1)])
def test_weights_that_mean_nothing_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(Invalid):
        Split(("a", "b"), weights)


def test_no_revision_at_all_is_refused() -> None:
    with pytest.raises(Invalid):
        Split((), ())
