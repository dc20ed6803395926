"""The servers that other tests rely on: unprivileged, and gone when whoever started them is."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import redis as redis_client
from sqlalchemy.engine import make_url

from tests.service.databases import PostgreSQL

ROOT = Path(__file__).parents[2]
OWNER = """
import pathlib, sys
from tests.service.databases import postgresql_server
with postgresql_server() as server:
    print(server.port, flush=True)
    sys.stdin.read()
"""


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_postgresql_answers_and_is_not_root(postgresql: PostgreSQL) -> None:
    with psycopg.connect(postgresql.url()) as connection:
        row = connection.execute("SELECT pg_backend_pid(), version()").fetchone()
        assert row is not None and row[1].startswith("PostgreSQL")
        assert psutil.Process(row[0]).uids().real != 0


def test_redis_answers_and_is_not_root(redis: str) -> None:
    client = redis_client.Redis.from_url(redis)
    client.set("key", "value")
    assert client.get("key") == b"value"
    assert psutil.Process(int(client.info()["process_id"])).uids().real != 0


def test_a_server_ends_with_its_owner_even_when_that_is_killed() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    port = int(owner.stdout.readline())
    assert listens(port)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    deadline = time.monotonic() + 30
    while listens(port):
        assert time.monotonic() < deadline, "the server outlived its owner"
        time.sleep(0.05)  # between two looks


def test_an_emptied_database_has_no_tables(postgresql: PostgreSQL) -> None:
    address = postgresql.database()
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("CREATE TABLE left_over (id int)")
    assert postgresql.emptied(address) == address
    with psycopg.connect(address) as connection:
        assert connection.execute("SELECT to_regclass('left_over')").fetchone() == (None,)
    assert make_url(address).database != "postgres"
