"""A registry that grows: what a list costs does not depend on how much there is of what it does not show."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, insert

from majlis import clock
from majlis.registry.versions import CheckRow, ModelRow, State, VersionRow, in_state, of_model, version_record
from majlis.store import Store
from tests.bench.bench_registry import model, model_name, version


def fill(store: Store, waiting: int) -> None:
    """A model whose versions all wait for people, each with two checks."""
    rows = [version(number, waiting, waiting, "policy") for number in range(waiting)]
    check = {
        "verdict": "passed",
        "value": 0.4,
        "threshold": 0.3,
        "reason": "",
        "evidence": {},
        "seconds": 1.0,
    }
    more = {"code_digest": "0" * 64, "at": clock.now()}
    with store.session() as session:
        session.execute(insert(ModelRow), [model(0, waiting)])
        session.execute(insert(VersionRow), rows)
        names = ("latency", "leakage")
        checks = [{"version_id": row["id"], "name": name} | check | more for row in rows for name in names]
        session.execute(insert(CheckRow), checks)


@contextmanager
def counted(store: Store) -> Iterator[list[str]]:
    """The statements that are executed inside."""
    seen: list[str] = []

    def note(_: Any, __: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(store.engine, "before_cursor_execute", note)


@pytest.mark.parametrize("waiting", [3, 30])
def test_those_that_wait_are_listed_in_a_handful_of_statements(store: Store, waiting: int) -> None:
    fill(store, waiting)
    with counted(store) as seen, store.reading() as session:
        records = [version_record(row) for row in in_state(session, State.IN_REVIEW)]
    assert len(records) == waiting and all(len(record["checks"]) == 2 for record in records)
    assert len([statement for statement in seen if statement.startswith("SELECT")]) <= 5


def test_a_list_of_versions_leaves_the_large_columns_where_they_are(store: Store) -> None:
    fill(store, 20)
    with store.reading() as session:
        with counted(store) as seen:
            rows = of_model(session, model_name(0))
            assert [row.version for row in rows] == list(range(20, 0, -1))
        (statement,) = [each for each in seen if each.startswith("SELECT")]
        assert "digests" not in statement and "signature" not in statement
        assert rows[0].digests["file_0"] and len(rows[0].checks) == 2  # and has them when they are asked for
