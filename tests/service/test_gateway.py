"""The gateway as real processes: what it refuses, what it survives, and what it writes down."""

import gzip
import json
import os
import signal
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from majlis.registry.release import ONNX, SIGNATURE, STATEMENT
from majlis.serving.segments import scan
from majlis.serving.snapshot import LOCATION
from majlis.training.evaluation import CLASSES
from tests.service.gateways import World, linear, wait_until

PROBLEM = "application/problem+json"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A home with two releases: one doubles, one triples."""
    world = World(tmp_path)
    world.release("double-1", linear(2.0))
    world.release("triple-1", linear(3.0))
    return world


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A gateway for the tests that leave it as it was."""
    world = World(tmp_path_factory.mktemp("gateway"), max_body_bytes=100_000, request_timeout_seconds=1)
    world.release("double-1", linear(2.0), metadata={CLASSES: ["late", 1, True]})
    world.deploy(double_1=1)
    world.keys += [
        world.make_key("mjl_old", "old", ("adder",), seconds=-1),
        world.make_key("mjl_other", "other", ("elsewhere", "nowhere")),
    ]
    world.publish()
    with world.gateway():
        world.synced()
        yield world


def rows(world: World, deployment: str = "adder") -> list[dict[str, Any]]:
    """The prediction log."""
    folder = world.home / "predictions" / deployment
    segments = sorted(folder.rglob("[!.]*.parquet"))
    return scan(segments).collect().to_dicts() if segments else []


def children(process: Any) -> list[psutil.Process]:
    """The processes that serve."""
    return [p for p in psutil.Process(process.pid).children() if "majlis.serving.gateway" in p.cmdline()]


# who may ask, and what


def test_answers(shared: World) -> None:
    answer = shared.ask(1.0, 2.5)
    assert answer.json()["outputs"] == [
        {"name": "predictions", "datatype": "FP32", "shape": [2, 1], "data": [2.0, 5.0]}
    ]
    assert answer.headers["x-revision"] == "double-1" and len(answer.headers["x-request-id"]) == 28


@pytest.mark.parametrize(
    ("header", "status", "detail"),
    [
        ({}, 401, "No API key came"),
        ({"authorization": "Bearer mjl_wrong"}, 401, "unknown"),
        ({"authorization": "Basic mjl_wrong"}, 401, "No API key came"),
        ({"authorization": "Bearer mjl_old"}, 401, "expired"),
        ({"authorization": "Bearer mjl_other"}, 403, "not for deployment 'adder'"),
    ],
)
def test_keys(shared: World, header: dict[str, str], status: int, detail: str) -> None:
    answer = httpx.post(f"{shared.url}/v2/models/adder/infer", json={}, headers=header)
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    assert detail in answer.json()["detail"]


def test_unknown_deployment_is_told_to_callers_with_a_key_only(shared: World) -> None:
    assert shared.ask(1.0, name="nowhere").status_code == 404
    assert shared.ask(1.0, name="nowhere", key="mjl_wrong").status_code == 401


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[1]", "JSON object is expected"),
        (b"{}", "no inputs"),
        (b'{"inputs": {}}', "no inputs"),
        (b'{"inputs": [1]}', "Input 0 is a number 1"),
        (b'{"inputs": [{"name": "x"}]}', "shape is"),
        (b'{"inputs": [{"name": "y", "shape": [1], "datatype": "FP64", "data": [1]}]}', "missing 'x'"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": ["1"]}]}', "expected FP64"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": ["1"]}]}', 'string "1" came'),
        (b'{"inputs": [{"name": "x", "shape": [2], "datatype": "FP64", "data": [1]}]}', "shape"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [NaN]}]}', "not JSON"),
        (b'{"inputs": [{"name": "x", "shape": [0], "datatype": "FP64", "data": []}]}', "no rows"),
        (b"[" * 50_000, "not JSON"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_malformed_bodies(shared: World, body: bytes, detail: str) -> None:
    headers = {"authorization": f"Bearer {shared.key}"}
    answer = httpx.post(f"{shared.url}/v2/models/adder/infer", content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert detail in answer.json()["detail"]


def test_large_bodies(shared: World) -> None:
    headers = {"authorization": f"Bearer {shared.key}"}
    url = f"{shared.url}/v2/models/adder/infer"
    assert httpx.post(url, content=b"0" * 100_001, headers=headers).status_code == 413
    chunks = (b"0" * 50_000 for _ in range(3))
    assert httpx.post(url, content=chunks, headers=headers).status_code == 413
    for encoding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        bomb = pack(b" " * 50_000_000)
        assert len(bomb) < 100_000
        answer = httpx.post(url, content=bomb, headers=headers | {"content-encoding": encoding})
        assert answer.status_code == 413 and "once decompressed" in answer.json()["detail"]


def test_gzip(shared: World) -> None:
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [4]}]}
    headers = {"authorization": f"Bearer {shared.key}", "content-encoding": "gzip"}
    url = f"{shared.url}/v2/models/adder/infer"
    assert httpx.post(url, content=gzip.compress(json.dumps(body).encode()), headers=headers).json()[
        "outputs"
    ][0]["data"] == [8.0]
    assert httpx.post(url, content=b"plain", headers=headers).status_code == 400
    assert httpx.post(url, content=b"", headers=headers | {"content-encoding": "br"}).status_code == 415


def test_slow_and_broken_callers_hurt_nobody(shared: World) -> None:
    head = (
        f"POST /v2/models/adder/infer HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {shared.key}\r\n"
        "content-length: 1000\r\n\r\n"
    ).encode()
    slow = [socket.create_connection(("127.0.0.1", shared.port)) for _ in range(20)]
    for connection in slow:
        connection.sendall(head + b'{"inputs"')
    gone = socket.create_connection(("127.0.0.1", shared.port))
    gone.sendall(head)
    gone.close()
    assert shared.ask(1.0).status_code == 200
    slow[0].settimeout(10)
    assert b"408" in slow[0].recv(1000).split(b"\r\n")[0]
    for connection in slow:
        connection.close()


def test_metadata_and_health(shared: World) -> None:
    headers = {"authorization": f"Bearer {shared.key}"}
    assert httpx.get(f"{shared.url}/v2").json()["extensions"] == [
        "binary_tensor_data",
        "model_repository",
    ]
    assert httpx.get(f"{shared.url}/v2/health/live").status_code == 200
    assert httpx.get(f"{shared.url}/v2/models/adder/ready").json()["ready"]
    assert httpx.get(f"{shared.url}/v2/models/adder").status_code == 401
    told = httpx.get(f"{shared.url}/v2/models/adder", headers=headers).json()
    assert told["inputs"] == [{"name": "x", "datatype": "FP64", "shape": [-1, 1]}] and told["versions"] == [
        "double-1"
    ]
    assert told["outputs"][0]["parameters"] == {"classes": ["late", 1, True]}  # as log_classifier notes them
    assert httpx.get(f"{shared.url}/v2/models/adder/versions/9", headers=headers).status_code == 404
    assert httpx.get(f"{shared.url}/nothing").status_code == 404
    assert httpx.delete(f"{shared.url}/status").status_code == 405


def test_invocations(shared: World) -> None:
    headers = {"authorization": f"Bearer {shared.key}"}
    url = f"{shared.url}/invocations/adder"
    split = {"dataframe_split": {"columns": ["x"], "data": [[1.0], [2.0]]}}
    for body in (
        split,
        {"dataframe_records": [{"x": 1}, {"x": 2}]},
        {"instances": [[1], [2]]},
        {"inputs": {"x": [1, 2]}},
    ):
        assert httpx.post(url, json=body, headers=headers).json() == {"predictions": [[2.0], [4.0]]}
    csv = httpx.post(url, content=b"x\n1\n2\n", headers=headers | {"content-type": "text/csv"})
    assert csv.json() == {"predictions": [[2.0], [4.0]]}
    assert httpx.post(url, json={"dataframe_split": {}}, headers=headers).status_code == 400


def test_metrics(shared: World) -> None:
    before = httpx.get(f"{shared.url}/metrics").text
    shared.ask(1.0)
    after = httpx.get(f"{shared.url}/metrics").text
    line = 'majlis_gateway_requests_total{code="200",deployment="adder",revision="double-1"} '
    counts = [float(page.partition(line)[2].split("\n")[0] or 0) for page in (before, after)]
    assert counts[1] == counts[0] + 1


# what is served


@pytest.mark.parametrize("path", [ONNX, "model/MLmodel", STATEMENT, SIGNATURE])
def test_one_flipped_bit_in_any_file_is_refused(world: World, path: str) -> None:
    target = world.folder("double-1") / path
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1
    target.write_bytes(content)
    world.deploy(double_1=0.5, triple_1=0.5)
    with world.gateway():
        told = world.synced()["deployments"]["adder"]
        double, triple = told["revisions"]
        assert not double.get("ready") and triple["ready"] and triple["weight"] == 1.0
        assert path in double["reason"] or "release.sig" in double["reason"], double["reason"]
        assert "double-1" in told["reason"]
        assert world.ask(1.0).json()["outputs"][0]["data"] == [3.0]  # the good one answers everything
    assert f"refused: {double['reason']}" in (world.home / "gateway.log").read_text()


def test_unsigned_added_linked_and_foreign_releases_are_refused(world: World, tmp_path: Path) -> None:
    (world.folder("double-1") / SIGNATURE).unlink()
    (world.folder("triple-1") / "extra.py").write_text("print()")
    world.release("linked-1")
    (world.folder("linked-1") / ONNX).rename(tmp_path / "elsewhere.onnx")
    (world.folder("linked-1") / ONNX).symlink_to(tmp_path / "elsewhere.onnx")
    world.folder("triple-1").with_name("posing-2").mkdir()
    stranger = World(tmp_path / "stranger")
    stranger.release("foreign-1").rename(world.folder("foreign-1"))
    world.release("old-1", seconds=-5)
    world.deploy(double_1=1, triple_1=1, linked_1=1, foreign_1=1, old_1=1, absent_1=1)
    with world.gateway():
        told = world.synced()["deployments"]["adder"]
        reasons = {r["release"]: r["reason"] for r in told["revisions"]}
        assert not told.get("ready") and not any(r.get("ready") for r in told["revisions"])
        answer = world.ask(1.0)
        assert answer.status_code == 503 and "double-1" in answer.json()["detail"]
    assert "not a signed release" in reasons["double-1"] and "not a signed release" in reasons["absent-1"]
    assert "extra.py" in reasons["triple-1"] and "not a plain file" in reasons["linked-1"]
    assert "not a signature of this release key" in reasons["foreign-1"] and "expired" in reasons["old-1"]


def test_a_repaired_release_is_served(world: World) -> None:
    target = world.folder("double-1") / ONNX
    good = target.read_bytes()
    target.write_bytes(good + b"\0")
    world.deploy(double_1=1)
    with world.gateway():
        world.synced()
        assert world.ask(1.0).status_code == 503
        target.write_bytes(good)
        wait_until(lambda: world.ask(1.0).status_code == 200)


def test_a_revoked_release_stops_within_five_seconds(world: World) -> None:
    world.settings["snapshot_poll_seconds"] = 0.5
    world.deploy(double_1=1)
    with world.gateway():
        world.synced()
        assert world.ask(1.0).status_code == 200
        world.revoked = ("double-1",)
        revoked_at = time.monotonic()
        world.publish()
        wait_until(lambda: world.ask(1.0).status_code == 503, 5)
        assert time.monotonic() - revoked_at < 5
        assert "double-1 was revoked" in world.ask(1.0).json()["detail"]
        world.deploy(triple_1=1)
        wait_until(lambda: world.ask(1.0).status_code == 200)


def test_a_release_that_expires_while_it_serves_stops(world: World) -> None:
    world.release("brief-1", seconds=15)
    world.deploy(brief_1=1)
    with world.gateway():
        world.synced()
        assert world.ask(1.0).status_code == 200
        wait_until(lambda: world.ask(1.0).status_code == 503, 25)
        assert "expired" in world.ask(1.0).json()["detail"]


def test_promotion_to_a_refused_release_keeps_the_last_good_one(world: World) -> None:
    world.deploy(double_1=1)
    with world.gateway():
        world.synced()
        (world.folder("triple-1") / ONNX).write_bytes(b"altered")
        world.deploy(triple_1=1)
        told = world.synced()["deployments"]["adder"]
        assert told["ready"] and "triple-1" in told["reason"]
        assert world.ask(1.0).json()["outputs"][0]["data"] == [2.0]


# what it survives


def test_restart_from_the_last_good_snapshot(world: World) -> None:
    world.deploy(double_1=1)
    path = world.home / LOCATION
    old = path.read_bytes()
    with world.gateway():
        world.synced()
    path.unlink()
    with world.gateway():
        assert world.ask(1.0).status_code == 200
    path.write_bytes(old.replace(b"payload", b"pay1oad"))
    with world.gateway():
        assert world.ask(1.0).status_code == 200
        assert "no signed envelope" in world.status()["problem"]


def test_an_old_snapshot_put_back_is_refused_even_after_a_restart(world: World) -> None:
    world.deploy(double_1=1)
    path = world.home / LOCATION
    old = path.read_bytes()
    world.revoked = ("double-1",)
    world.publish()
    with world.gateway():
        world.synced()
        assert world.ask(1.0).status_code == 503
        path.write_bytes(old)
        wait_until(lambda: "went back" in world.status()["problem"])
        assert world.ask(1.0).status_code == 503
    with world.gateway():
        assert "went back" in world.status()["problem"]
        assert world.ask(1.0).status_code == 503


def test_a_killed_process_is_replaced_and_the_rest_goes_on(world: World) -> None:
    world.settings["workers"] = 2
    world.deploy(double_1=1)
    with world.gateway() as gateway:
        wait_until(lambda: len(world.synced()["processes"]) == 2, 20)
        victim = children(gateway)[0]
        victim.send_signal(signal.SIGKILL)
        answers = [world.ask(float(n)).status_code for n in range(50)]
        assert answers == [200] * 50
        wait_until(lambda: len(world.status()["processes"]) == 2 and victim.pid not in pids(world), 20)
    assert sorted(json.loads(row["inputs"])["x"] for row in rows(world)) == [float(n) for n in range(50)]


def pids(world: World) -> set[int]:
    """The processes that say they serve."""
    return {process["pid"] for process in world.status()["processes"]}


def test_records_survive_a_killed_process(world: World) -> None:
    world.settings["log_flush_seconds"] = 60
    world.deploy(double_1=1)
    with world.gateway() as gateway:
        world.synced()
        for number in range(5):
            assert world.ask(float(number)).status_code == 200
        children(gateway)[0].send_signal(signal.SIGKILL)
        wait_until(lambda: len(rows(world)) == 5, 20)


def test_the_processes_end_with_the_supervisor(world: World) -> None:
    world.deploy(double_1=1)
    with world.gateway() as gateway:
        world.synced()
        serving = children(gateway)
        gateway.kill()
        wait_until(lambda: not any(child.is_running() and child.status() != "zombie" for child in serving))


def test_a_taken_port_and_a_second_gateway_are_explained(world: World) -> None:
    world.deploy(double_1=1)
    with world.gateway():
        world.synced()
        with world.gateway(wait=False) as second:
            assert second.wait(30) == os.EX_CONFIG
        other = World(world.home / "other")
        other.port = world.port
        with other.gateway(wait=False) as third:
            assert third.wait(30) == os.EX_CONFIG
        assert world.ask(1.0).status_code == 200
    assert "Another gateway uses" in (world.home / "gateway.log").read_text()
    said = (other.home / "gateway.log").read_text()
    assert "cannot listen on" in said and "Traceback" not in said


def test_sigterm_lets_requests_finish(world: World) -> None:
    world.deploy(double_1=1)
    body = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [4]}]}).encode()
    with world.gateway() as gateway:
        world.synced()
        connection = socket.create_connection(("127.0.0.1", world.port))
        connection.settimeout(20)
        head = f"POST /v2/models/adder/infer HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {world.key}\r\n"
        connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body[:10])
        wait_until(lambda: world.ask(1.0).status_code == 200)
        gateway.send_signal(signal.SIGTERM)
        wait_until(lambda: not world.alive())
        connection.sendall(body[10:])
        assert b"200 OK" in connection.recv(10_000).split(b"\r\n")[0]
        connection.close()
        assert gateway.wait(20) == 0


def test_twenty_changes_under_load_fail_nothing(world: World) -> None:
    world.settings["workers"] = 2
    world.deploy(double_1=1)
    failures: list[object] = []
    done = threading.Event()
    count = [0] * 4
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}]}

    def load(position: int) -> None:
        with httpx.Client(headers={"authorization": f"Bearer {world.key}"}, timeout=20) as client:
            while not done.is_set():
                answer = client.post(f"{world.url}/v2/models/adder/infer", json=body)
                if answer.status_code != 200 or answer.json()["outputs"][0]["data"][0] not in (2.0, 3.0):
                    failures.append((answer.status_code, answer.text))
                count[position] += 1

    with world.gateway(), ThreadPoolExecutor(4) as pool:
        world.synced()
        running = [pool.submit(load, position) for position in range(4)]
        try:
            for change in range(20):
                share = change / 19
                world.deploy(
                    **({"double_1": 1 - share, "triple_1": share} if change % 5 else {"triple_1": 1.0})
                )
                world.synced()
        finally:
            done.set()
        for future in running:
            future.result()

        def counted() -> bool:
            lines = [m for m in httpx.get(f"{world.url}/metrics").text.splitlines() if "requests_total{" in m]
            return sum(float(line.rpartition(" ")[2]) for line in lines) == sum(count)

        wait_until(counted)
    assert not failures and sum(count) > 200


# what it writes down


def test_the_log_holds_every_row_once(world: World) -> None:
    world.deploy(double_1=1)
    trace = "0af7651916cd43dd8448eb211c80319c"
    with world.gateway():
        world.synced()
        first = world.ask(1.0, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
        world.ask(2.0, None, 4.0)
        world.ask("wrong")  # type: ignore[arg-type]
        told = wait_until(lambda: len(rows(world)) == 4 and rows(world))
    by_id = {row["id"]: row for row in told}
    one = by_id[first.headers["x-request-id"]]
    assert len(by_id) == 4 and one["trace_id"] == trace
    assert (one["deployment"], one["revision"], one["release"], one["client"]) == (
        "adder",
        "double-1",
        "double-1",
        "tester",
    )
    assert json.loads(one["inputs"]) == {"x": 1.0} and json.loads(one["outputs"]) == [2.0]
    assert 0 < one["latency_ms"] < 5000 and not one["shadow"]
    three = sorted(row["id"] for row in told if row["id"] != one["id"])
    assert [json.loads(by_id[name]["inputs"])["x"] for name in three] == [2.0, None, 4.0]
    assert three[0].endswith("-0") and three[2].endswith("-2")


def test_sampling(world: World) -> None:
    world.deploy(log_sample=0.0, double_1=1)
    with world.gateway():
        world.synced()
        for _ in range(20):
            world.ask(1.0)
    assert rows(world) == []


def test_a_full_log_drops_and_counts(world: World) -> None:
    world.settings |= {"log_queue_bytes": 1000, "log_flush_seconds": 0.2}
    world.deploy(double_1=1)
    with world.gateway() as gateway:
        world.synced()
        os.kill(gateway.pid, signal.SIGSTOP)  # nobody empties the spool any more
        try:

            def lost() -> int:
                assert world.ask(1.0, 2.0, 3.0, 4.0).status_code == 200
                return int(world.status()["log"]["lost"])

            wait_until(lost, 20)
        finally:
            os.kill(gateway.pid, signal.SIGCONT)
        told = world.status()["log"]
        page = httpx.get(f"{world.url}/metrics").text
        assert f"majlis_gateway_log_lost_rows_total {float(told['lost'])}" in page
    assert len(rows(world)) == told["written"]


# how traffic is divided


def test_shares_pins_and_sticky_keys(world: World) -> None:
    world.release("double-2", linear(20.0))
    world.deploy(sticky="X-User", double_1=0.75, double_2=0.25)
    with world.gateway():
        world.synced()
        with httpx.Client(headers={"authorization": f"Bearer {world.key}"}) as client:
            body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}]}

            def revision(path: str = "adder", **headers: str) -> str:
                answer = client.post(f"{world.url}/v2/models/{path}/infer", json=body, headers=headers)
                return str(answer.headers["x-revision"])

            drawn = [revision() for _ in range(400)]
            assert 60 < drawn.count("double-2") < 140
            users = {user: revision(**{"X-User": str(user)}) for user in range(40)}
            assert users == {user: revision(**{"x-user": str(user)}) for user in range(40)}
            assert set(users.values()) == {"double-1", "double-2"}
            assert {revision("adder/versions/double-2") for _ in range(10)} == {"double-2"}


def test_a_shadow_sees_the_traffic_and_never_answers(world: World) -> None:
    world.release("double-2", linear(20.0))
    world.deploy(double_1=1, double_2=-1)
    with world.gateway():
        world.synced()
        answers = [world.ask(float(n)).json()["outputs"][0]["data"][0] for n in range(10)]
        told = wait_until(lambda: len(rows(world)) == 20 and rows(world))
    assert answers == [2.0 * n for n in range(10)]
    shadows = [row for row in told if row["shadow"]]
    assert {row["revision"] for row in shadows} == {"double-2"} and len(shadows) == 10
    assert {row["id"] for row in shadows} == {row["id"] for row in told if not row["shadow"]}


# how much may come


def test_a_key_has_its_rate(world: World) -> None:
    world.keys.append(world.make_key("mjl_slow", "slow", ("adder",), requests_per_second=2.0))
    world.deploy(double_1=1)
    with world.gateway():
        world.synced()
        answers = [world.ask(1.0, key="mjl_slow") for _ in range(12)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert answers[0].status_code == answers[1].status_code == 200 and refused
        assert int(refused[0].headers["retry-after"]) >= 1 and "slow" in refused[0].json()["detail"]
        assert {world.ask(1.0).status_code for _ in range(20)} == {200}  # another key is not touched
        wait_until(lambda: world.ask(1.0, key="mjl_slow").status_code == 200)


def test_too_many_in_flight_are_refused_at_once(world: World) -> None:
    world.settings["request_timeout_seconds"] = 60
    world.deploy(double_1=1)
    head = f"POST /v2/models/adder/infer HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {world.key}\r\n"
    with world.gateway():
        world.synced()
        stuck = [socket.create_connection(("127.0.0.1", world.port)) for _ in range(1024)]
        try:
            for connection in stuck:
                connection.sendall(f"{head}content-length: 1000\r\n\r\n{{".encode())
            wait_until(lambda: world.ask(1.0).status_code == 503)
            answer = world.ask(1.0)
            assert answer.headers["retry-after"] == "1" and "in flight" in answer.json()["detail"]
            assert world.alive()
        finally:
            for connection in stuck:
                connection.close()
        wait_until(lambda: world.ask(1.0).status_code == 200)
        assert "majlis_gateway_shed_total 0" not in httpx.get(f"{world.url}/metrics").text
