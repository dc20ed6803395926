"""Processes that append to one audit trail, and are killed while they do.

Run as `python -m tests.service.audit_writers URL FOLDER PROCESSES ROUNDS SEED RECORDS`.

In each round PROCESSES children write to the database at URL: half of their threads by group commit, half in
transactions that change a table as well. What is acknowledged goes into a file in FOLDER and outlives a kill.
With RECORDS = 0 the children are killed at a random moment, else each thread writes that many and ends.
"""

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

from sqlalchemy import Column, MetaData, Table, Text, insert, select

from majlis.audit import append
from majlis.audit_writer import AuditWriter
from majlis.settings import AuditSection
from majlis.store import Store

THREADS = 4
LONGEST_SECONDS = 0.3  # of a life that ends with a kill
changes = Table("changes", MetaData(), Column("subject", Text, primary_key=True))


def child(url: str, folder: Path, name: str, records: int, ready: int) -> None:
    """Write until killed, or `records` from each thread; a byte into `ready` says that it begins."""
    store = Store(url)
    with store.reading() as session:
        session.execute(select(changes).limit(1))
    os.write(ready, b".")
    acknowledged = os.open(folder / "acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def alone(thread: int, writer: AuditWriter) -> None:
        for number in range(records) if records else iter(int, 1):
            subject = f"alone/{name}/{thread}/{time.monotonic_ns()}/{number}"
            writer.append(name, "model.read", subject)
            os.write(acknowledged, f"{subject}\n".encode())

    def together(thread: int) -> None:
        for number in range(records) if records else iter(int, 1):
            subject = f"together/{name}/{thread}/{time.monotonic_ns()}/{number}"
            with store.session() as session:
                session.execute(insert(changes).values(subject=subject))
                append(session, name, "model.changed", subject)
            os.write(acknowledged, f"{subject}\n".encode())

    with AuditWriter(store, AuditSection()) as writer:
        threads = [threading.Thread(target=alone, args=(n, writer)) for n in range(THREADS // 2)]
        threads += [threading.Thread(target=together, args=(n,)) for n in range(THREADS // 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    store.close()


def main(url: str, folder: Path, processes: int, rounds: int, seed: int, records: int) -> int:
    """Run all rounds; the exit status is that of the worst child that was not killed."""
    dice, worst = random.Random(seed), 0
    Store(url).close()  # imports the driver before any child does
    for round_number in range(rounds):
        born = []
        begun, ready = os.pipe()
        for number in range(processes):
            if (pid := os.fork()) == 0:
                child(url, folder, f"writer{round_number}.{number}", records, ready)
                os._exit(0)
            born.append(pid)
        os.close(ready)
        for _ in born:
            os.read(begun, 1)  # empty when a child died before it began
        os.close(begun)
        if not records:
            time.sleep(dice.uniform(0, LONGEST_SECONDS))  # the random moment
        for pid in born:
            if not records:
                os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            worst = max(worst, os.waitstatus_to_exitcode(status))
    return worst


if __name__ == "__main__":
    address, place, *numbers = sys.argv[1:]
    sys.exit(main(address, Path(place), *map(int, numbers)))
