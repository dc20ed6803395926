"""The audit trail cannot be rewritten, and tells when it was, on both databases."""

import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from majlis.audit import GENESIS, Entry, append, extend, head, records, verify
from majlis.errors import Invalid
from majlis.store import Store


def fill(store: Store, count: int = 5) -> None:
    with store.session() as session:
        extend(
            session,
            [Entry("amira", "check.passed", f"flight_delay/{n}", {"n": n}) for n in range(1, count + 1)],
        )


def tamper(store: Store, *statements: str) -> None:
    """Do what the database's owner can: take the triggers away, then rewrite."""
    lite = store.engine.dialect.name == "sqlite"
    triggers = ["audit_insert", "audit_update", "audit_delete"]
    with store.session() as session:
        for trigger in triggers:
            session.execute(text(f"DROP TRIGGER {trigger}" + ("" if lite else " ON audit")))
        for statement in statements:
            session.execute(text(statement))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET principal = 'nobody' WHERE seq = 2",
        "UPDATE audit SET seq = 9 WHERE seq = 5",
        "DELETE FROM audit WHERE seq = 5",
        "DELETE FROM audit",
        "INSERT INTO audit SELECT 9, at, principal, action, subject, detail, previous, digest FROM audit",
        "INSERT INTO audit_retired VALUES (0, '', '', '')",
    ],
)
def test_the_database_refuses(store: Store, statement: str) -> None:
    fill(store)
    with pytest.raises(DBAPIError, match="audit: "), store.session() as session:
        session.execute(text(statement))
    with store.reading() as session:
        assert verify(session).records == 5


def test_the_database_refuses_to_take_a_retirement_back(store: Store) -> None:
    with store.session() as session:
        session.execute(text("INSERT INTO audit_retired VALUES (3, '', '', '')"))
    for statement in ["DELETE FROM audit_retired", "UPDATE audit_retired SET seq = 4"]:
        with pytest.raises(DBAPIError, match="audit: "), store.session() as session:
            session.execute(text(statement))


def test_postgresql_refuses_to_truncate(store: Store) -> None:
    if store.engine.dialect.name == "sqlite":
        return  # it has no TRUNCATE
    for table in ("audit", "audit_retired"):
        with pytest.raises(DBAPIError, match="append-only"), store.session() as session:
            session.execute(text(f"TRUNCATE {table}"))


@pytest.mark.parametrize(
    ("statements", "first_bad", "reason"),
    [
        (["UPDATE audit SET principal = 'nobody' WHERE seq = 3"], 3, "was changed"),
        (["UPDATE audit SET at = '2020-01-01T00:00:00.000000Z' WHERE seq = 3"], 3, "was changed"),
        (["UPDATE audit SET action = 'check.failed' WHERE seq = 3"], 3, "was changed"),
        (["UPDATE audit SET subject = 'other/1' WHERE seq = 1"], 1, "was changed"),
        (["""UPDATE audit SET detail = '{"n": 5}' WHERE seq = 5"""], 5, "was changed"),
        (["UPDATE audit SET detail = 'no json' WHERE seq = 5"], 5, "was changed"),
        (["UPDATE audit SET digest = previous WHERE seq = 2"], 2, "was changed"),
        (["UPDATE audit SET previous = digest WHERE seq = 2"], 2, "does not follow"),
        (["DELETE FROM audit WHERE seq = 1"], 1, "record 1 is missing"),
        (["DELETE FROM audit WHERE seq = 3"], 3, "record 3 is missing"),
        (["DELETE FROM audit WHERE seq = 3", "UPDATE audit SET seq = 3 WHERE seq = 4"], 3, "does not follow"),
        (
            [
                "UPDATE audit SET seq = 9 WHERE seq = 2",
                "UPDATE audit SET seq = 2 WHERE seq = 3",
                "UPDATE audit SET seq = 3 WHERE seq = 9",
            ],
            2,
            "does not follow",
        ),
    ],
)
def test_the_chain_names_the_first_bad_record(
    store: Store, statements: list[str], first_bad: int, reason: str
) -> None:
    fill(store)
    tamper(store, *statements)
    with store.reading() as session:
        verdict = verify(session)
    assert not verdict and verdict.first_bad == first_bad
    assert reason in verdict.reason


def test_an_empty_trail_verifies(store: Store) -> None:
    with store.reading() as session:
        verdict = verify(session)
        assert verdict and (verdict.records, verdict.head) == (0, GENESIS)


def test_writers_at_once_make_one_chain(store: Store) -> None:
    def write(name: str) -> None:
        for number in range(15):
            with store.session() as session:
                append(session, name, "thing.done", f"{name}/{number}")

    threads = [threading.Thread(target=write, args=(f"writer{n}",)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.reading() as session:
        assert verify(session).records == 150
        assert len({one.subject for one in records(session, limit=1000)}) == 150


def test_a_record_goes_with_its_transaction(store: Store) -> None:
    fill(store, 1)
    with pytest.raises(ZeroDivisionError), store.session() as session:
        append(session, "amira", "thing.done", "x")
        1 / 0  # noqa: B018
    fill(store, 1)
    with store.reading() as session:
        assert verify(session).records == 2
        assert head(session)[0] == 2


def test_reading_filters_and_pages(store: Store) -> None:
    with store.session() as session:
        for number in range(1, 7):
            append(
                session,
                "amira" if number % 2 else "omar",
                "review.approved",
                f"m/{number % 3}",
                {"n": number},
            )
    with store.reading() as session:

        def found(**wanted: Any) -> list[int]:
            return [one.seq for one in records(session, **wanted)]

        assert found(principal="omar") == [2, 4, 6]
        assert found(subject="m/0", principal="omar") == [6]
        assert found(action="review.rejected") == []
        assert found(after=4) == [5, 6]
        assert found(limit=2) == [1, 2]
        assert found(newest=True, limit=2) == [6, 5]


@pytest.mark.parametrize(
    ("principal", "action", "subject", "detail"),
    [
        ("", "a.b", "s", {}),
        ("p", "a.b", "", {}),
        ("p\x00", "a.b", "s", {}),
        ("p", "a.b", "s\ud800", {}),
        ("p", "approved", "s", {}),
        ("p", "A.b", "s", {}),
        ("p", "a.b", "s", {"x": float("inf")}),
        ("p", "a.b", "s", {"x": object()}),
        ("p", "a.b", "s", {"x": "\ud800"}),
        ("p", "a.b", "s", {"x": b"bytes"}),
    ],
)
def test_what_cannot_be_recorded_exactly_is_refused(
    principal: str, action: str, subject: str, detail: dict[str, Any]
) -> None:
    with pytest.raises(Invalid):
        Entry(principal, action, subject, detail)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(principal=names, subject=names, detail=st.dictionaries(st.text(), plain))
def test_whatever_is_recorded_comes_back_and_verifies(
    store: Store, principal: str, subject: str, detail: dict[str, Any]
) -> None:
    try:
        with store.session() as session:
            written = append(session, principal, "thing.done", subject, detail)
    except Invalid:
        return  # text that UTF-8 cannot say
    with store.reading() as session:
        assert records(session, newest=True, limit=1) == [written]
        assert written.detail == detail
        assert verify(session)
