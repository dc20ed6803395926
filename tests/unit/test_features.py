"""Features: only the past, every row, online as offline; and the views of the example."""

import contextlib
import pickle
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from feast import Entity, FeatureView, Field
from feast.protos.feast.core.FeatureView_pb2 import FeatureView as Definition
from feast.types import Float64, Int64, String
from feast.value_type import ValueType
from hypothesis import given, settings
from hypothesis import strategies as st

from majlis.errors import Invalid, MajlisError, NotFound
from majlis.features.freshness import EXPECTED, Age, State, expected_every, freshness
from majlis.features.lookup import Lookup
from majlis.features.skew import skew
from majlis.features.store import Features, online_store
from majlis.settings import FeaturesSection, Settings

EXAMPLE = Path(__file__).parents[2] / "notebooks" / "flight_delay"
START = datetime(2013, 1, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def opened(folder: Path) -> Features:
    return Features(
        Settings(root=folder, source=folder / "settings.ini", features=FeaturesSection(repo=folder))
    )


def entity(name: str, kind: ValueType = ValueType.STRING) -> Entity:
    return Entity(name=name, join_keys=[name], value_type=kind)


def readings(*rows: tuple[str, float, float, float]) -> pl.DataFrame:
    """Airport, hour from which it counts, hour at which it was known, value."""
    return pl.DataFrame(
        [(origin, at(counts), at(known), value) for origin, counts, known, value in rows],
        schema={
            "origin": pl.String,
            "event_timestamp": pl.Datetime("us", "UTC"),
            "created_timestamp": pl.Datetime("us", "UTC"),
            "temp": pl.Float64,
        },
        orient="row",
    )


def weather(features: Features, rows: pl.DataFrame, ttl_hours: float = 6, **how: object) -> FeatureView:
    return FeatureView(
        name="weather",
        entities=[entity("origin")],
        ttl=timedelta(hours=ttl_hours),
        schema=[Field(name="temp", dtype=Float64)],
        source=features.source("weather", rows),
        **how,
    )


@pytest.fixture
def features(tmp_path: Path) -> Features:
    features = opened(tmp_path)
    rows = readings(("JFK", 7, 8, 39), ("JFK", 7, 12, 41), ("JFK", 9, 10, 43), ("LGA", 7, 8, 38))
    features.apply([entity("origin"), weather(features, rows)])
    return features


def asked(*questions: tuple[str | None, float]) -> pl.DataFrame:
    return pl.DataFrame(
        [(origin, at(hour)) for origin, hour in questions],
        schema={"origin": pl.String, "event_timestamp": pl.Datetime("us", "UTC")},
        orient="row",
    )


@pytest.mark.parametrize(
    ("origin", "hour", "expected"),
    [
        ("JFK", 6.99, None),
        ("JFK", 7, None),  # it counts, but nobody knows it yet
        ("JFK", 7.99, None),
        ("JFK", 8, 39.0),
        ("JFK", 9.5, 39.0),  # a later reading counts, but nobody knows it yet
        ("JFK", 10, 43.0),
        ("JFK", 15, 43.0),  # the last moment at which it counts
        ("JFK", 15.01, None),
        ("LGA", 13, 38.0),
        ("EWR", 9, None),
        (None, 9, None),
    ],
)
def test_a_row_sees_what_was_known_and_nothing_else(
    features: Features, origin: str | None, hour: float, expected: float | None
) -> None:
    assert features.training_set(asked((origin, hour)), ["weather:temp"])["temp"].to_list() == [expected]


def test_every_row_comes_back_in_its_place_with_all_it_had(features: Features) -> None:
    rows = asked(("LGA", 8), ("JFK", 8), (None, 8), ("JFK", 8), ("XXX", 8), ("JFK", 99)).with_columns(
        number=pl.int_range(6)
    )
    found = features.training_set(rows, ["weather:temp"])
    assert found.drop("temp").equals(rows)
    assert found["temp"].to_list() == [38.0, 39.0, None, 39.0, None, None]


def test_no_rows_are_no_trouble(features: Features) -> None:
    assert features.training_set(asked().clear(), ["weather:temp"]).columns == [
        "origin",
        "event_timestamp",
        "temp",
    ]


def test_moments_may_be_of_any_zone(features: Features) -> None:
    dubai = asked(("JFK", 8)).with_columns(
        pl.col("event_timestamp").dt.convert_time_zone("Asia/Dubai").dt.cast_time_unit("ns")
    )
    found = features.training_set(dubai, ["weather:temp"])
    assert (found["temp"].to_list(), found["event_timestamp"].to_list()) == ([39.0], [at(8)])


@pytest.mark.parametrize(
    ("rows", "wanted", "said"),
    [
        (asked(("JFK", 8)).drop("event_timestamp"), ["weather:temp"], "is missing"),
        (asked(("JFK", 8)).drop("origin"), ["weather:temp"], "needs column origin"),
        (asked(("JFK", 8)).with_columns(temp=pl.lit(1.0)), ["weather:temp"], "already have temp"),
        (asked(("JFK", 8)), ["weather"], "is not a feature"),
        (asked(("JFK", 8)), ["weather:temp", "weather:temp"], "would both be column 'temp'"),
        (
            asked(("JFK", 8)).with_columns(pl.col("event_timestamp").dt.replace_time_zone(None)),
            ["weather:temp"],
            "must say a moment",
        ),
        (
            asked(("JFK", 8)).with_columns(pl.lit(None, pl.Datetime("us", "UTC")).alias("event_timestamp")),
            ["weather:temp"],
            "1 nulls",
        ),
    ],
)
def test_a_wrong_question_is_told(
    features: Features, rows: pl.DataFrame, wanted: list[str], said: str
) -> None:
    with pytest.raises(Invalid, match=said):
        features.training_set(rows, wanted)


def test_an_unknown_view_names_those_there_are(features: Features) -> None:
    with pytest.raises(NotFound, match="weather"):
        features.training_set(asked(("JFK", 8)), ["wether:temp"])


def test_an_offline_store_that_loses_rows_is_caught(
    features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = features._answers
    monkeypatch.setattr(features, "_answers", lambda questions, wanted: answers(questions, wanted).head(1))
    with pytest.raises(MajlisError, match="2 questions and gave 1 answers"):
        features.training_set(asked(("JFK", 8), ("LGA", 8)), ["weather:temp"])


moments = st.integers(0, 48)
known_rows = st.lists(
    st.tuples(st.sampled_from(["JFK", "LGA"]), moments, st.integers(0, 6)),
    min_size=1,
    max_size=12,
    unique_by=lambda row: (row[0], row[1], row[2]),
)
questions = st.lists(st.tuples(st.sampled_from(["JFK", "LGA", "EWR"]), moments), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Features:
    features = opened(tmp_path_factory.mktemp("features"))
    features.apply([entity("origin"), weather(features, readings(("JFK", 0, 0, 0)))])
    return features


@settings(max_examples=25, deadline=None)
@given(known_rows, questions)
def test_the_join_is_what_its_definition_says(
    shared: Features, rows: list[tuple[str, int, int]], wanted: list[tuple[str, int]]
) -> None:
    known = [(origin, hour, hour + late, float(i)) for i, (origin, hour, late) in enumerate(rows)]
    shared.source("weather", readings(*known))
    found = shared.training_set(asked(*wanted), ["weather:temp"])["temp"].to_list()
    for (origin, hour), value in zip(wanted, found, strict=True):
        past = [
            (counts, created, temp)
            for place, counts, created, temp in known
            if place == origin and counts <= hour <= counts + 6 and created <= hour
        ]
        assert value == (max(past)[2] if past else None)


def test_online_is_what_a_training_set_says_for_that_moment(features: Features) -> None:
    keys = [{"origin": origin} for origin in ("LGA", "JFK", "EWR")]
    for hour in (8, 10, 13, 14, 16):
        features.materialize(at(hour))
        online = features.online(keys, ["weather:temp"], at=at(hour))["temp"].to_list()
        offline = features.training_set(asked(("LGA", hour), ("JFK", hour), ("EWR", hour)), ["weather:temp"])
        assert online == offline["temp"].to_list(), hour


def test_online_keeps_the_order_and_whatever_comes_along(features: Features) -> None:
    features.materialize(at(10))
    rows = pl.DataFrame({"flight": [1, 2, 3], "origin": ["LGA", "XXX", "JFK"]})
    found = features.online(rows, ["weather:temp"])
    assert found.drop("temp").equals(rows)
    assert found["temp"].to_list() == [38.0, None, 43.0]
    assert found.schema["temp"] == pl.Float64


def test_several_keys_and_types(tmp_path: Path) -> None:
    features = opened(tmp_path)
    rows = pl.DataFrame(
        {
            "carrier": ["UA", "UA"],
            "month": [1, 2],
            "event_timestamp": [at(0)] * 2,
            "flights": [3, 4],
            "best": ["a", None],
        }
    )
    view = FeatureView(
        name="route",
        entities=[entity("carrier"), entity("month", ValueType.INT64)],
        schema=[Field(name="flights", dtype=Int64), Field(name="best", dtype=String)],
        source=features.source("route", rows),
    )
    features.apply([entity("carrier"), entity("month", ValueType.INT64), view])
    wanted = ["route:flights", "route:best"]
    keys = pl.DataFrame({"carrier": ["UA", "UA", "AA"], "month": [2, 1, 1]})
    trained = features.training_set(keys.with_columns(event_timestamp=pl.lit(at(1))), wanted)
    assert trained["flights"].to_list() == [4, 3, None]
    features.materialize(at(1))
    online = features.online(keys, wanted)
    assert online["flights"].to_list() == [4, 3, None]
    assert online["best"].to_list() == [None, "a", None]
    assert features.keys("route") == ["carrier", "month"]


def test_applying_twice_changes_nothing(features: Features) -> None:
    before = features.views()
    rows = features.scan("weather").collect()
    features.apply([entity("origin"), weather(features, rows)])
    assert features.views().equals(before)
    assert features.scan("weather").collect().equals(rows)


def test_two_repositories_know_nothing_of_each_other(features: Features, tmp_path: Path) -> None:
    other = opened(tmp_path / "other")
    assert other.views().is_empty()
    with pytest.raises(NotFound, match="none yet"):
        other.view("weather")


def test_a_team_may_open_what_a_colleague_made(features: Features, tmp_path: Path) -> None:
    features.materialize(at(10))
    for name in ("registry.sqlite", "online.sqlite"):
        mode = (tmp_path / name).stat().st_mode
        assert mode & stat.S_IWGRP and not mode & stat.S_IROTH


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"online": "redis", "online_url": "cache:6379"},
            {"type": "redis", "connection_string": "cache:6379"},
        ),
        (
            {"online": "postgres", "online_url": "postgresql://u:p@db/f"},
            {"type": "postgres", "host": "db", "port": 5432, "database": "f", "user": "u", "password": "p"},
        ),
    ],
)
def test_online_stores_of_settings(given: dict[str, str], expected: dict[str, object]) -> None:
    assert online_store(FeaturesSection(**given)) == expected


@pytest.mark.parametrize(
    ("minutes", "state"),
    [(None, State.NEVER), (60, State.FRESH), (61, State.LATE), (180, State.LATE), (181, State.EXPIRED)],
)
def test_states_of_age(minutes: int | None, state: State) -> None:
    newest = None if minutes is None else at(0) - timedelta(minutes=minutes)
    assert Age(newest, timedelta(hours=1), timedelta(hours=3), at(0)).state is state


def test_a_tag_that_is_no_number_is_told(features: Features) -> None:
    view = weather(features, readings(("JFK", 0, 0, 0)), tags={EXPECTED: "often"})
    with pytest.raises(Invalid, match="number of hours"):
        expected_every(view)


def test_a_view_that_was_never_materialized(features: Features) -> None:
    row = freshness(features, at=at(10)).row(0, named=True)
    assert (row["offline"], row["online"], row["online_age"]) == ("fresh", "never", None)


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        ([39.0, 43.0, None], (0, 0, 0, 0.0)),
        ([39.5, 40.0, None], (2, 0, 0, 3.0)),
        ([None, 43.0, None], (0, 0, 1, 0.0)),
        ([float("nan"), 43.0, float("nan")], (0, 0, 1, 0.0)),
        ([39.0, 43.0, 7.0], (0, 1, 0, 0.0)),
    ],
)
def test_skew_is_counted_by_its_kind(
    features: Features, served: list[float | None], expected: tuple[float, ...]
) -> None:
    rows = asked(("JFK", 8), ("JFK", 10), ("EWR", 8)).with_columns(temp=pl.Series(served, dtype=pl.Float64))
    measured = skew(features, rows, ["weather:temp"])
    assert measured.features.row(0)[1:] == expected
    assert measured.share == pytest.approx(sum(expected[:3]) / 3)


def test_skew_needs_what_was_served(features: Features) -> None:
    with pytest.raises(Invalid, match="no column temp"):
        skew(features, asked(("JFK", 8)), ["weather:temp"])
    empty = asked().with_columns(temp=pl.lit(1.0))
    assert skew(features, empty, ["weather:temp"]).share == 0.0


@pytest.fixture(scope="module")
def example() -> Iterator[None]:
    sys.path.insert(0, str(EXAMPLE))
    yield
    sys.path.remove(str(EXAMPLE))


@pytest.mark.usefixtures("example")
def test_delays_are_means_of_what_was_over_by_then() -> None:
    from views import delay_rows

    flights = pl.DataFrame(
        {
            "origin": ["JFK", "JFK", "JFK", "LGA"],
            "departed_at": [at(1), at(2), at(3), at(1)],
            "arrived_at": [at(5), at(3), at(10), at(2)],
            "dep_delay": [10, 20, 60, 5],
            "arr_delay": [0, 30, 90, 7],
        }
    )
    rows = delay_rows(flights, "origin").filter(origin="JFK")

    def seen(hour: float) -> tuple[float | None, ...]:
        row = rows.filter(event_timestamp=at(hour)).row(0, named=True)
        return tuple(
            row[f"origin_{name}"]
            for name in ("dep_delay_3h", "arr_delay_3h", "dep_delay_24h", "arr_delay_24h")
        )

    assert seen(1) == (10.0, None, 10.0, None)
    assert seen(2.5) == (15.0, None, 15.0, None)  # both are under way: nothing is known of arrivals
    assert seen(3) == (30.0, 30.0, 30.0, 30.0)
    assert seen(4) == (40.0, 30.0, 30.0, 30.0)  # the departure of 01:00 is no longer in the last three hours
    assert seen(6) == (None, 0.0, 30.0, 15.0)
    assert (rows["event_timestamp"] >= rows["origin_delay_known_at"]).all()


@pytest.mark.usefixtures("example")
def test_a_reading_counts_once_its_hour_is_over() -> None:
    from features import WEATHER
    from views import weather_rows

    readings = pl.DataFrame({"origin": ["JFK"], "observed_at": [at(7)], **{name: [1.0] for name in WEATHER}})
    assert weather_rows(readings)["event_timestamp"].to_list() == [at(8)]


@pytest.mark.usefixtures("example")
def test_the_age_of_a_plane_is_counted_at_new_year() -> None:
    from views import plane_rows

    planes = pl.DataFrame({"tailnum": ["N1", "N2"], "year": [2004, None], "seats": [55, 180]})
    rows = plane_rows(planes, [2013])
    assert rows["plane_age"].to_list() == [9.0, None]
    assert rows["event_timestamp"].to_list() == [at(5), at(5)]  # midnight in New York


@pytest.mark.usefixtures("example")
def test_the_signature_of_the_model_is_complete() -> None:
    from features import CATEGORICAL, FEATURE_VIEWS, MODEL_FEATURES, NUMERIC, REFERENCES, SCHEDULE

    assert len(set(MODEL_FEATURES)) == len(MODEL_FEATURES) == 26
    assert [*CATEGORICAL, *NUMERIC] == MODEL_FEATURES
    assert {reference.partition(":")[2] for reference in REFERENCES} == {*NUMERIC} - {*SCHEDULE}
    assert {reference.partition(":")[0] for reference in REFERENCES} == {*FEATURE_VIEWS}


def test_rows_of_pandas_are_asked_like_any(features: Features) -> None:
    questions = asked(("JFK", 8), (None, 8), ("LGA", 20))
    assert features.training_set(questions.to_pandas(), ["weather:temp"]).equals(
        features.training_set(questions, ["weather:temp"])
    )
    features.source("weather", readings(("JFK", 7, 8, 20)).to_pandas())
    assert features.training_set(questions, ["weather:temp"])["temp"].to_list() == [20, None, None]
    features.materialize(at(9))
    assert features.online(questions.to_pandas(), ["weather:temp"])["temp"].to_list() == [20, None, None]


def test_a_missing_key_hides_only_the_view_that_needs_it(features: Features) -> None:
    """As offline: a flight without a tail number has the weather of its airport."""
    rows = readings(("N1", 7, 8, 12)).rename({"origin": "plane", "temp": "age"})
    view = FeatureView(
        name="planes",
        entities=[entity("plane")],
        schema=[Field(name="age", dtype=Float64)],
        source=features.source("planes", rows),
    )
    features.apply([entity("plane"), view])
    features.materialize(at(11))
    both = ["weather:temp", "planes:age"]
    flights = asked(("JFK", 11), (None, 11), ("JFK", 11)).with_columns(plane=pl.Series(["N1", "N1", None]))
    found = features.online(flights, both)
    assert found.select("temp", "age").rows() == [(43, 12), (None, 12), (43, None)]
    assert found.equals(features.training_set(flights, both))
    nothing = features.online(flights.clear(), both)
    assert nothing.schema == found.schema and nothing.is_empty()


@pytest.mark.parametrize("ask", ["training_set", "online"])
def test_what_a_view_does_not_have_is_named(features: Features, ask: str) -> None:
    with pytest.raises(Invalid, match=r"no feature 'tmp'(?s:.*)It has temp"):
        getattr(features, ask)(asked(("JFK", 8)), ["weather:tmp"])


def test_a_key_of_another_type_is_refused(features: Features) -> None:
    numbers = asked(("JFK", 8)).with_columns(origin=pl.lit(7, pl.Int64))
    with pytest.raises(Invalid, match="Cast them"):
        features.training_set(numbers, ["weather:temp"])


def test_a_moment_without_a_zone_materializes_nothing(features: Features) -> None:
    with pytest.raises(Invalid, match="time zone"):
        features.materialize(at(9).replace(tzinfo=None))
    assert features.view("weather").most_recent_end_time is None


class Trap:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_the_lookup_unpickles_nothing(features: Features, tmp_path: Path) -> None:
    """A definition may carry a pickled function; the gateway's process reads the view without it."""
    features.materialize(at(10))
    trap = tmp_path / "unpickled"
    with closing(sqlite3.connect(features.settings.repo / "registry.sqlite")) as connection, connection:
        ((found,),) = connection.execute("SELECT feature_view_proto FROM feature_views")
        told = Definition.FromString(found)
        told.spec.feature_transformation.user_defined_function.mode = "python"
        told.spec.feature_transformation.user_defined_function.body = pickle.dumps(Trap(trap))
        connection.execute("UPDATE feature_views SET feature_view_proto = ?", (told.SerializeToString(),))
    ((moment, values),) = Lookup(features.settings).read("weather", ["temp"], ["origin"], [["JFK"]])
    assert (moment, values) == (at(9).timestamp(), [43.0])
    assert not trap.exists()
    with contextlib.suppress(Exception):
        opened(tmp_path).view("weather")
    assert trap.exists(), "Feast's own reader springs it"
