"""Writers of the audit trail, killed at random moments, again and again: what was acknowledged must be there.

Run as `python -m tests.bench.bench_kills [KILLS]` (200 if not said), or `make bench-kills`: two and ten
processes, on SQLite and on PostgreSQL. The tests do the same a few times; this is the long run.
"""

import sys
import tempfile
from pathlib import Path

from majlis.store import Store
from tests.service.audit_writers import changes
from tests.service.databases import postgresql_server
from tests.service.test_audit_writer import judge, write


def main(kills: int = 200) -> None:
    """Say for each database and number of writers how many acknowledged records were kept."""
    with tempfile.TemporaryDirectory(prefix="majlis-bench-") as name, postgresql_server() as server:
        for processes in (2, 10):
            for kind in ("SQLite", "PostgreSQL"):
                folder = Path(name) / f"{kind}-{processes}"
                folder.mkdir()
                url = server.database() if kind == "PostgreSQL" else f"sqlite:///{folder}/majlis.sqlite"
                store = Store(url)
                store.migrate()
                changes.create(store.engine)
                write(url, folder, processes=processes, rounds=kills, records=0)
                kept = judge(store, folder)
                store.close()
                print(f"{kind}, {processes} writers killed {kills} times: {kept:,} acknowledged, none lost")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
