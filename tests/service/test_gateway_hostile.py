"""Callers who mean harm or are merely broken, and processes that are killed: nobody else notices."""

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from tests.service.gateways import World, linear, wait_until

pytestmark = pytest.mark.timeout(180)
MIB = 2**20


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway of one process."""
    world = World(tmp_path_factory.mktemp("hostile"), max_body_bytes=MIB, request_timeout_seconds=2)
    world.release("double-1", linear(2.0))
    world.deploy(double_1=1)
    with world.gateway():
        world.synced()
        yield world


def raw(world: World, body: bytes, head: str = "") -> socket.socket:
    """A connection that has sent a request for a prediction."""
    connection = socket.create_connection(("127.0.0.1", world.port), timeout=20)
    length = "" if "transfer-encoding" in head else f"content-length: {len(body)}\r\n"
    connection.sendall(
        f"POST /v2/models/adder/infer HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {world.key}\r\n"
        f"{head or length}\r\n".encode()
        + body
    )
    return connection


def body(*values: object) -> bytes:
    """A V2 request whose data are written as they come."""
    data = ", ".join(map(str, values))
    return b'{"inputs": [{"name": "x", "shape": [%d], "datatype": "FP64", "data": [%s]}]}' % (
        len(values),
        data.encode(),
    )


@pytest.mark.parametrize(
    "value",
    [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1e999",
        "9" * 5000,
        "0x10",
        "1e5000000",
        '"1"',
        "[[1]]",
        "true",
    ],
)
def test_what_is_no_number_is_refused_or_answered_and_never_a_500(world: World, value: str) -> None:
    """JSON has no NaN; a number beyond a double is not silently infinite."""
    headers = {"authorization": f"Bearer {world.key}"}
    answer = httpx.post(f"{world.url}/v2/models/adder/infer", content=body(value), headers=headers)
    assert answer.status_code == 400, answer.text
    csv = httpx.post(
        f"{world.url}/invocations/adder",
        content=f"x\n{value}\n".encode(),
        headers=headers | {"content-type": "text/csv"},
    )
    assert csv.status_code in {200, 400}
    if csv.status_code == 200:  # a missing number is one that CSV can say
        assert json.loads(csv.text, parse_constant=pytest.fail)
    assert world.ask(1.0).status_code == 200


def gateway_memory(world: World) -> int:
    """Bytes that the serving processes hold."""
    return sum(psutil.Process(process["pid"]).memory_info().rss for process in world.status()["processes"])


def test_a_hundred_megabytes_are_refused_before_they_are_held(world: World) -> None:
    """Declared, it is refused unread; in chunks, at the limit. Memory stays where it was."""
    before = gateway_memory(world)
    declared = raw(world, b"", f"content-length: {100 * MIB}\r\n")
    assert declared.recv(64).split()[1] == b"413"
    declared.close()
    chunked = raw(world, b"", "transfer-encoding: chunked\r\n")
    piece = b"%x\r\n" % MIB + b"0" * MIB + b"\r\n"
    with contextlib.suppress(OSError):  # the gateway may hang up before all is sent
        for _ in range(100):
            chunked.sendall(piece)
        assert chunked.recv(64).split()[1] == b"413"
    chunked.close()
    assert gateway_memory(world) - before < 50 * MIB
    assert world.ask(1.0).status_code == 200


def test_a_caller_that_closes_its_half_leaves_nothing_behind(world: World) -> None:
    """In the middle of a body, and after it: the others are served, and the connections end."""
    whole = body(1.0)
    halves = [raw(world, whole[:20], f"content-length: {len(whole)}\r\n") for _ in range(50)]
    halves += [raw(world, whole) for _ in range(50)]
    for connection in halves:
        connection.shutdown(socket.SHUT_WR)
    assert world.ask(1.0).status_code == 200
    for connection in halves:  # an answer, a refusal, or an end: nothing hangs
        while connection.recv(65_536):
            continue
        connection.close()
    assert world.ask(1.0).status_code == 200


def test_garbage_is_not_http(world: World) -> None:
    """A TLS hello, random bytes, a header without end."""
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        os.urandom(4096),
        b"GET / HTTP/1.1\r\nx: " + b"y" * 200_000,
    ):
        connection = socket.create_connection(("127.0.0.1", world.port), timeout=20)
        with contextlib.closing(connection), contextlib.suppress(OSError):  # it may be reset
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                continue
    assert world.ask(1.0).status_code == 200


class Caller(threading.Thread):
    """Asks over one connection after the other, and counts what went wrong."""

    def __init__(self, world: World, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.world, self.stop = world, stop
        self.answered, self.lost, self.codes = 0, 0, set[int]()

    def run(self) -> None:
        """Ask until told to stop; a connection that broke is one request lost."""
        headers = {"authorization": f"Bearer {self.world.key}"}
        while not self.stop.is_set():
            with httpx.Client(base_url=self.world.url, headers=headers, timeout=30) as client:
                try:
                    while not self.stop.is_set():
                        self.codes.add(client.post("/v2/models/adder/infer", content=body(1.0)).status_code)
                        self.answered += 1
                except httpx.TransportError:
                    self.lost += 1


def replaced(world: World, victim: int) -> bool:
    """Whether two processes serve again, and the killed one is not among them."""
    now = {process["pid"] for process in world.status()["processes"]}
    return len(now) == 2 and victim not in now


def moved(callers: list[Caller], before: list[int]) -> bool:
    """Whether every caller was answered again, and often."""
    return all(caller.answered > then + 20 for caller, then in zip(callers, before, strict=True))


def test_a_process_killed_under_load_takes_only_its_own_requests_along(tmp_path: Path) -> None:
    """Each caller loses at most the request it had there, for each kill; then all are answered again."""
    world = World(tmp_path, workers=2)
    world.release("double-1", linear(2.0))
    world.deploy(double_1=1)
    with world.gateway():
        wait_until(lambda: len(world.synced()["processes"]) == 2, 60)
        stop = threading.Event()
        callers = [Caller(world, stop) for _ in range(4)]
        for caller in callers:
            caller.start()
        wait_until(lambda: all(caller.answered > 20 for caller in callers), 60)
        for _ in range(2):
            victim = world.status()["processes"][0]["pid"]
            os.kill(victim, signal.SIGKILL)
            before = [caller.answered for caller in callers]
            wait_until(partial(moved, callers, before), 60)
            wait_until(partial(replaced, world, victim), 60)
        stop.set()
        for caller in callers:
            caller.join(60)
        assert {code for caller in callers for code in caller.codes} == {200}
        assert all(caller.lost <= 2 for caller in callers), [caller.lost for caller in callers]
