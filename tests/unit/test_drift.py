"""Our drift statistics are Evidently's and SciPy's, on data that is unkind to them."""

import math
import os

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.spatial import distance

from majlis.errors import Invalid, NotFound
from majlis.monitoring.drift import (
    Numeric,
    Profile,
    binned,
    chi_square,
    cramers_v,
    jensen_shannon,
    kolmogorov_smirnov,
    numeric,
    profile,
    psi,
    report,
    sturges,
    wasserstein,
)
from majlis.monitoring.page import drift_page, remote_resources

rng = np.random.default_rng(20130101)
WINDOWS = {
    "normal": (rng.normal(0, 1, 4000), rng.normal(0.3, 1.2, 1500)),
    "rounded": (rng.normal(15, 8, 4000).round(1), rng.normal(12, 8, 1500).round(1)),
    "skewed": (rng.gamma(0.5, 40, 4000), rng.gamma(0.6, 40, 1500)),
    "integers": (rng.poisson(300, 4000), rng.poisson(310, 1500)),
    "discrete": (rng.integers(0, 7, 4000).astype(float), rng.integers(0, 8, 1500).astype(float)),
    "disjoint": (rng.uniform(0, 1, 4000), rng.uniform(5, 6, 1500)),
    "missing": (
        np.where(rng.random(4000) < 0.2, np.nan, rng.normal(size=4000)),
        np.where(rng.random(1500) < 0.4, np.nan, rng.normal(size=1500)),
    ),
    "infinite": (np.append(rng.normal(size=4000), [np.inf, -np.inf]), rng.normal(size=1500)),
    "one value": (np.full(4000, 3.0), rng.normal(size=1500)),
    "rare": (np.append(np.zeros(40_000), [1.0]), np.append(np.zeros(1500), [1.0, 2.0])),
}
WORDS = {
    "same words": (rng.choice(list("abc"), 4000, p=[0.5, 0.3, 0.2]), rng.choice(list("abc"), 1500)),
    "new word": (rng.choice(list("abc"), 4000), rng.choice(list("abcd"), 1500)),
    "lost word": (rng.choice(list("abcd"), 4000), rng.choice(list("abc"), 1500)),
}


@pytest.fixture(scope="module", autouse=True)
def no_telemetry() -> None:
    os.environ["DO_NOT_TRACK"] = "1"


def theirs(name: str, reference: pd.Series, current: pd.Series, words: bool) -> float:
    """The score that Evidently's statistical test of this name gives."""
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType

    kind = ColumnType.Categorical if words else ColumnType.Numerical
    kept = (s.replace([np.inf, -np.inf], np.nan).dropna() if not words else s for s in (reference, current))
    before, after = kept
    return float(get_stattest(before, after, kind, name)(before, after, kind, None).drift_score)


@pytest.mark.parametrize("window", [*WINDOWS, *WORDS])
@pytest.mark.parametrize("statistic", ["psi", "jensenshannon"])
def test_shared_bins_agree_with_evidently(window: str, statistic: str) -> None:
    words = window in WORDS
    before, after = map(pd.Series, (WORDS if words else WINDOWS)[window])
    counts = binned(*(profile(s.to_frame("x")).columns["x"] for s in (before, after)))
    ours = {"psi": psi, "jensenshannon": jensen_shannon}[statistic](*counts)
    assert ours == pytest.approx(theirs(statistic, before, after, words), rel=1e-9, abs=1e-7)


@pytest.mark.parametrize("window", WINDOWS)
def test_wasserstein_agrees_with_evidently(window: str) -> None:
    before, after = map(pd.Series, WINDOWS[window])
    ours = wasserstein(numeric(before), numeric(after))
    assert ours == pytest.approx(theirs("wasserstein", before, after, words=False), rel=1e-9)


@pytest.mark.parametrize("window", WINDOWS)
def test_kolmogorov_smirnov_agrees_with_scipy(window: str) -> None:
    before, after = (w[np.isfinite(w)] for w in WINDOWS[window])
    expected = stats.ks_2samp(before, after, method="asymp")
    gap, p_value = kolmogorov_smirnov(numeric(before), numeric(after))
    assert gap == pytest.approx(expected.statistic, rel=1e-12)
    assert p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("window", ["same words", "lost word"])
def test_chi_square_agrees_with_scipy(window: str) -> None:
    before, after = (pd.Series(w).value_counts().sort_index() for w in WORDS[window])
    names = before.index.union(after.index)
    counts = [c.reindex(names, fill_value=0).to_numpy(float) for c in (before, after)]
    expected = stats.chisquare(counts[1], counts[0] * counts[1].sum() / counts[0].sum())
    assert chi_square(*counts) == pytest.approx((expected.statistic, expected.pvalue))


def test_cramers_v_agrees_with_scipy() -> None:
    counts = np.array([[30, 50, 20], [10, 60, 40.0]])
    assert cramers_v(*counts) == pytest.approx(
        stats.contingency.association(counts.astype(int), method="cramer")
    )


@pytest.mark.parametrize("window", WINDOWS)
def test_edges_are_numpys(window: str) -> None:
    before, after = (w[np.isfinite(w)] for w in WINDOWS[window])
    expected = np.histogram_bin_edges(np.concatenate([before, after]), bins="sturges")
    assert np.allclose(sturges(numeric(before), numeric(after)), expected)


def test_jensen_shannon_is_scipys() -> None:
    before, after = np.array([1.0, 2, 3]), np.array([3.0, 2, 0])
    assert jensen_shannon(before, after) == pytest.approx(distance.jensenshannon(before, after))


def test_a_thinned_profile_is_close_and_says_so() -> None:
    values, other = rng.normal(size=60_000), numeric(rng.normal(0.2, 1, 5000))
    exact, thin = numeric(values), numeric(values, exact_values=1000)
    assert exact.exact and not thin.exact
    assert len(thin.values) <= 4096 and thin.rows == pytest.approx(exact.rows)
    assert kolmogorov_smirnov(thin, other)[0] == pytest.approx(
        kolmogorov_smirnov(exact, other)[0], abs=1 / 2048
    )
    assert psi(*binned(thin, other)) == pytest.approx(psi(*binned(exact, other)), rel=0.02)


def test_an_empty_column_is_missing_not_compared() -> None:
    before = pd.DataFrame({"x": rng.normal(size=100), "y": rng.normal(size=100)})
    found = report(before, before.assign(x=np.nan))
    column = next(c for c in found.columns if c.column == "x")
    assert column.drifted and math.isnan(column.psi) and column.missing_after == 1.0
    assert "–" in repr(found) and "–" in found._repr_html_()
    assert found.metrics() == {"drift_share": 0.5, "psi/y": pytest.approx(0)}


def test_a_column_that_changes_its_type_is_refused() -> None:
    with pytest.raises(Invalid, match="numbers in one window and words in the other"):
        report(pd.DataFrame({"x": [1.0, 2.0]}), pd.DataFrame({"x": ["a", "b"]}))


def test_what_is_not_there_is_named() -> None:
    frame = pd.DataFrame({"x": [1.0]})
    with pytest.raises(NotFound, match="'z'"):
        profile(frame, ["z"])
    with pytest.raises(Invalid, match="no rows"):
        profile(frame.head(0))


def test_names_of_columns_are_escaped() -> None:
    frame = pd.DataFrame({"<b>x</b>": rng.normal(size=50)})
    assert "<b>x" not in report(frame, frame)._repr_html_()


def test_every_drifted_column_is_in_both_representations() -> None:
    before = pd.DataFrame({name: w[0][:1500] for name, w in WINDOWS.items()})
    after = pd.DataFrame({name: w[1][:1500] for name, w in WINDOWS.items()})
    found = report(before, after)
    assert all(name in repr(found) and name in found.html for name in found.drifted)
    assert {"disjoint", "missing"} <= set(found.drifted)


@pytest.mark.parametrize(
    "kind",
    ["normal", "integers", "nullable"],
)
def test_a_profile_survives_json(kind: str) -> None:
    columns = {
        "normal": rng.normal(size=100),
        "integers": np.arange(100),
        "nullable": pd.array([1, None] * 50, dtype="Int64"),
    }
    made = profile(pd.DataFrame({"x": columns[kind], "word": ["a", None] * 50}))
    again = Profile.from_json(made.to_json())
    kept, given = again.columns["x"], made.columns["x"]
    assert isinstance(kept, Numeric) and isinstance(given, Numeric)
    assert np.array_equal(kept.values, given.values) and kept.integer == given.integer
    assert again.columns["word"] == made.columns["word"] and again.rows == 100


def test_the_page_of_evidently_needs_no_network(tmp_path) -> None:
    frame = pd.DataFrame({"x": rng.normal(size=300), "word": rng.choice(list("ab"), 300)})
    page = drift_page(frame, frame.assign(x=frame.x + 2), tmp_path / "drift.html", rows=100)
    text = page.path.read_text()
    assert not remote_resources(text) and "word" in text
    assert 'sandbox="allow-scripts"' in page._repr_html_()


@pytest.mark.parametrize(
    "tag",
    [
        "<script src='https://cdn.example/x.js'>",
        '<link rel="stylesheet" href="//fonts.example/a.css">',
        "<img alt=x src=http://a.example/b.png>",
        '<iframe\nsrc="https://a.example">',
    ],
)
def test_remote_resources_are_found(tag: str) -> None:
    assert remote_resources(f"<html>{tag}</html>")


def test_moments_are_compared_as_numbers() -> None:
    minutes = pd.to_timedelta(np.random.default_rng(3).integers(0, 10**5, (2, 800)).ravel(), unit="min")
    moments = pd.Series(pd.Timestamp("2024-01-01", tz="Asia/Dubai") + minutes)
    first, second = moments[:800], moments[800:].reset_index(drop=True)
    for before, after in ((first, second), (first.dt.date, second.dt.date)):
        (same,) = report(pd.DataFrame({"t": before}), pd.DataFrame({"t": after})).columns
        assert same.kind == "numeric" and not same.drifted
        (moved,) = report(
            pd.DataFrame({"t": before}), pd.DataFrame({"t": after + pd.Timedelta(days=365)})
        ).columns
        assert moved.drifted and moved.effect == 1


def test_a_value_missing_for_the_first_time_does_not_change_what_a_column_is() -> None:
    whole = pd.DataFrame({"flag": [True, False] * 50, "n": [1, 2] * 50})
    holes = pd.DataFrame({"flag": [True, None] * 50, "n": pd.Series([1, None] * 50, dtype=object)})
    assert {c.column: c.kind for c in report(whole, holes).columns} == {"flag": "numeric", "n": "numeric"}
    assert report(whole, holes, []).share == 0
