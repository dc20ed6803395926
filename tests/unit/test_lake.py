"""The lake: names, types, idempotent writes, time travel, many writers."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from itertools import repeat
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from majlis.client import connect
from majlis.control.service import ControlPlane
from majlis.data.catalog import TABLE as CATALOG
from majlis.data.catalog import Catalog
from majlis.data.classification import Classification, detect, iban, luhn
from majlis.data.lake import Lake, TableVersion, matching, predicate, read_here, storable, table_name
from majlis.data.lineage import Graph, Lineage, Thing, source
from majlis.data.traces import seen_by, traces
from majlis.errors import Conflict, Invalid, NotFound, SchemaMismatch
from majlis.settings import load
from tests.support.council import furnished


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def months(*numbers: int, delay: float = 0.0) -> pl.DataFrame:
    rows = [(month, carrier, delay) for month in numbers for carrier in ("UA", "AA")]
    return pl.DataFrame(
        rows, schema={"month": pl.Int64, "carrier": pl.String, "delay": pl.Float64}, orient="row"
    )


@pytest.mark.parametrize(
    "name", ["flights", "sliver.flights", "silver.", "silver.a.b", "silver.Flights", "silver.a b", ""]
)
def test_a_name_that_is_no_table_is_refused(name: str, lake: Lake) -> None:
    for attempt in (table_name, lake.exists, lake.read, lambda each: lake.write(months(1), each)):
        with pytest.raises(Invalid, match="layer"):
            attempt(name)


def test_a_name_cannot_leave_the_lake(lake: Lake) -> None:
    with pytest.raises(Invalid):
        lake.write(months(1), "silver.../../elsewhere")


def test_replacing_the_same_months_twice_changes_nothing(lake: Lake) -> None:
    for _ in range(2):
        lake.write(
            months(1, 2),
            "bronze.flights",
            mode="replace_where",
            where={"month": [1, 2]},
            partition_by=["month"],
        )
    assert lake.read("bronze.flights").sort("month", "carrier").equals(months(1, 2).sort("month", "carrier"))


def test_replacing_a_month_leaves_the_others_alone(lake: Lake) -> None:
    lake.write(months(1, 2, 3), "bronze.flights", partition_by=["month"])
    lake.write(months(2, delay=9.0), "bronze.flights", mode="replace_where", where={"month": 2})
    delays = dict(lake.read("bronze.flights").group_by("month").agg(pl.col("delay").max()).iter_rows())
    assert delays == {1: 0.0, 2: 9.0, 3: 0.0}


def test_a_month_can_be_replaced_by_nothing(lake: Lake) -> None:
    lake.write(months(1, 2), "bronze.flights", partition_by=["month"])
    lake.write(months(1).clear(), "bronze.flights", mode="replace_where", where={"month": 1})
    assert lake.read("bronze.flights")["month"].unique().to_list() == [2]


def test_a_refused_write_leaves_no_version(lake: Lake) -> None:
    lake.write(months(1), "bronze.flights")
    for rows, how in (
        (months(2), {"mode": "replace_where", "where": {"month": 1}}),
        (months(1).drop("delay"), {}),
        (months(1).cast({"delay": pl.String}), {"mode": "overwrite"}),
        (months(1), {"where": {"month": 1}}),
        (months(1), {"mode": "replace_where"}),
    ):
        with pytest.raises((Invalid, SchemaMismatch)):
            lake.write(rows, "bronze.flights", **how)
    assert lake.version("bronze.flights") == TableVersion("bronze.flights", 0)


def test_overwrite_may_change_the_columns_if_told_to(lake: Lake) -> None:
    lake.write(months(1), "gold.delays")
    lake.write(months(1).select("month", late=pl.lit(True)), "gold.delays", mode="overwrite", evolve=True)
    assert lake.read("gold.delays").columns == ["month", "late"]
    assert lake.read("gold.delays", version=0).columns == ["month", "carrier", "delay"]


@pytest.mark.parametrize("version", [-1, 1, 99])
def test_a_version_that_never_was_is_not_found(lake: Lake, version: int) -> None:
    lake.write(months(1), "bronze.flights")
    with pytest.raises(NotFound, match="versions are 0 to 0"):
        lake.read("bronze.flights", version=version)


def test_an_unknown_table_names_those_there_are(lake: Lake) -> None:
    with pytest.raises(NotFound, match="none yet"):
        lake.read("bronze.flights")
    lake.write(months(1), "silver.flights")
    with pytest.raises(NotFound, match="silver.flights"):
        lake.history("bronze.flights")


def test_an_unknown_column_names_those_there_are(lake: Lake) -> None:
    lake.write(months(1), "silver.flights")
    with pytest.raises(Invalid, match="month, carrier, delay"):
        lake.read("silver.flights", columns=["late"])


def test_columns_and_filters(lake: Lake) -> None:
    lake.write(months(1, 2, 3), "silver.flights", partition_by=["month"])
    read = lake.read("silver.flights", columns=["month"], filter={"carrier": "UA", "month": [1, 3]})
    assert sorted(read["month"]) == [1, 3]
    assert lake.read("silver.flights", filter=pl.col("month") > 2).height == 2


@pytest.mark.parametrize(
    ("where", "sql"),
    [
        ({"a": 1}, '"a" IN (1)'),
        ({"a": [1, 2], "b": "x"}, '"a" IN (1, 2) AND "b" IN (\'x\')'),
        ({"a": "'; DROP TABLE x"}, "\"a\" IN ('''; DROP TABLE x')"),
        ({"a": True}, '"a" IN (true)'),
        ({"a": date(2013, 1, 1)}, "\"a\" IN ('2013-01-01')"),
    ],
)
def test_predicates_are_quoted(where: dict[str, object], sql: str) -> None:
    assert predicate(where) == sql  # type: ignore[arg-type]


def test_no_condition_matches_everything() -> None:
    assert months(1, 2).filter(matching({})).height == 4


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (pl.UInt8, pl.Int32),
        (pl.UInt32, pl.Int64),
        (pl.Categorical, pl.String),
        (pl.Null, pl.String),
        (pl.Datetime("ns", "Asia/Dubai"), pl.Datetime("us", "UTC")),
        (pl.Datetime("ms"), pl.Datetime("us")),
        (pl.List(pl.String), pl.List(pl.String)),
    ],
)
def test_types_survive_the_lake(lake: Lake, given: pl.DataType, kept: pl.DataType) -> None:
    frame = pl.DataFrame({"x": [None]}, schema={"x": given})
    assert storable(frame).schema["x"] == kept
    lake.write(frame, "silver.types")
    assert lake.read("silver.types").schema["x"] == kept


def test_a_moment_is_the_same_moment_afterwards(lake: Lake) -> None:
    moment = datetime(2013, 11, 3, 5, 30, tzinfo=UTC)  # 01:30 in New York, for the first time that night
    frame = pl.DataFrame({"at": [moment]}).with_columns(pl.col("at").dt.convert_time_zone("America/New_York"))
    lake.write(frame, "silver.moments")
    assert lake.read("silver.moments")["at"].to_list() == [moment]


@pytest.mark.parametrize("dtype", [pl.Duration("us"), pl.Time])
def test_a_type_that_a_table_cannot_keep_is_refused(lake: Lake, dtype: pl.DataType) -> None:
    with pytest.raises(Invalid, match="unit in its name"):
        lake.write(pl.DataFrame({"x": [None]}, schema={"x": dtype}), "silver.types")


def test_appends_at_once_are_all_kept(lake: Lake) -> None:
    lake.write(months(1), "bronze.flights")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda month: lake.write(months(month), "bronze.flights"), range(2, 10)))
    assert sorted(lake.read("bronze.flights")["month"]) == sorted([*range(1, 10)] * 2)


def test_appends_that_make_the_table_at_once_are_all_kept(lake: Lake) -> None:
    for table in (f"bronze.flights_{number}" for number in range(10)):  # not every race has a loser
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lake.write, map(months, range(1, 17)), repeat(table)))
        assert sorted(lake.read(table)["month"]) == sorted([*range(1, 17)] * 2)


def test_who_counts_on_a_version_is_told_if_it_is_no_longer_the_latest(lake: Lake) -> None:
    lake.write(months(1), "bronze.flights")
    for stale in (-1, 5):
        with pytest.raises(Conflict, match="another writer"):
            lake.write(months(2), "bronze.flights", after=stale)
    assert lake.write(months(2), "bronze.flights", after=0).version == 1
    assert lake.read("bronze.flights").height == 4


def test_what_was_vacuumed_is_told(lake: Lake) -> None:
    lake.write(months(1), "bronze.flights")
    lake.write(months(2), "bronze.flights", mode="overwrite")
    assert lake.vacuum("bronze.flights", keep_days=7, dry_run=False) == []
    assert len(lake.vacuum("bronze.flights", keep_days=0, dry_run=False)) == 1
    with pytest.raises(NotFound, match="vacuumed"):
        lake.read("bronze.flights", version=0)
    assert lake.read("bronze.flights").height == 2


def test_compacting_changes_no_row(lake: Lake) -> None:
    for month in range(1, 7):
        lake.write(months(month), "bronze.flights")
    before = lake.read("bronze.flights").sort("month", "carrier")
    files = list(Path(lake.address("bronze.flights")).glob("*.parquet"))
    lake.compact("bronze.flights")
    assert lake.read("bronze.flights").sort("month", "carrier").equals(before)
    assert len(lake.vacuum("bronze.flights", keep_days=0)) == len(files) == 6


def test_history_says_who_and_what(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_USER", "scientist")
    lake.write(months(1, 2), "bronze.flights", partition_by=["month"])
    lake.write(months(2), "bronze.flights", mode="replace_where", where={"month": 2})
    first, second = lake.history("bronze.flights").sort("version").to_dicts()
    assert (first["by"], first["rows_added"], first["where"]) == ("scientist", 4, None)
    assert (second["rows_added"], second["where"]) == (2, "month = 2")
    assert datetime.now(UTC) - second["at"] < timedelta(minutes=5)


def test_a_team_can_write_where_a_colleague_wrote(lake: Lake) -> None:
    before = os.umask(0o007)
    try:
        lake.write(months(1), "bronze.flights", partition_by=["month"])
    finally:
        os.umask(before)
    modes = [path.stat().st_mode for path in Path(lake.uri).rglob("*")]
    assert modes and all(mode & stat.S_IWGRP and not mode & stat.S_IROTH for mode in modes)


def test_catalog_finds_by_word_tag_owner_and_class(lake: Lake) -> None:
    lake.write(months(1), "silver.flights")
    lake.write(pl.DataFrame({"email": ["noor@example.ae"]}), "bronze.people")
    catalog = Catalog(lake)
    catalog.describe(
        "silver.flights", title="Delays", tags=["nyc"], owner="ops", columns={"delay": "in minutes"}
    )
    found = {
        "DELAYS": catalog.search("DELAYS"),
        "two words": catalog.search("minutes carrier"),
        "tag": catalog.search(tag="nyc"),
        "owner": catalog.search(owner="ops"),
        "class": catalog.search(classification="internal"),
    }
    assert {how: list(rows["table"]) for how, rows in found.items()} == dict.fromkeys(
        found, ["silver.flights"]
    )
    assert catalog.search("people")["class"].to_list() == ["pii"]
    with pytest.raises(Invalid, match="public, internal, confidential, pii"):
        catalog.search(classification="secret")


def test_a_declared_class_goes_before_a_guess(lake: Lake) -> None:
    lake.write(pl.DataFrame({"email": ["desk@example.ae"], "note": ["x"]}), "silver.desks")
    catalog = Catalog(lake)
    catalog.describe("silver.desks", classes={"email": "public", "note": "confidential", "gone": "pii"})
    assert catalog.entry("silver.desks").classes == {
        "email": Classification.PUBLIC,
        "note": Classification.CONFIDENTIAL,
    }
    with pytest.raises(Invalid, match="is no classification"):
        catalog.describe("silver.desks", classes={"note": "secret"})


def test_two_who_describe_at_once_both_count(lake: Lake) -> None:
    lake.write(months(1), "silver.flights")
    catalog = Catalog(lake)
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(
                lambda said: catalog.describe("silver.flights", **said),
                [{"owner": "ops"}, {"title": "Delays"}],
            )
        )
    entry = catalog.entry("silver.flights")
    assert (entry.owner, entry.title) == ("ops", "Delays")
    assert CATALOG not in lake.tables()


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("x", ["noor@example.ae", "a@b.co"], Classification.PII),
        ("x", ["784-1979-1234567-2"], Classification.INTERNAL),  # the check digit is wrong
        ("x", ["+971 50 123 4567"], Classification.PII),
        ("x", ["192.168.1.1", "10.0.0.7"], Classification.PII),
        ("x", ["999.168.1.1"], Classification.INTERNAL),
        ("x", ["1545", "1714"], Classification.INTERNAL),
        ("x", [None, ""], Classification.INTERNAL),
        ("passport_number", ["?"], Classification.PII),
        ("name", ["Delta Air Lines"], Classification.INTERNAL),
    ],
)
def test_personal_values_are_recognised(column: str, values: list[str], expected: Classification) -> None:
    assert detect(pl.DataFrame({column: values}, schema={column: pl.String}))[column] is expected


def test_check_digits() -> None:
    assert luhn("4111 1111 1111 1111") and not luhn("4111 1111 1111 1112") and not luhn("")
    assert iban("GB82 WEST 1234 5698 7654 32") and not iban("GB83 WEST 1234 5698 7654 32")


def test_lineage_reaches_through_many_steps(lake: Lake) -> None:
    lineage = Lineage(lake)
    chain = [
        source("pypi://x", "f"),
        *(Thing("table", "silver.t", str(n)) for n in range(20)),
        Thing("model", "m", "1"),
    ]
    for start, end in zip(chain, chain[1:], strict=False):
        lineage.record("step", [start], [end])
    graph = lineage.graph()
    assert set(graph.downstream(chain[0])) == set(chain[1:])
    assert set(graph.upstream(chain[-1])) == set(chain[:-1])
    assert [len(layer) for layer in graph.layers()] == [1] * len(chain)


def test_a_cycle_is_cut_and_not_followed_forever() -> None:
    a, b, c = (Thing("table", f"silver.{name}") for name in "abc")
    graph = Graph(frozenset({(a, b, "x"), (b, a, "y"), (b, c, "z"), (c, c, "w")}))
    assert sorted(each for layer in graph.layers() for each in layer) == [a, b, c]
    assert graph.downstream(a) == [b, c]


def test_a_long_history_is_drawn_quickly() -> None:
    chain = [Thing("table", "silver.t", str(number)) for number in range(2000)]
    graph = Graph(frozenset((one, other, "step") for one, other in zip(chain, chain[1:], strict=False)))
    assert len(graph.layers()) == 2000
    assert len(graph.downstream(chain[0])) == 1999


def test_an_empty_lineage_is_an_empty_graph(lake: Lake) -> None:
    graph = Lineage(lake).graph()
    assert (graph.things, graph.layers()) == ([], [])
    assert graph._repr_html_().startswith("<svg")


def test_names_in_the_drawing_are_escaped() -> None:
    edge = (Thing("table", "<script>alert(1)</script>"), Thing("model", "m"), "<b>")
    assert "<script>" not in Graph(frozenset({edge}))._repr_html_()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (pd.DataFrame({"m": [1, "a"]}), "one type"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "name of its own"),
        (pl.DataFrame({"a": [1], "A": [2]}), "upper and lower case"),
        (pl.DataFrame({"n": pl.Series([2**63], dtype=pl.UInt64)}), "whole numbers up to"),
        (pl.DataFrame(), "without a column"),
        ("flights.csv", "read_files"),
    ],
)
def test_rows_that_no_table_can_keep_are_refused_in_words(lake: Lake, rows: object, said: str) -> None:
    with pytest.raises(Invalid, match=said):
        lake.write(rows, "bronze.strange")
    assert not lake.exists("bronze.strange")


def test_an_index_with_a_name_is_kept(lake: Lake) -> None:
    frame = pd.DataFrame({"id": [7, 9], "x": [1.0, 2.0]})
    written = lake.write(frame.set_index("id"), "bronze.indexed")
    assert lake.read(written.name).to_dict(as_series=False) == {"id": [7, 9], "x": [1.0, 2.0]}
    assert lake.read(lake.write(frame, "bronze.plain").name).columns == ["id", "x"]


def test_a_way_to_write_that_there_is_not_changes_nothing(lake: Lake) -> None:
    lake.write(months(1), "silver.flights")
    with pytest.raises(Invalid, match="apend"):
        lake.write(months(2), "silver.flights", mode="apend")  # type: ignore[arg-type]
    assert lake.read("silver.flights").equals(months(1))


@pytest.mark.parametrize("where", [{"month": "one"}, {"nothing": 1}, pl.col("nothing") > 1])
def test_a_filter_that_does_not_fit_is_refused(lake: Lake, where: Any) -> None:
    lake.write(months(1), "silver.flights")
    with pytest.raises(Invalid, match="silver.flights"):
        lake.read("silver.flights", filter=where)


def test_any_name_of_a_column_can_be_replaced_by(lake: Lake) -> None:
    for name in ('a "quoted" one', "a.b c", "عمود", "select"):
        table = f"silver.n{abs(hash(name))}"
        lake.write(pl.DataFrame({name: [1, 2], "v": [10, 20]}), table)
        lake.write(pl.DataFrame({name: [2], "v": [99]}), table, mode="replace_where", where={name: 2})
        assert sorted(lake.read(table).rows()) == [(1, 10), (2, 99)]


def test_a_list_of_nothing_is_a_list_of_strings(lake: Lake) -> None:
    written = lake.write(pl.DataFrame({"tags": [[None], []]}), "bronze.lists")
    assert lake.read(written.name).schema == {"tags": pl.List(pl.String)}


@pytest.mark.parametrize(
    "name",
    ["FirstName", "first name", "user.email", "E-Mail", "phoneNumber", "date of birth", "Straße.street"],
)
def test_a_name_tells_however_it_is_written(name: str) -> None:
    assert detect(pl.DataFrame({name: [1]})) == {name: Classification.PII}


@pytest.mark.parametrize("name", ["hostname", "emailed", "domestic", "streetcar", "filename"])
def test_a_word_inside_another_tells_nothing(name: str) -> None:
    assert detect(pl.DataFrame({name: [1]})) == {name: Classification.INTERNAL}


def test_a_card_may_be_a_number() -> None:
    cards = pl.DataFrame({"n": [4111111111111111, 5500000000000004], "m": [1234567890123456, 1]})
    assert detect(cards) == {"n": Classification.PII, "m": Classification.INTERNAL}


def test_a_person_is_found_in_every_version_that_can_still_be_read(lake: Lake) -> None:
    both = pl.DataFrame({"passport": ["P1", "P2", "P1"]})
    held = lake.write(both, "silver.trips")
    kept = lake.write(both.filter(pl.col("passport") == "P2"), "silver.trips", mode="overwrite")
    lake.write(pl.DataFrame({"day": [1]}), "gold.daily")
    before = set(read_here)
    found = traces(lake, {"passport": "P1"})
    assert found.tables.rows() == [("silver.trips", held.version, 2)] and kept not in found
    assert found.unsearched == ("gold.daily",)
    assert read_here == before  # looking is no reading
    lake.vacuum("silver.trips", keep_days=0, dry_run=False)
    assert traces(lake, {"passport": "P1"}).tables.is_empty()


@pytest.mark.parametrize("who", ["7", 7])
def test_a_person_is_found_whatever_type_the_column_has(lake: Lake, who: str | int) -> None:
    lake.write(pl.DataFrame({"id": ["7", "x"]}), "bronze.people")
    lake.write(pl.DataFrame({"id": [7, 8]}), "bronze.people", mode="overwrite", evolve=True)
    assert traces(lake, {"id": who}).tables["version"].to_list() == [1, 0]


def test_a_table_that_lost_the_column_is_named_though_its_past_was_searched(lake: Lake) -> None:
    lake.write(pl.DataFrame({"id": [7]}), "bronze.people")
    lake.write(pl.DataFrame({"pseudonym": ["a"]}), "bronze.people", mode="overwrite", evolve=True)
    found = traces(lake, {"id": 7})
    assert found.tables.rows() == [("bronze.people", 0, 1)] and found.unsearched == ("bronze.people",)
    with pytest.raises(Invalid, match="nobody is named"):
        traces(lake, {})


def test_models_that_saw_a_person_are_those_trained_or_measured_on_them(lake: Lake) -> None:
    lake.write(pl.DataFrame({"id": [7]}), "gold.people")
    lake.write(pl.DataFrame({"id": [8]}), "gold.people", mode="overwrite")
    found = traces(lake, {"id": 7})

    def record(version: int, evaluation: int, **lineage: Any) -> dict[str, Any]:
        known = {"model": "m", "version": version, "state": "released", "stage": "", "owner": "amira"}
        return known | {"lineage": lineage, "evaluation": {"table": "gold.people", "version": evaluation}}

    records = [
        record(1, 1, read=[{"name": "gold.people", "version": 0}]),
        record(2, 1, tables=[{"name": "gold.people", "version": "0"}]),
        record(3, 0),
        record(4, 1, read=[{"name": "gold.people", "version": 1}, {"name": "gone", "version": "?"}]),
    ]
    assert [each["version"] for each in seen_by(found, records)] == [1, 2, 3]


def test_the_workbench_tells_which_registered_versions_saw_a_person(tmp_path: Path) -> None:
    settings = load(environ={"MAJLIS_WORKBENCH_HOME": str(tmp_path)})
    control = ControlPlane(settings).open()
    furnished(control)  # two versions of one model, measured on gold.none
    control.close()
    with connect(settings, environ={}) as wb:
        wb.lake.write(pl.DataFrame({"id": [7]}), "gold.none")
        found, seen = wb.traces({"id": 7})
        assert found.tables.rows() == [("gold.none", 0, 1)]
        assert {(each["model"], each["version"]) for each in seen} == {("flights", 1), ("flights", 2)}
        assert wb.traces({"id": 8})[1] == []
