"""Real PostgreSQL and Redis servers, started for a test session and gone after it.

Each runs as an unprivileged account, on a free port of the loopback, in a folder of its own. A shell holds
it: when this process ends, however it ends, the shell's input closes, and it stops the server and cleans up.
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis as redis_client

from majlis.store import Store

START_SECONDS = 60
HOLD = """
folder=$1; log=$2; signal=$3; shift 3
"$@" >"$log" 2>&1 </dev/null & server=$!
cat >/dev/null
kill -"$signal" "$server"; wait "$server"
rm -rf "$folder"
"""


@dataclass(frozen=True)
class PostgreSQL:
    """A running server."""

    port: int
    password: str

    def url(self, database: str = "postgres") -> str:
        """The address of one of its databases."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def database(self, kept: str = "") -> str:
        """The address of a new, empty database, or of the one called `kept`, made where there is none."""
        name = kept or f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
            if known is None:
                connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url(name)

    def emptied(self, database: str) -> str:
        """The address of one of its databases, without the tables it had: quicker than a new one."""
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        return database


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL server. It does not wait for the disk: tests kill its clients, never the power."""
    with postgresql_server("-c", "fsync=off", "-c", "synchronous_commit=off") as server:
        yield server


@contextmanager
def postgresql_server(*options: str, kept: Path | None = None) -> Iterator[PostgreSQL]:
    """A PostgreSQL server with `options`, while the block runs; its databases stay in the folder `kept`."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not binaries:
        raise RuntimeError("PostgreSQL is missing; install Debian's package: apt-get install postgresql")
    account, port = unprivileged("postgres"), free_port()
    folder = private_folder("majlis-postgresql-", account)
    home = kept or folder
    data, secret = home / "data", home / "password"
    if not data.is_dir():
        initialised(binaries[-1].with_name("initdb"), data, secret, account)
    server = PostgreSQL(port, secret.read_text())
    command = [binaries[-1], "-D", data, "-h", "127.0.0.1", "-p", port, "-k", folder, *options]
    with held(
        folder, command, account, "QUIT", lambda: psycopg.connect(server.url(), connect_timeout=2).close()
    ):
        yield server


def initialised(initdb: Path, data: Path, secret: Path, account: pwd.struct_passwd) -> None:
    """Make an empty cluster in `data`, and its password in `secret`."""
    data.parent.mkdir(mode=0o700, exist_ok=True)
    secret.write_text(secrets.token_hex(16))
    secret.chmod(0o600)
    for path in (data.parent, secret):
        os.chown(path, account.pw_uid, account.pw_gid)
    subprocess.run(
        [initdb, "-D", data, "-U", "postgres", "-E", "UTF8", "--locale", "C.UTF-8"]
        + ["-A", "scram-sha-256", "--pwfile", secret],
        **identity(account),
        cwd=data.parent,
        env={"PATH": os.environ["PATH"]},
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="session")
def redis() -> Iterator[str]:
    """The URL of a Redis server that keeps nothing on disk."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise RuntimeError("Redis is missing; install Debian's package: apt-get install redis-server")
    account, port = unprivileged("redis"), free_port()
    folder = private_folder("majlis-redis-", account)
    command = [binary, "--bind", "127.0.0.1", "--port", port, "--dir", folder, "--save", ""]
    url = f"redis://127.0.0.1:{port}/0"
    with held(folder, command, account, "TERM", lambda: redis_client.Redis.from_url(url).ping()):
        yield url


@pytest.fixture(scope="session")
def emptied_database(postgresql: PostgreSQL) -> str:
    """The address of the database that `store_url` empties for each test."""
    return postgresql.database()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database, on each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'majlis.sqlite'}"
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return server.emptied(request.getfixturevalue("emptied_database"))


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A migrated store, on each kind of database in turn."""
    opened = Store(store_url)
    opened.migrate()
    yield opened
    opened.close()


class held:
    """A server that lives as long as the block, and not longer than this process."""

    def __init__(
        self,
        folder: Path,
        command: list[object],
        account: pwd.struct_passwd,
        signal: str,
        ask: Callable[[], object],
    ) -> None:
        self.log = folder / "log"
        self.ask = ask
        self.process = subprocess.Popen(
            ["sh", "-c", HOLD, "sh", str(folder), str(self.log), signal, *map(str, command)],
            stdin=subprocess.PIPE,
            **identity(account),
            cwd=folder,
            start_new_session=True,  # Ctrl-C in the terminal is ours to pass on
        )

    def __enter__(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.ask()
                return
            except (psycopg.OperationalError, redis_client.ConnectionError) as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    told = self.log.read_text() if self.log.exists() else ""
                    self.__exit__()
                    raise RuntimeError(f"the server did not start: {error}\n{told}") from error
            time.sleep(0.05)  # between two looks

    def __exit__(self, *raised: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(START_SECONDS)


def unprivileged(account: str) -> pwd.struct_passwd:
    """Who a server runs as: its own account (or nobody) when this process is root, else whoever runs this."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    known = {entry.pw_name for entry in pwd.getpwall()}
    return pwd.getpwnam(account if account in known else "nobody")


def identity(account: pwd.struct_passwd) -> dict[str, Any]:
    """What `subprocess` needs to run something as `account`."""
    if os.geteuid() != 0:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def private_folder(prefix: str, account: pwd.struct_passwd) -> Path:
    """A new folder that only `account` (and root) can enter."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    os.chown(folder, account.pw_uid, account.pw_gid)
    return folder


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
