"""What the audit trail costs, beside the plainest way to write the same rows.

Run as `python -m tests.bench.bench_audit [RECORDS]`: durable appends a second, one commit each and in groups;
how long a request waits; what it costs to verify, export and check RECORDS (1,000,000 if not said).

SQLite syncs at every commit, PostgreSQL runs with its defaults.
"""

import asyncio
import hashlib
import json
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from rich.console import Console
from rich.table import Table
from sqlalchemy import event

from majlis.audit import Entry, append, extend, verify
from majlis.audit_export import check, export
from majlis.audit_writer import AuditWriter
from majlis.settings import AuditSection
from majlis.store import Store
from tests.service.databases import postgresql_server

PROMISED = "promised: 4,000 durable appends a second under load; 1,000,000 records verify within 10 CPU s"
DETAIL = {
    "check": "performance",
    "value": 0.4123,
    "threshold": 0.35,
    "evidence": {"rows": 28_912, "resamples": 200},
}
GROUP = 1_000  # records a commit, when they come in bulk
SINGLE = 300  # records, when each has a commit of its own


class Timed:
    """Wall and processor seconds of a block."""

    def __enter__(self) -> "Timed":
        self.wall, self.cpu = -time.perf_counter(), -time.process_time()
        return self

    def __exit__(self, *raised: object) -> None:
        self.wall += time.perf_counter()
        self.cpu += time.process_time()


Load = Callable[[AuditWriter, int], list[float]]  # appends so many records; returns how long each waited


def threads(count: int) -> Load:
    """`count` threads that each wait for their record."""

    def load(writer: AuditWriter, records: int) -> list[float]:
        waits: list[float] = []

        def work() -> None:
            for number in range(records // count):
                with Timed() as timed:
                    writer.append("amira", "model.read", f"flight_delay/{number}", DETAIL)
                waits.append(timed.wall)

        workers = [threading.Thread(target=work) for _ in range(count)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return waits

    return load


def requests(count: int) -> Load:
    """`count` requests in one event loop."""

    def load(writer: AuditWriter, records: int) -> list[float]:
        waits: list[float] = []

        async def work() -> None:
            for number in range(records // count):
                with Timed() as timed:
                    await writer.append_soon("amira", "model.read", f"flight_delay/{number}", DETAIL)
                waits.append(timed.wall)

        async def together() -> None:
            await asyncio.gather(*(work() for _ in range(count)))

        asyncio.run(together())
        return waits

    return load


def plain(folder: Path, records: int) -> Timed:
    """The peer: sqlite3 from the standard library, hash-chained, one durable commit a record."""
    connection = sqlite3.connect(folder / "plain.sqlite", isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE audit (body, digest)"
    )
    digest = ""
    with Timed() as timed:
        for number in range(records):
            body = json.dumps([f"flight_delay/{number}", DETAIL, digest], sort_keys=True)
            digest = hashlib.sha256(body.encode()).hexdigest()
            connection.execute("INSERT INTO audit VALUES (?, ?)", (body, digest))
    connection.close()
    return timed


def one_by_one(store: Store, records: int) -> Timed:
    """Each record in a transaction of its own, as when a change is recorded."""
    with Timed() as timed:
        for number in range(records):
            with store.session() as session:
                append(session, "amira", "model.read", f"flight_delay/{number}", DETAIL)
    return timed


@contextmanager
def committed(store: Store) -> Iterator[list[None]]:
    """One item for each commit while the block runs."""
    made: list[None] = []

    def note(connection: object) -> None:
        made.append(None)

    event.listen(store.engine, "commit", note)
    try:
        yield made
    finally:
        event.remove(store.engine, "commit", note)


def measure(store: Store, kind: str, folder: Path, records: int, table: Table) -> tuple[float, float]:
    """All rows of one database; returns the best load's appends a second and a million's CPU s to verify."""

    def row(what: str, count: int, timed: Timed, waits: list[float] | None = None, commits: int = 0) -> float:
        ordered = sorted(waits or [])
        shown = (
            [f"{1000 * ordered[int(len(ordered) * part)]:.1f}" for part in (0.5, 0.99)]
            if ordered
            else ["", ""]
        )
        shown += [f"{1000 * ordered[-1]:.1f}" if ordered else ""]
        shown += [f"{count / commits:.0f}" if commits else ""]
        table.add_row(kind, what, f"{count / timed.wall:,.0f}", f"{1e6 * timed.cpu / count:.0f}", *shown)
        return count / timed.wall

    row("append, one commit each", SINGLE, one_by_one(store, SINGLE))
    best = 0.0
    loads = [
        (threads(1), "1 thread", 300),
        (threads(64), "64 threads", 20_000),
        (requests(256), "256 requests", 50_000),
    ]
    for load, name, count in loads:
        with AuditWriter(store, AuditSection()) as writer, committed(store) as commits, Timed() as timed:
            waits = load(writer, count)
        best = max(best, row(f"writer, {name}", len(waits), timed, waits, len(commits)))
    with store.reading() as session:
        have = verify(session).records
    entries = [Entry("amira", "check.passed", f"flight_delay/{number}", DETAIL) for number in range(GROUP)]
    with Timed() as timed:
        for _ in range(max(0, records - have) // GROUP):
            with store.session() as session:
                extend(session, entries)
    row(f"extend, {GROUP} a commit", max(1, records - have), timed)
    with store.reading() as session, Timed() as verified:
        verdict = verify(session)
    assert verdict, verdict.reason
    row(f"verify {verdict.records:,}", verdict.records, verified)
    key = ec.generate_private_key(ec.SECP256R1())
    with store.reading() as session, Timed() as timed:
        export(session, folder / kind, key)
    row(f"verify and export {verdict.records:,}", verdict.records, timed)
    with Timed() as timed:
        check(folder / kind, key.public_key())
    row(f"check the export, no database, {verdict.records:,}", verdict.records, timed)
    return best, 1e6 * verified.cpu / verdict.records


@contextmanager
def stores(folder: Path) -> Iterator[dict[str, Store]]:
    """A migrated store on each database."""
    with postgresql_server() as server:
        found = {"SQLite": Store(f"sqlite:///{folder}/majlis.sqlite"), "PostgreSQL": Store(server.database())}
        for store in found.values():
            store.migrate()
        yield found
        for store in found.values():
            store.close()


def main(records: int = 1_000_000) -> None:
    """Print the table, and what was promised beside what was found."""
    table = Table(title=f"Audit trail, {records:,} records", title_justify="left")
    for name in ("database", "what", "records/s", "CPU µs/record", "wait ms p50", "p99", "max", "a commit"):
        table.add_column(name, justify="left" if name in ("database", "what") else "right")
    said = []
    with tempfile.TemporaryDirectory(prefix="majlis-bench-") as name, stores(Path(name)) as found:
        timed = plain(Path(name), SINGLE)
        peer, cpu = SINGLE / timed.wall, 1e6 * timed.cpu / SINGLE
        table.add_row("SQLite", "peer: sqlite3, one commit each", f"{peer:,.0f}", f"{cpu:.0f}")
        for kind, store in found.items():
            best, cpu = measure(store, kind, Path(name), records, table)
            said.append(
                f"{kind}: {best:,.0f}/s, {best / peer:.0f} times the peer; 1,000,000 take {cpu:.1f} CPU s"
            )
    Console(width=120).print(table, *said, PROMISED, sep="\n")


def test_audit() -> None:
    """Everything that was written, in whatever way, is one chain that verifies."""
    main()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
