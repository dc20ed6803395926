"""The store keeps its promises on both databases."""

import subprocess
import sys
import threading
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from setuptools import find_packages
from sqlalchemy import Column, Integer, MetaData, Table, insert, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

import majlis
from majlis.errors import Invalid, MajlisError, Unavailable
from majlis.store import Base, Json, Store, Utc

PACKAGE = Path(majlis.__file__).parent
notes = Table(
    "notes", MetaData(), Column("id", Integer, primary_key=True), Column("at", Utc), Column("what", Json)
)


@pytest.fixture
def noted(store: Store) -> Store:
    """A store with a table to play with."""
    notes.create(store.engine)
    return store


def import_every_table() -> None:
    """Import the rooms that declare tables."""
    for path in PACKAGE.rglob("*.py"):
        if "(Base)" in path.read_text():
            __import__(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))


def test_the_migrated_tables_are_the_models(store: Store) -> None:
    import_every_table()
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrating_again_changes_nothing(store: Store) -> None:
    before = set(inspect(store.engine).get_table_names())
    store.migrate()
    assert set(inspect(store.engine).get_table_names()) == before >= {"audit", "audit_retired"}


def test_two_that_migrate_at_once_take_turns(store_url: str) -> None:
    raised: list[BaseException] = []

    def migrate() -> None:
        try:
            Store(store_url).migrate()
        except BaseException as error:  # a thread's exception is the test's to see
            raised.append(error)

    threads = [threading.Thread(target=migrate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == []


def test_a_migration_that_fails_leaves_nothing(store_url: str) -> None:
    store = Store(store_url)
    with pytest.raises(Exception, match="nowhere"):
        store.migrate("nowhere")
    assert "audit" not in inspect(store.engine).get_table_names()
    store.migrate()


def test_the_installed_package_migrates_without_the_checkout(tmp_path: Path) -> None:
    packages = find_packages(str(PACKAGE.parent), include=["majlis*"])
    assert {"majlis.migrations", "majlis.migrations.versions"} <= set(packages)
    for package in ("majlis", "majlis.migrations", "majlis.migrations.versions"):
        folder = tmp_path / "site" / Path(*package.split("."))
        folder.mkdir(parents=True)
        for module in PACKAGE.parent.joinpath(*package.split(".")).glob("*.py"):
            (folder / module.name).write_bytes(module.read_bytes())
    code = "import majlis.store as s; s.Store('sqlite:///x/m.sqlite').migrate(); print(s.__file__)"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(tmp_path) in ran.stdout
    assert "audit" in inspect(Store(f"sqlite:///{tmp_path}/x/m.sqlite").engine).get_table_names()


def test_a_block_that_raises_keeps_nothing(noted: Store) -> None:
    with pytest.raises(ZeroDivisionError), noted.session() as session:
        session.execute(insert(notes), [{"id": 1}])
        1 / 0  # noqa: B018
    with noted.reading() as session:
        assert session.execute(select(notes)).all() == []


def test_a_moment_comes_back_aware_and_equal(noted: Store) -> None:
    dubai = datetime(2026, 3, 1, 13, 0, 0, 123456, tzinfo=timezone(timedelta(hours=4)))
    with noted.session() as session:
        session.execute(insert(notes), [{"id": 1, "at": dubai}])
    with noted.reading() as session:
        at = session.execute(select(notes.c.at)).scalar_one()
    assert at == dubai and at.tzinfo is UTC


def test_a_moment_without_zone_is_refused(noted: Store) -> None:
    with pytest.raises(Exception, match="has no time zone"), noted.session() as session:
        session.execute(insert(notes), [{"id": 1, "at": datetime(2026, 3, 1)}])


def test_json_comes_back(noted: Store) -> None:
    what = {"a": [1, 2.5, None, True], "ü": {"b": "\u0001'\""}}
    with noted.session() as session:
        session.execute(insert(notes), [{"id": 1, "what": what}])
    with noted.reading() as session:
        assert session.execute(select(notes.c.what)).scalar_one() == what


def test_who_reads_cannot_write(noted: Store) -> None:
    with pytest.raises((MajlisError, DBAPIError)), noted.reading() as session:
        session.execute(insert(notes), [{"id": 1}])
    with noted.session() as session:  # and the connection is as before
        session.execute(insert(notes), [{"id": 1}])


def test_who_reads_sees_one_state(noted: Store) -> None:
    with noted.reading() as reader:
        assert reader.execute(select(notes)).all() == []
        with noted.session() as writer:
            writer.execute(insert(notes), [{"id": 1}])
        assert reader.execute(select(notes)).all() == []


def test_counting_writers_lose_nothing(noted: Store) -> None:
    with noted.session() as session:
        session.execute(insert(notes), [{"id": 1, "what": 0}])

    def count() -> None:
        for _ in range(10):
            with noted.session() as session:
                value = session.execute(select(notes.c.what).with_for_update()).scalar_one()
                session.execute(update(notes).values(what=value + 1))

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with noted.reading() as session:
        assert session.execute(select(notes.c.what)).scalar_one() == 80


def test_sqlite_is_set_up_to_survive_a_power_cut(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/m.sqlite")
    with store.session() as session:
        found = {
            name: session.scalar(text(f"PRAGMA {name}"))
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_writer_that_waits_too_long_is_told_to_come_back(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/m.sqlite", busy_timeout_seconds=0.1)
    with store.session() as first, pytest.raises(Unavailable, match="locked"), store.session() as second:
        first.execute(text("SELECT 1"))
        second.execute(text("SELECT 1"))


def test_more_readers_than_connections_are_told_to_come_back(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/m.sqlite")
    store.engine.pool._timeout = 0.05  # type: ignore[attr-defined]
    with ExitStack() as stack:
        for _ in range(15):
            stack.enter_context(store.reading()).execute(text("SELECT 1"))
        with pytest.raises(Unavailable, match="QueuePool limit"), store.reading() as session:
            session.execute(text("SELECT 1"))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://u@h/d"])
def test_a_database_that_cannot_keep_the_promise_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        Store(url)


def test_a_database_that_is_away_is_unavailable() -> None:
    with (
        pytest.raises(Unavailable) as raised,
        Store("postgresql://m:hunter2@127.0.0.1:1/m").session() as session,
    ):
        session.execute(text("SELECT 1"))
    assert "hunter2" not in str(raised.value)
