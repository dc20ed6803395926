"""What is logged is what is read, whatever its types; and what cannot be read holds nothing up."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from majlis.serving.log import Record, Spool, described, recorded
from majlis.serving.segments import drain, scan
from majlis.serving.signature import KINDS, Batch, Column, Signature

COLUMNS = ("double", "float", "long", "integer", "boolean", "string", "datetime", "binary")
MIXED = Signature([Column(kind, KINDS[kind], required=False) for kind in COLUMNS])
NUMBERS = Signature([Column(name, KINDS["double"]) for name in ("a", "b.c", 'd"')])
TENSOR = Signature([Column("image", KINDS["double"], shape=(2, 2))])
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
FULL = [[1.5, 2], [0.1, 3.0], [2**62, -1], [7, 8], [True, False], ["ü", '"'], [AT, AT], [b"\0\1", b""]]


def spooled(folder: Path) -> Spool:
    """A spool of one file, that holds all that a test writes."""
    return Spool(folder / "spool", capacity_bytes=2**20, queue_bytes=2**24)


def record(
    signature: Signature, batch: Batch, answer: Any, id: str = "r", at: datetime = AT, **more: Any
) -> Record:
    """An answered request, as the gateway records it."""
    columns, table = recorded(batch)
    texts = answer.dtype.kind in "OUS"
    output = orjson.dumps(answer.tolist()) if texts else answer.tobytes()
    return Record(
        id, at.timestamp(), "flights", "1", "flights-1", "key", 0.2, "trace", described(signature),
        batch.rows, columns, table, output, "" if texts else answer.dtype.str, **more,
    )  # fmt: skip


def read(folder: Path, rows: int = 1000) -> list[dict[str, Any]]:
    """What the log says, after the spool was drained."""
    drain(folder / "spool", folder / "log", rows)
    segments = sorted((folder / "log").rglob("[!.]*.parquet"))
    return scan(segments).sort("id").collect().to_dicts()


def test_every_type_comes_back(tmp_path: Path) -> None:
    spool = spooled(tmp_path)
    spool.append(record(MIXED, Batch(MIXED.names, 2, FULL), np.array([[0.1], [1.0]])))
    spool.close()
    first, second = (orjson.loads(row["inputs"]) for row in read(tmp_path))
    assert first == {
        "double": 1.5, "float": 0.1, "long": 2**62, "integer": 7, "boolean": True, "string": "ü",
        "datetime": "2026-03-01T12:00:00+00:00", "binary": "AAE=",
    }  # fmt: skip
    assert second["string"] == '"' and second["boolean"] is False and second["long"] == -1


def test_what_is_missing_is_null(tmp_path: Path) -> None:
    spool = spooled(tmp_path)
    empty: list[Any] = [[float("nan")], [float("nan")], *[None] * 6]
    spool.append(record(MIXED, Batch(MIXED.names, 1, empty), np.array([[1.0]])))
    spool.append(record(MIXED, Batch(MIXED.names, 2, FULL), np.array([[1.0], [2.0]]), id="s"))
    spool.close()
    assert orjson.loads(read(tmp_path)[0]["inputs"]) == dict.fromkeys(MIXED.names)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (np.array([[0.25, 0.75]]), [0.25, 0.75]),
        (np.array([[0.1]], "f4"), [float(np.float32(0.1))]),
        (np.array([[0.5]], "f2"), [0.5]),
        (np.array([[3]]), [3]),
        (np.array([[True]]), [True]),
        (np.array([1.5]), [1.5]),
        (np.array([["late", "UA"]]), ["late", "UA"]),
        (np.array([["late", 0.5]], object), ["late", 0.5]),
        (np.array([[np.nan]]), [None]),
    ],
    ids=str,
)
def test_answers(tmp_path: Path, answer: Any, told: list[Any]) -> None:
    spool = spooled(tmp_path)
    spool.append(record(NUMBERS, Batch(NUMBERS.names, 1, None, np.ones((1, 3))), answer))
    spool.close()
    (row,) = read(tmp_path)
    assert orjson.loads(row["outputs"]) == told
    assert orjson.loads(row["inputs"]) == {"a": 1.0, "b.c": 1.0, 'd"': 1.0}


def test_tensors(tmp_path: Path) -> None:
    spool = spooled(tmp_path)
    images = np.arange(8.0).reshape(2, 2, 2)
    spool.append(record(TENSOR, Batch(TENSOR.names, 2, [images]), np.array([[1.0], [2.0]])))
    spool.close()
    assert [orjson.loads(row["inputs"])["image"] for row in read(tmp_path)] == images.tolist()


def test_requests_of_many_kinds_in_one_spool_file(tmp_path: Path) -> None:
    """Each layout becomes a segment of its own, and a reader sees one log."""
    spool = spooled(tmp_path)
    table = np.arange(30.0).reshape(10, 3)
    one = np.ones((10, 1))
    features = orjson.dumps([{"n": row} if row else None for row in range(10)])
    spool.append(record(NUMBERS, Batch(NUMBERS.names, 10, None, table), one, "a", features=features))
    spool.append(record(NUMBERS, Batch(NUMBERS.names, 1, [[1.0], [2.0], [3.0]]), one[:1], "b", shadow=True))
    spool.append(record(NUMBERS, Batch(NUMBERS.names, 1, None, table[:1]), np.ones((1, 2)), "c"))
    spool.append(record(MIXED, Batch(MIXED.names, 2, FULL), one[:2], "d"))
    spool.append(record(NUMBERS, Batch(NUMBERS.names, 1, None, table[:1]), one[:1], "e", AT.replace(day=2)))
    spool.close()
    found = {row["id"]: row for row in read(tmp_path)}
    assert sorted(found) == sorted([*(f"a-{row}" for row in range(10)), "b", "c", "d-0", "d-1", "e"])
    assert orjson.loads(found["a-7"]["inputs"]) == dict(zip(NUMBERS.names, [21.0, 22.0, 23.0], strict=True))
    assert found["a-0"]["features"] is None and orjson.loads(found["a-7"]["features"]) == {"n": 7}
    assert found["b"]["shadow"] and not found["c"]["shadow"]
    assert found["a-3"]["at"] == AT and found["e"]["at"] == AT.replace(day=2)
    assert found["c"]["outputs"] == "[1.0,1.0]" and found["c"]["trace_id"] == "trace"
    assert {path.parent.name for path in (tmp_path / "log").rglob("*.parquet")} == {
        "date=2026-03-01",
        "date=2026-03-02",
    }


def test_large_segments_are_divided_and_no_row_is_there_twice(tmp_path: Path) -> None:
    spool = spooled(tmp_path)
    for number in range(9):
        spool.append(
            record(NUMBERS, Batch(NUMBERS.names, 5, None, np.ones((5, 3))), np.ones((5, 1)), f"{number}")
        )
    spool.close()
    (file,) = (tmp_path / "spool").iterdir()
    content = file.read_bytes()
    assert len(read(tmp_path, rows=10)) == 45
    assert len(list((tmp_path / "log").rglob("*.parquet"))) == 5
    file.write_bytes(content)  # the writer died before the spool file was removed
    assert len(read(tmp_path, rows=10)) == 45


def test_an_unreadable_file_is_kept_and_holds_nothing_up(tmp_path: Path) -> None:
    spool = spooled(tmp_path)
    (tmp_path / "spool" / "0-old-1.ready").write_bytes(b"\4\0\0\0what")
    spool.append(record(NUMBERS, Batch(NUMBERS.names, 1, None, np.ones((1, 3))), np.ones((1, 1))))
    spool.close()
    assert len(read(tmp_path)) == 1
    assert [path.name for path in (tmp_path / "spool").iterdir()] == ["0-old-1.unreadable"]


def test_what_waits_is_bounded_in_bytes(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", capacity_bytes=10_000, queue_bytes=50_000)
    row = record(NUMBERS, Batch(NUMBERS.names, 10, None, np.ones((10, 3))), np.ones((10, 1)))
    for _ in range(1000):
        spool.append(row)
    kept = sum(path.stat().st_size for path in (tmp_path / "spool").iterdir())
    assert kept <= 60_000 and spool.lost > 0 and spool.written + spool.lost == 10_000
    spool.close()
    assert drain(tmp_path / "spool", tmp_path / "log", 1000) == spool.written
    assert spool.append(row)  # there is room again
