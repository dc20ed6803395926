"""What gateway tests share: signed releases made in a moment, and a real gateway that serves them."""

import hashlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml
from onnx import TensorProto, helper

from majlis import clock
from majlis.registry.release import ONNX, Statement, digests, keypair, sign, write
from majlis.serving.snapshot import LOCATION, Deployment, Key, Revision, Snapshot, TokenKey, publish
from tests.support import waiting

ROOT = Path(__file__).parents[2]


def wait_until(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    """The first true value of `condition`; fails after `seconds`."""
    return waiting.until(condition, seconds, f"not so: {condition}")


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def linear(weight: float, columns: int = 1) -> bytes:
    """An ONNX model that answers the weighted sum of its columns."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["table", "weights"], ["predictions"])],
        "linear",
        [helper.make_tensor_value_info("table", TensorProto.FLOAT, [None, columns])],
        [helper.make_tensor_value_info("predictions", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor("weights", TensorProto.FLOAT, [columns, 1], [weight] * columns)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def failing() -> bytes:
    """An ONNX model that loads and cannot answer a single row."""
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["table", "shape"], ["pairs"]),
            helper.make_node("ReduceSum", ["pairs"], ["predictions"]),
        ],
        "failing",
        [helper.make_tensor_value_info("table", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("predictions", TensorProto.FLOAT, None)],
        [helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def heavy(size: int = 800) -> bytes:
    """An ONNX model that answers what `linear(2.0)` does, after multiplying large matrices."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["table"], ["largest"], keepdims=0),
            helper.make_node("Expand", ["largest", "shape"], ["matrix"]),
            helper.make_node("MatMul", ["matrix", "matrix"], ["product"]),
            helper.make_node("ReduceMax", ["product"], ["peak"], keepdims=0),
            helper.make_node("Mul", ["peak", "zero"], ["nothing"]),
            helper.make_node("MatMul", ["table", "weights"], ["doubled"]),
            helper.make_node("Add", ["doubled", "nothing"], ["predictions"]),
        ],
        "heavy",
        [helper.make_tensor_value_info("table", TensorProto.FLOAT, [None, 1])],
        [helper.make_tensor_value_info("predictions", TensorProto.FLOAT, [None, 1])],
        [
            helper.make_tensor("shape", TensorProto.INT64, [2], [size, size]),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor("weights", TensorProto.FLOAT, [1, 1], [2.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def below(gateway: "subprocess.Popen[bytes]", name: str) -> list[psutil.Process]:
    """The workers of a gateway that are called so: a release, or `features`."""
    found = []
    for process in psutil.Process(gateway.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.name() == name and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


class World:
    """A home with keys and releases, and the snapshot that a gateway reads."""

    def __init__(self, home: Path, **settings: object) -> None:
        self.home = home
        self.port = free_port()
        self.private, self.public = home / "control/signing.pem", home / "releases/signing.pub"
        keypair(self.private, self.public)
        self.serial = 0
        self.process: subprocess.Popen[bytes] | None = None  # for tests that look below it
        self.settings = settings
        self.variables: dict[str, str] = {}  # more of the gateway's environment
        self.key = f"mjl_{secrets.token_urlsafe(32)}"
        self.deployments: dict[str, Deployment] = {}
        self.revoked: tuple[str, ...] = ()
        self.token_keys: tuple[TokenKey, ...] = ()
        self.tokens_revoked: dict[str, datetime] = {}
        self.keys: list[Key] = [self.make_key(self.key, "tester", ("adder",))]

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return f"http://127.0.0.1:{self.port}"

    def make_key(
        self, key: str, name: str, deployments: tuple[str, ...], seconds: float = 3600, **more: Any
    ) -> Key:
        """A key as the snapshot lists it."""
        return Key(
            id=name,
            sha256=hashlib.sha256(key.encode()).hexdigest(),
            deployments=deployments,
            expires_at=clock.now() + timedelta(seconds=seconds),
            **more,
        )

    def folder(self, name: str) -> Path:
        """A release's folder."""
        return self.home / "releases" / name

    def release(
        self,
        name: str,
        content: bytes | None = None,
        inputs: list[dict[str, Any]] | None = None,
        seconds: float = 3600,
        native: Callable[[Path], None] | None = None,
        ballast: int = 0,
        metadata: dict[str, Any] | None = None,
    ) -> Path:
        """Make and sign a release: ONNX, or what `native` writes as an MLflow model; `ballast` bytes more."""
        folder = self.folder(name)
        (folder / "model").mkdir(parents=True)
        formats = {"native": "model"}
        if native is None:
            (folder / ONNX).parent.mkdir()
            (folder / ONNX).write_bytes(content or linear(2.0))
            described = {"flavors": {}} | ({"metadata": metadata} if metadata else {})
            (folder / "model" / "MLmodel").write_text(yaml.safe_dump(described))
            formats["onnx"] = ONNX
        else:
            (folder / "model").rmdir()
            native(folder / "model")
        if ballast:
            (folder / "model" / "ballast.bin").write_bytes(os.urandom(ballast))
        now = clock.now()
        model, _, version = name.rpartition("-")
        statement = Statement(
            id=name,
            model=model,
            version=int(version),
            owner="amira",
            run_id="0" * 32,
            formats=formats,
            digests=digests(folder),
            signature={
                "inputs": inputs or [{"name": "x", "type": "double", "required": True}],
                "outputs": [],
            },
            checks=[],
            approvals=[],
            policy="",
            tier="low",
            tier_reasons=[],
            residency="ae",
            issued_at=now,
            expires_at=now + timedelta(seconds=seconds),
        )
        write(folder, statement)
        sign(folder, self.private)
        return folder

    def deploy(
        self, name: str = "adder", log_sample: float = 1.0, sticky: str | None = None, **weights: float
    ) -> None:
        """Publish a deployment of the releases `<model>_<n>=weight`; below 0 it is a shadow."""
        revisions = tuple(
            Revision(
                name=release.replace("_", "-"),
                release=release.replace("_", "-"),
                weight=max(weight, 0.0),
                shadow=weight < 0,
            )
            for release, weight in weights.items()
        )
        self.deployments[name] = Deployment(
            model="model", revisions=revisions, log_sample=log_sample, sticky=sticky
        )
        self.publish()

    def publish(self) -> None:
        """Publish what there is."""
        self.serial += 1
        told = Snapshot(
            serial=self.serial,
            issued_at=clock.now(),
            deployments=self.deployments,
            keys=tuple(self.keys),
            revoked=self.revoked,
            token_keys=self.token_keys,
            tokens_revoked=self.tokens_revoked,
        )
        publish(self.home / LOCATION, told, self.private)

    @contextmanager
    def gateway(self, wait: bool = True) -> Iterator["subprocess.Popen[bytes]"]:
        """A running gateway."""
        environment = {
            "PATH": os.environ["PATH"],
            "MAJLIS_SETTINGS": str(ROOT / "settings.ini"),
            "MAJLIS_WORKBENCH_HOME": str(self.home),
            "MAJLIS_GATEWAY_PORT": str(self.port),
            "MAJLIS_GATEWAY_SNAPSHOT_POLL_SECONDS": "0.05",
            "MAJLIS_GATEWAY_LOG_FLUSH_SECONDS": "0.2",
            **{f"MAJLIS_GATEWAY_{name.upper()}": str(value) for name, value in self.settings.items()},
            **self.variables,
        }
        with (self.home / "gateway.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "majlis.serving.gateway"],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )
        try:
            if wait:
                wait_until(lambda: process.poll() is not None or self.alive(), 90)
                assert process.poll() is None, (self.home / "gateway.log").read_text()
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)

    def alive(self) -> bool:
        """Whether the gateway is ready."""
        try:
            return httpx.get(f"{self.url}/v2/health/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def status(self) -> dict[str, Any]:
        """What the gateway says it serves."""
        told: dict[str, Any] = httpx.get(f"{self.url}/status", timeout=5).json()
        return told

    def synced(self) -> dict[str, Any]:
        """The status, once every process has the newest snapshot and loaded or refused all of it."""

        def settled() -> dict[str, Any] | None:
            told = self.status()
            revisions = [r for d in told["deployments"].values() for r in d.get("revisions", [])]
            pending = any("is being loaded" in r.get("reason", "") for r in revisions)
            return told if told["serial"] == self.serial and not pending else None

        value: dict[str, Any] = wait_until(settled, 90)
        return value

    def ask(
        self, *values: float | None, name: str = "adder", key: str | None = None, **more: Any
    ) -> httpx.Response:
        """One V2 request with a column x."""
        body = {
            "inputs": [{"name": "x", "shape": [len(values), 1], "datatype": "FP64", "data": list(values)}]
        }
        headers = {"authorization": f"Bearer {key or self.key}"} | more.pop("headers", {})
        return httpx.post(
            f"{self.url}/v2/models/{name}/infer", json=body, headers=headers, timeout=30, **more
        )
