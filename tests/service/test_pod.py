"""The pod of one release: a folder as KServe lays it out, the snapshot beside it, and a V2 client."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from majlis.envelope import signing_key
from majlis.files import PUBLIC, write_whole
from majlis.serving.snapshot import LOCATION, load, only, seal
from tests.service.gateways import ROOT, World, free_port, linear, wait_until


class Pod:
    """What one container of the runtime has: a release, a mounted snapshot, the public key, an empty home."""

    def __init__(self, world: World, home: Path, revision: str) -> None:
        self.world, self.home, self.revision = world, home, revision
        self.models, self.mounted = home / "mnt/models", home / "etc/snapshot.json"
        self.port = free_port()
        shutil.copytree(world.folder(revision), self.models)  # without its name
        self.sync()

    def sync(self) -> None:
        """The control plane's part of the snapshot, as Kubernetes mounts it."""
        whole = load(self.world.home / LOCATION, self.world.public)
        part = seal(msgspec.json.encode(only(whole, "adder")), signing_key(self.world.private))
        self.mounted.parent.mkdir(exist_ok=True)
        write_whole(self.mounted, part, PUBLIC)

    def environ(self) -> dict[str, str]:
        """Its environment, as the runtime and the InferenceService make it."""
        return {
            "PATH": os.environ["PATH"],
            "MAJLIS_SETTINGS": str(ROOT / "settings.ini"),
            "MAJLIS_WORKBENCH_HOME": str(self.home / "var"),
            "MAJLIS_GATEWAY_PORT": str(self.port),
            "MAJLIS_GATEWAY_SNAPSHOT": str(self.mounted),
            "MAJLIS_GATEWAY_SNAPSHOT_POLL_SECONDS": "0.05",
            "MAJLIS_GATEWAY_ONLY": f"adder/{self.revision}",
            "MAJLIS_GATEWAY_ONLY_RELEASE": str(self.models),
            "MAJLIS_RELEASE_PUBLIC_KEY": str(self.world.public),
        }

    def command(self) -> list[str]:
        """What the container runs."""
        return [sys.executable, "-m", "majlis.serving.pod"]

    @contextmanager
    def running(self) -> Iterator[None]:
        """The pod, ready."""
        process = subprocess.Popen(self.command(), cwd=ROOT, env=self.environ())
        try:
            wait_until(lambda: process.poll() is not None or self.ready(), 30)
            assert process.poll() is None
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)

    def refused(self) -> str:
        """The last words of a pod that does not start."""
        done = subprocess.run(
            self.command(), cwd=ROOT, env=self.environ(), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == os.EX_CONFIG, done.stderr
        return done.stderr

    def ready(self) -> bool:
        """Whether Kubernetes would send it requests."""
        try:
            return self.get("/v2/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def get(self, path: str) -> httpx.Response:
        """One of its pages."""
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=5)

    def ask(self, value: float, key: str, name: str = "adder") -> httpx.Response:
        """One V2 request."""
        tensor = {"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [value]}
        return httpx.post(
            f"http://127.0.0.1:{self.port}/v2/models/{name}/infer",
            json={"inputs": [tensor]},
            headers={"authorization": f"Bearer {key}"},
            timeout=30,
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two releases behind one deployment; another deployment with a key of its own."""
    made = World(tmp_path / "control")
    made.release("adder-1", linear(2.0))
    made.release("adder-2", linear(3.0))
    made.keys.append(made.make_key("mjl_other", "stranger", ("other",)))
    made.deploy("other", adder_1=1)
    made.deploy(adder_1=0.95, adder_2=0.05)
    return made


def test_a_pod_serves_its_revision_to_those_who_may(world: World, tmp_path: Path) -> None:
    pod = Pod(world, tmp_path / "pod", "adder-2")
    with pod.running():
        answers = [pod.ask(float(n), world.key) for n in range(20)]
        assert [a.json()["outputs"][0]["data"] for a in answers] == [[3.0 * n] for n in range(20)]
        assert {a.headers["x-revision"] for a in answers} == {"adder-2"}  # whatever its weight
        assert pod.ask(1.0, "mjl_other").status_code == 401  # it does not know the keys of others
        assert pod.ask(1.0, world.key, "other").status_code in {403, 404}
        assert "majlis_gateway_requests_total" in pod.get("/metrics").text


def test_a_new_key_and_a_revocation_reach_it(world: World, tmp_path: Path) -> None:
    pod = Pod(world, tmp_path / "pod", "adder-1")
    with pod.running():
        world.keys.append(world.make_key("mjl_new", "newcomer", ("adder",)))
        world.publish()
        pod.sync()
        wait_until(lambda: pod.ask(1.0, "mjl_new").status_code == 200)
        world.revoked = ("adder-1",)
        world.publish()
        pod.sync()
        wait_until(lambda: not pod.ready())  # Kubernetes sends it nothing any more
        assert pod.ask(1.0, world.key).status_code == 503


def test_what_is_not_to_be_served_is_told_and_the_pod_ends(world: World, tmp_path: Path) -> None:
    pod = Pod(world, tmp_path / "pod", "adder-2")
    model = next(pod.models.rglob("*.onnx"))
    content = model.read_bytes()
    model.write_bytes(content + b" ")
    assert model.name in pod.refused()  # altered in the object store
    model.write_bytes(content)
    shutil.rmtree(pod.models)
    shutil.copytree(world.folder("adder-1"), pod.models)
    assert "holds the release adder-1, and adder-2 was asked for" in pod.refused()
    world.revoked = ("adder-2",)
    world.publish()
    pod.sync()
    shutil.rmtree(pod.models)
    shutil.copytree(world.folder("adder-2"), pod.models)
    assert "was revoked" in pod.refused()
    pod.revision = "adder-9"
    assert "knows no revision adder/adder-9" in pod.refused()
    pod.mounted.write_bytes(b"{}")
    assert "no signed envelope" in pod.refused()
