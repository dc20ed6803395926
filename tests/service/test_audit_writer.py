"""Group commit: what is acknowledged is there, what is not is there at most once, nobody waits for others."""

import asyncio
import os
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import pytest
from sqlalchemy import event, select, text

from majlis.audit import AuditRow, Entry, Record, append, records, verify
from majlis.audit_writer import AuditWriter
from majlis.errors import Unavailable
from majlis.settings import AuditSection
from majlis.store import Store
from tests.service.audit_writers import THREADS, changes

KILLS = int(os.environ.get("AUDIT_KILLS", "12"))  # 200 for the long run
ROOT = Path(__file__).parents[2]


def write(url: str, folder: Path, processes: int, rounds: int, records: int) -> None:
    """Have processes write; see audit_writers.py."""
    numbers = map(str, (processes, rounds, 20130101, records))
    command = [sys.executable, "-m", "tests.service.audit_writers", url, str(folder), *numbers]
    subprocess.run(command, cwd=ROOT, check=True, timeout=1200)


def judge(store: Store, folder: Path) -> int:
    """What must hold whoever was killed when; returns how many records were acknowledged."""
    acknowledged = (folder / "acknowledged").read_text().splitlines()
    with store.reading() as session:
        verdict = verify(session)
        there = Counter(session.execute(select(AuditRow.subject)).scalars())
        changed = set(session.execute(select(changes.c.subject)).scalars())
    assert verdict, verdict.reason
    assert verdict.records == there.total()
    assert set(there.values()) <= {1}, "a record appears twice"
    assert set(acknowledged) <= set(there), "an acknowledged record was lost"
    assert changed == {subject for subject in there if subject.startswith("together/")}
    return len(acknowledged)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("processes", "kills"), [(2, KILLS), (10, max(3, KILLS // 4))])
def test_killed_at_random_moments_the_trail_keeps_its_word(
    store: Store, store_url: str, tmp_path: Path, processes: int, kills: int
) -> None:
    changes.create(store.engine)
    write(store_url, tmp_path, processes=processes, rounds=kills, records=0)
    assert judge(store, tmp_path) > kills  # they did write
    if store.lite:
        with store.reading() as session:
            assert session.scalar(text("PRAGMA integrity_check")) == "ok"


def test_ten_processes_write_one_chain(store: Store, store_url: str, tmp_path: Path) -> None:
    changes.create(store.engine)
    write(store_url, tmp_path, processes=10, rounds=1, records=5)
    assert judge(store, tmp_path) == 10 * THREADS * 5


def test_records_that_arrive_together_share_a_commit(store: Store) -> None:
    entries = [Entry("amira", "model.read", f"m/{number}") for number in range(50)]
    with store.session() as session, AuditWriter(store, AuditSection(group_records=20)) as writer:
        append(session, "amira", "model.changed", "m/0")  # holds the writer up
        futures = [writer.submit(entry) for entry in entries]
        assert not any(future.done() for future in futures)
        session.commit()
        written = [future.result(timeout=30) for future in futures]
    assert [record.seq for record in written] == list(range(2, 52))
    moments = Counter(record.at for record in written)
    assert moments.total() == 50
    with store.reading() as session:
        assert verify(session).records == 51


class Disk:
    """A store whose commits wait until they are let go; everything else is the real one's."""

    def __init__(self, store: Store) -> None:
        self.store, self.commits, self.entered = store, threading.Semaphore(0), threading.Semaphore(0)

    def session(self):  # type: ignore[no-untyped-def]
        self.entered.release()
        self.commits.acquire()
        return self.store.session()


def test_a_caller_waits_for_the_running_commit_and_its_own_and_no_other(store: Store) -> None:
    disk = Disk(store)
    writer = AuditWriter(disk, AuditSection())  # type: ignore[arg-type]
    first = writer.submit(Entry("a", "model.read", "m/first"))
    disk.entered.acquire()  # the first group is at the disk
    second = [writer.submit(Entry("a", "model.read", f"m/{number}")) for number in range(3)]
    disk.commits.release()
    assert first.result(timeout=30).seq == 1 and not any(future.done() for future in second)
    disk.entered.acquire()  # now the second group is
    third = writer.submit(Entry("a", "model.read", "m/third"))
    disk.commits.release()
    assert [future.result(timeout=30).seq for future in second] == [2, 3, 4]
    assert not third.done()
    disk.commits.release()
    writer.close()
    assert third.result().seq == 5


def test_a_full_queue_sends_callers_away_instead_of_growing(store: Store) -> None:
    disk = Disk(store)
    writer = AuditWriter(disk, AuditSection(queue_records=3))  # type: ignore[arg-type]
    futures = [writer.submit(Entry("a", "model.read", "m/0"))]
    disk.entered.acquire()
    futures += [writer.submit(Entry("a", "model.read", f"m/{number}")) for number in range(1, 4)]
    with pytest.raises(Unavailable, match="3 audit records wait"):
        writer.submit(Entry("a", "model.read", "m/4"))
    disk.commits.release(4)
    writer.close()
    assert [future.result().subject for future in futures] == ["m/0", "m/1", "m/2", "m/3"]


def test_a_group_that_fails_tells_its_callers_and_the_next_one_is_written(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/m.sqlite", busy_timeout_seconds=0.1)
    store.migrate()
    with AuditWriter(store, AuditSection()) as writer:
        with store.session() as session:
            session.execute(text("SELECT 1"))  # holds the write lock
            with pytest.raises(Unavailable, match="locked"):
                writer.append("a", "model.read", "m/1")
        assert writer.append("a", "model.read", "m/2").seq == 1


def test_a_full_disk_is_told_and_costs_no_acknowledged_record(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/m.sqlite")
    store.migrate()
    store.close()
    event.listen(
        store.engine, "connect", lambda connection, _: connection.execute("PRAGMA max_page_count=40")
    )
    written = []
    with AuditWriter(store, AuditSection()) as writer, pytest.raises(Unavailable, match="full"):
        for number in range(10_000):
            written.append(writer.append("a", "model.read", f"m/{number}", {"filling": "x" * 500}).digest)
    with store.reading() as session:
        assert verify(session)
        assert [record.digest for record in records(session, limit=10_000)] == written


def test_a_caller_that_gives_up_does_not_spoil_its_group(store: Store) -> None:
    disk = Disk(store)
    writer = AuditWriter(disk, AuditSection())  # type: ignore[arg-type]
    futures: list[Future[Record]] = [
        writer.submit(Entry("a", "model.read", f"m/{number}")) for number in range(3)
    ]
    assert not any(future.cancel() for future in futures)  # it is being written: too late to take it back
    disk.commits.release(3)
    writer.close()
    assert [future.result().seq for future in futures] == [1, 2, 3]


def test_a_coroutine_that_gives_up_does_not_spoil_its_group_nor_does_a_loop_that_is_gone(
    store: Store,
) -> None:
    disk = Disk(store)
    writer = AuditWriter(disk, AuditSection())  # type: ignore[arg-type]

    async def requests() -> list[int]:
        loops = [asyncio.ensure_future(writer.append_soon("a", "model.read", f"m/{n}")) for n in range(4)]
        await asyncio.to_thread(disk.entered.acquire)
        loops[1].cancel()
        disk.commits.release(2)
        done = await asyncio.gather(*loops, return_exceptions=True)
        assert isinstance(done[1], asyncio.CancelledError)
        return [record.seq for record in done if isinstance(record, Record)]

    async def leaves() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.append_soon("a", "model.read", "m/left"), timeout=0.01)

    assert asyncio.run(requests()) == [1, 3, 4]
    while disk.commits.acquire(blocking=False):
        pass  # one group or two: what was not needed is taken back
    asyncio.run(leaves())
    disk.commits.release(2)
    writer.close()
    with store.reading() as session:
        assert verify(session).records == 5


def test_coroutines_learn_why_their_record_was_not_written(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/m.sqlite", busy_timeout_seconds=0.1)
    store.migrate()
    with AuditWriter(store, AuditSection()) as writer, store.session() as session:
        session.execute(text("SELECT 1"))  # holds the write lock
        with pytest.raises(Unavailable, match="locked"):
            asyncio.run(writer.append_soon("a", "model.read", "m/1"))


def test_closing_writes_what_waits(store: Store) -> None:
    before = set(threading.enumerate())
    writer = AuditWriter(store, AuditSection())
    futures = [writer.submit(Entry("a", "model.read", f"m/{number}")) for number in range(100)]
    writer.close()
    assert [future.result(timeout=0).seq for future in futures] == list(range(1, 101))
    assert set(threading.enumerate()) <= before
