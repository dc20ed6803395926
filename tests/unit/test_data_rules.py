"""Schemas that do not break their readers; less about a person in a table."""

import threading
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from majlis.data.lake import Lake
from majlis.data.privacy import anonymity, mask, pseudonym
from majlis.data.schemas import TYPES, WIDER, Column, Schema, Schemas, breaks
from majlis.errors import Conflict, Invalid, MajlisError, NotFound, SchemaMismatch

KEY = bytes(range(32))


def schema(**columns: str) -> Schema:
    return Schema({name: Column(kind.rstrip("?"), kind.endswith("?")) for name, kind in columns.items()})


@pytest.fixture
def schemas(tmp_path: Path) -> Schemas:
    return Schemas(Lake(tmp_path))


@pytest.mark.parametrize(
    ("old", "new", "fine"),
    [
        ({"a": "int64"}, {"a": "int64"}, True),
        ({"a": "int64"}, {"a": "int64", "b": "string?"}, True),
        ({"a": "int64"}, {"a": "int64", "b": "string"}, False),
        ({"a": "int64", "b": "string"}, {"a": "int64"}, True),
        ({"a": "int32"}, {"a": "int64"}, True),
        ({"a": "int32"}, {"a": "float64"}, True),
        ({"a": "int64"}, {"a": "float64"}, False),  # 2^53 + 1 would not survive
        ({"a": "int32"}, {"a": "float32"}, False),
        ({"a": "float32"}, {"a": "float64"}, True),
        ({"a": "int64"}, {"a": "int32"}, False),
        ({"a": "date"}, {"a": "timestamp"}, False),
        ({"a": "int64"}, {"a": "int64?"}, True),
        ({"a": "int64?"}, {"a": "int64"}, False),
        ({"a": "int64"}, {"b": "int64"}, False),  # a rename is a loss and an addition
    ],
)
def test_what_breaks_a_reader(old: dict[str, str], new: dict[str, str], fine: bool) -> None:
    assert (breaks(schema(**old), schema(**new)) == []) is fine


@pytest.mark.parametrize("narrow", WIDER)
def test_a_wider_type_holds_every_value(narrow: str) -> None:
    limits = {"int32": [-(2**31), 2**31 - 1, 0], "float32": [1.5, -0.1, 3.4e38]}[narrow]
    values = pl.Series(limits, dtype=TYPES[narrow])
    for wide in WIDER[narrow]:
        assert values.cast(TYPES[wide]).cast(TYPES[narrow]).equals(values)


def test_versions_are_counted_and_kept(schemas: Schemas) -> None:
    first, second = schema(a="int32"), schema(a="int64", b="string?")
    assert [schemas.register("silver.x", each) for each in (first, first, second, second)] == [1, 1, 2, 2]
    assert schemas.versions("silver.x") == [first, second]
    assert (schemas.get("silver.x"), schemas.get("silver.x", 1)) == (second, first)
    assert schemas.versions("silver.y") == []


def test_every_earlier_version_counts(schemas: Schemas) -> None:
    for each in (schema(a="int64", b="float64?"), schema(a="int64")):
        schemas.register("silver.x", each)
    back = schema(a="int64", b="string?")
    assert schemas.check("silver.x", back) == ["version 1: b was float64, string does not hold all of that"]
    with pytest.raises(Conflict, match="version 1: b was float64"):
        schemas.register("silver.x", back)
    assert len(schemas.versions("silver.x")) == 2


@pytest.mark.parametrize("version", [0, 2, None])
def test_a_version_that_is_not_there(schemas: Schemas, version: int | None) -> None:
    if version is not None:
        schemas.register("silver.x", schema(a="int64"))
    with pytest.raises(NotFound, match="no schema 'silver.x'"):
        schemas.get("silver.x", version)


@pytest.mark.parametrize("first", [0, 1])
def test_two_who_register_at_once_do_not_get_the_same_number(schemas: Schemas, first: int) -> None:
    if first:
        schemas.register("silver.x", schema(a="int64"))
    start, outcomes = threading.Barrier(4), []

    def register(number: int) -> None:
        start.wait()
        try:
            outcomes.append(schemas.register("silver.x", schema(a="int64?", **{f"b{number}": "string?"})))
        except MajlisError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=register, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = sorted(each for each in outcomes if isinstance(each, int))
    assert numbers == list(range(first + 1, first + 1 + len(numbers))) and numbers
    assert len(schemas.versions("silver.x")) == first + len(numbers)
    assert all(isinstance(each, int | Conflict) for each in outcomes)


def test_rows_that_were_not_promised() -> None:
    promised = schema(a="int64", b="string?")
    promised.check(pl.DataFrame({"a": [1], "b": [None]}, schema={"a": pl.Int64, "b": pl.String}))
    with pytest.raises(SchemaMismatch) as caught:
        promised.check(pl.DataFrame({"a": [None], "c": [1]}, schema={"a": pl.Int64, "c": pl.Int64}))
    assert {"c is not in the schema", "a is null in 1 rows", "b is missing"} <= {
        line.strip() for line in caught.value.message.splitlines()
    }


def test_a_type_that_no_schema_has() -> None:
    with pytest.raises(Invalid, match="took: Duration"):
        Schema.of(pl.DataFrame({"took": [None]}, schema={"took": pl.Duration("us")}))
    with pytest.raises(Invalid, match="is no type"):
        Column("decimal")


@pytest.mark.parametrize(
    ("value", "keep", "shown"),
    [
        ("4111111111111111", 4, "•" * 12 + "1111"),
        ("123", 4, "•••"),
        ("1234", 4, "••••"),
        ("x", 0, "•"),
        ("", 4, ""),
    ],
)
def test_masks(value: str, keep: int, shown: str) -> None:
    assert pl.DataFrame({"x": [value]}).select(mask("x", keep)).item() == shown


@given(st.lists(st.one_of(st.none(), st.text(max_size=5)), max_size=20))
def test_pseudonyms_are_equal_exactly_where_people_are(people: list[str | None]) -> None:
    found = pseudonym(pl.Series("who", people, dtype=pl.String), KEY, "research").to_list()
    for one, hidden in zip(people, found, strict=True):
        for other, also_hidden in zip(people, found, strict=True):
            assert (one == other) == (hidden == also_hidden)
    assert all(len(each) == 32 for each in found if each is not None)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(Invalid, match="too short"):
        pseudonym(pl.Series(["a"]), b"x" * 31, "research")


def test_missing_values_are_a_group_like_any_other() -> None:
    people = pl.DataFrame({"born": [1980, None, None], "city": ["Dubai", "Dubai", "Dubai"]})
    verdict = anonymity(people, ["born", "city"], k=2)
    assert (verdict.k, verdict.rows_at_risk, verdict.groups["born"].to_list()) == (1, 1, [1980])


def test_an_empty_table_hides_nobody_and_exposes_nobody() -> None:
    verdict = anonymity(
        pl.DataFrame({"born": []}, schema={"born": pl.Int64}), ["born"], k=5, sensitive=["born"]
    )
    assert (verdict.k, verdict.holds, dict(verdict.variety)) == (0, True, {"born": 0})


@pytest.mark.parametrize(("quasi", "k"), [([], 2), (["born"], 0), (["bron"], 2)])
def test_anonymity_is_asked_properly(quasi: list[str], k: int) -> None:
    with pytest.raises(Invalid):
        anonymity(pl.DataFrame({"born": [1]}), quasi, k)
