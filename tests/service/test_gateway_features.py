"""Requests by entities, against a real online store: one that answers, hangs, dies and comes back."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import polars as pl
import psutil
import pytest
from feast import Entity, FeatureView, Field
from feast.types import Float64
from feast.value_type import ValueType

from majlis import clock
from majlis.features.sources import sources_of
from majlis.features.store import Features
from majlis.settings import FeaturesSection, Settings
from tests.service.collectors import Collector, collecting
from tests.service.gateways import World, below, free_port, linear, wait_until

pytestmark = pytest.mark.timeout(180)

COLUMNS = [
    {"name": "x", "type": "double", "required": True},
    {"name": "seats", "type": "double", "required": True},
]
START_SECONDS = 90  # Feast's own import takes long on a machine that does other things too


class Fleet:
    """A workbench's features about planes, and a gateway's world with a model that takes one of them."""

    def __init__(self, home: Path, section: FeaturesSection, **settings: object) -> None:
        self.features = Features(Settings(root=home, source=home / "settings.ini", features=section))
        self.world = World(home, feature_budget_seconds=0.5, feature_retry_seconds=0.2, **settings)
        self.world.variables = {
            "MAJLIS_FEATURES_ONLINE": section.online,
            "MAJLIS_FEATURES_ONLINE_URL": section.online_url,
            "MAJLIS_FEATURES_REPO": str(section.repo),
        }
        self.seats({"N1": 149.0, "N2": 55.0})
        sources = sources_of(self.features, ["plane:seats"], {"seats": 1000.0})
        self.world.release("adder-1", linear(1.0, 2), COLUMNS, metadata=sources.metadata())
        self.world.deploy(adder_1=1.0)

    def seats(self, seats: dict[str, float], moment: datetime | None = None) -> None:
        """Materialize how many seats planes have, from a moment on."""
        moment = moment or clock.now() - timedelta(seconds=1)
        rows = pl.DataFrame(
            {"tailnum": list(seats), "seats": list(seats.values()), "event_timestamp": [moment] * len(seats)}
        )
        tail = Entity(name="tailnum", join_keys=["tailnum"], value_type=ValueType.STRING)
        view = FeatureView(
            name="plane",
            entities=[tail],
            ttl=timedelta(hours=1),
            schema=[Field(name="seats", dtype=Float64)],
            source=self.features.source("plane", rows),
        )
        self.features.apply([tail, view])
        self.features.materialize(clock.now())

    def ask(self, *tails: str, x: float = 1.0, **more: Any) -> httpx.Response:
        """One V2 request by tail numbers."""
        body = {
            "entities": {"tailnum": list(tails)},
            "inputs": [{"name": "x", "shape": [len(tails)], "datatype": "FP64", "data": [x] * len(tails)}],
            **more,
        }
        return self.post("/v2/models/adder/infer", body)

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """A request with the tester's key."""
        headers = {"authorization": f"Bearer {self.world.key}"}
        return httpx.post(f"{self.world.url}{path}", json=body, headers=headers, timeout=30)

    def ready(self) -> None:
        """Wait until the gateway says that it serves; the first caller who names entities is answered."""
        wait_until(lambda: self.world.synced()["deployments"]["adder"].get("ready"), START_SECONDS)
        assert answers(self.ask("N1")) == [150.0]

    def up(self) -> None:
        """Wait until the store answers again."""
        wait_until(lambda: self.ask("N1").status_code == 200, START_SECONDS)

    def counts(self) -> dict[str, int]:
        """Rows by where their features came from, as Prometheus is told."""
        text = httpx.get(f"{self.world.url}/metrics", timeout=10).text
        lines = [line for line in text.splitlines() if line.startswith("majlis_gateway_feature_rows_total")]
        return {line.split('"')[1]: int(float(line.split()[-1])) for line in lines}

    def logged(self) -> list[dict[str, Any]]:
        """The prediction log, with what was fetched."""
        from majlis.serving.segments import scan

        segments = sorted((self.world.home / "predictions" / "adder").rglob("[!.]*.parquet"))
        return scan(segments).sort("at").collect().to_dicts() if segments else []


def answers(response: httpx.Response) -> list[float]:
    """The predictions of a V2 answer."""
    assert response.status_code == 200, response.text
    data: list[float] = response.json()["outputs"][0]["data"]
    return data


def helpers(gateway: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """The processes that ask the store."""
    return below(gateway, "features")


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """What takes the gateway's traces."""
    with collecting() as taking:
        yield taking


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Fleet]:
    """A fleet whose store is SQLite, behind a running gateway that traces what it is asked to."""
    home = tmp_path_factory.mktemp("sqlite")
    section = FeaturesSection(repo=home / "features")
    fleet = Fleet(home, section, otlp_endpoint=collector.url, trace_sample=0)
    with fleet.world.gateway():
        fleet.ready()
        yield fleet


def test_the_fetch_is_a_part_of_the_trace(sqlite: Fleet, collector: Collector) -> None:
    """A span below the request's own, that says where the features came from."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {
        "authorization": f"Bearer {sqlite.world.key}",
        "traceparent": f"00-{trace}-00f067aa0ba902b7-01",
    }
    body = {"entities": {"tailnum": "N1"}, "dataframe_records": [{"x": 2}]}
    assert httpx.post(f"{sqlite.world.url}/invocations/adder", json=body, headers=headers).status_code == 200
    wait_until(lambda: len(collector.spans) == 2)
    fetch, whole = collector.spans
    assert fetch.name == "features" and fetch.parent_span_id == whole.span_id
    assert fetch.trace_id.hex() == whole.trace_id.hex() == trace
    assert {a.key: a.value.string_value for a in fetch.attributes}["source"] == "online"


def test_features_are_fetched_and_logged(sqlite: Fleet) -> None:
    """The answer is made of what the store holds, and the log says what that was."""
    before = clock.now().timestamp()
    assert answers(sqlite.ask("N1", "N2", x=1.0)) == [150.0, 56.0]
    wait_until(
        lambda: any('"x":1.0' in row["inputs"] and '"seats":55.0' in row["inputs"] for row in sqlite.logged())
    )
    row = next(row for row in sqlite.logged() if '"seats":55.0' in row["inputs"])
    used = json.loads(row["features"])
    assert used["source"] == "online" and used["at"] >= before
    assert used["views"]["plane"]["keys"] == {"tailnum": "N2"}
    assert before - 3600 < used["views"]["plane"]["time"] < used["views"]["plane"]["fetched_at"]


def test_mlflows_face_takes_entities_too(sqlite: Fleet) -> None:
    """One row needs no lists."""
    body = {"entities": {"tailnum": "N1"}, "dataframe_records": [{"x": 2}]}
    assert sqlite.post("/invocations/adder", body).json() == {"predictions": [[151.0]]}


def test_columns_may_still_be_sent(sqlite: Fleet) -> None:
    """A request without entities asks no store, and its row says so."""
    body = {"dataframe_records": [{"x": 2, "seats": 3.25}]}
    assert sqlite.post("/invocations/adder", body).json() == {"predictions": [[5.25]]}
    wait_until(lambda: any("3.25" in row["inputs"] for row in sqlite.logged()))
    assert next(row["features"] for row in sqlite.logged() if "3.25" in row["inputs"]) is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"entities": {"tail": "N1"}}, "this model is asked by tailnum (string)"),
        ({"entities": {"tailnum": 7}}, "expected a string"),
        ({"entities": {"tailnum": []}}, "every row needs one"),
        ({"entities": {"tailnum": ["N1"]}}, "takes as inputs: x"),
        ({"entities": ["N1"]}, "this model is asked by tailnum"),
        ({"entities": {"tailnum": ["N1"]}, "at": "noon"}, "it is a time such as"),
    ],
)
def test_what_does_not_fit_is_the_callers_fault(sqlite: Fleet, body: dict[str, Any], said: str) -> None:
    """A 400 that says what to send; the breaker does not count it."""
    response = sqlite.post("/v2/models/adder/infer", body)
    assert response.status_code == 400 and said in response.json()["detail"]


@pytest.mark.parametrize("moment", ["2013-01-01T00:00:00Z", "2213-01-01T00:00:00Z"])
def test_values_of_another_time_do_not_count(sqlite: Fleet, moment: str) -> None:
    """Neither from the future nor too old: a missing number, as in training."""
    response = sqlite.ask("N1", at=moment)
    assert response.json()["outputs"][0]["data"] == [None]


def test_a_store_that_hangs_holds_nobody_up_for_long(sqlite: Fleet) -> None:
    """A lock on the file is a hang: refused within the budget, and the others are served meanwhile."""
    blocker = sqlite3.connect(sqlite.features.settings.repo / "online.sqlite", timeout=30)
    blocker.execute("PRAGMA locking_mode=EXCLUSIVE")
    blocker.execute("BEGIN EXCLUSIVE")
    try:
        refused = wait_until(lambda: (r := sqlite.ask("N1")).status_code == 503 and r)
        assert "could not be fetched" in refused.json()["detail"] and refused.headers["retry-after"] == "1"
        wait_until(lambda: "left alone" in sqlite.ask("N1").json()["detail"])
        plain = {"dataframe_records": [{"x": 2, "seats": 3}]}
        assert sqlite.post("/invocations/adder", plain).json() == {"predictions": [[5.0]]}
    finally:
        blocker.rollback()
        blocker.close()
    sqlite.up()
    assert answers(sqlite.ask("N1")) == [150.0]
    assert sqlite.counts()["refused"] > 0


@contextmanager
def redis_server(folder: Path, port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A Redis server that this test may stop, kill and start again."""
    binary = shutil.which("redis-server")
    assert binary, "Redis is missing; install Debian's package: apt-get install redis-server"
    command = [binary, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers_ping(port))
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def answers_ping(port: int) -> bool:
    """Whether a Redis server answers on the port."""
    import redis

    try:
        return bool(redis.Redis(port=port, socket_timeout=1).ping())
    except redis.RedisError:
        return False


def test_a_deployment_says_for_itself_what_counts(sqlite: Fleet) -> None:
    """The settings refuse; the deployment has the model's own values, after a budget of its own."""
    world, spec = sqlite.world, sqlite.world.deployments["adder"]
    own = msgspec.structs.replace(spec, feature_policy="default", feature_budget_seconds=0.02)
    blocker = sqlite3.connect(sqlite.features.settings.repo / "online.sqlite", timeout=30)
    try:
        world.deployments["adder"] = own
        world.publish()
        world.synced()
        headers = {"authorization": f"Bearer {world.key}"}
        told = httpx.get(f"{world.url}/v2/models/adder", headers=headers).json()["parameters"]
        assert (told["feature_policy"], told["feature_budget_seconds"]) == ("default", 0.02)
        blocker.execute("PRAGMA locking_mode=EXCLUSIVE")
        blocker.execute("BEGIN EXCLUSIVE")
        assert answers(sqlite.ask("N1", x=31.0)) == [1031.0]
    finally:
        blocker.close()
        world.deployments["adder"] = spec
        world.publish()
    wait_until(lambda: answers(sqlite.ask("N1")) == [150.0], START_SECONDS)


def test_stale_values_bridge_a_store_that_hangs_and_dies(tmp_path: Path) -> None:
    """Last known values answer, marked as such; unknown rows are refused; what comes back is used at once."""
    port = free_port()
    section = FeaturesSection(repo=tmp_path / "features", online="redis", online_url=f"127.0.0.1:{port}")
    with redis_server(tmp_path, port) as server:
        fleet = Fleet(tmp_path, section, feature_policies="adder=stale", feature_failures=2)
        with fleet.world.gateway() as gateway:
            fleet.ready()
            assert answers(fleet.ask("N1")) == [150.0]
            server.send_signal(signal.SIGSTOP)
            assert answers(fleet.ask("N1", x=11.0)) == [160.0]
            assert fleet.ask("N2").status_code == 503  # was never asked about
            server.send_signal(signal.SIGCONT)
            wait_until(lambda: fleet.ask("N2").status_code == 200, START_SECONDS)
            server.kill()
            server.wait()
            assert answers(fleet.ask("N2", x=12.0)) == [67.0]
            assert fleet.ask("N3").status_code == 503
            with redis_server(tmp_path, port):
                fleet.seats({"N1": 10.0, "N2": 20.0})
                wait_until(lambda: answers(fleet.ask("N1")) == [11.0], START_SECONDS)
                assert [len(helpers(gateway))] == [1]
            rows = wait_until(lambda: [r for r in fleet.logged() if '"x":12.0' in r["inputs"]])
            assert json.loads(rows[0]["features"])["source"] == "stale"
            assert fleet.counts()["stale"] >= 2


def test_defaults_answer_while_the_process_is_killed_and_started_again(tmp_path: Path) -> None:
    """Kill -9 of the process that asks the store: the model's own defaults, then the store again."""
    fleet = Fleet(tmp_path, FeaturesSection(repo=tmp_path / "features"), feature_policy="default")
    with fleet.world.gateway() as gateway:
        wait_until(lambda: answers(fleet.ask("N1")) == [150.0], START_SECONDS)
        (first,) = helpers(gateway)
        os.kill(first.pid, signal.SIGKILL)
        first.wait(10)
        assert answers(fleet.ask("N1", x=21.0)) == [1021.0]
        wait_until(lambda: answers(fleet.ask("N1")) == [150.0], START_SECONDS)
        (second,) = helpers(gateway)
        assert second.pid != first.pid
        rows = wait_until(lambda: [r for r in fleet.logged() if '"x":21.0' in r["inputs"]])
        used = json.loads(rows[0]["features"])
        assert used["source"] == "default" and used["views"]["plane"] == {"keys": {"tailnum": "N1"}}
    assert not psutil.pid_exists(second.pid)


def test_a_gateway_without_such_models_starts_no_such_process(tmp_path: Path) -> None:
    """Nobody pays for Feast who does not use it; and entities are refused with the reason."""
    world = World(tmp_path)
    world.release("adder-1")
    world.deploy(adder_1=1.0)
    with world.gateway() as gateway:
        assert world.ask(1.0).status_code == 200
        assert helpers(gateway) == []
        headers = {"authorization": f"Bearer {world.key}"}
        body = {"entities": {"tailnum": ["N1"]}}
        response = httpx.post(f"{world.url}/v2/models/adder/infer", json=body, headers=headers)
        assert response.status_code == 400 and "names no features" in response.json()["detail"]
