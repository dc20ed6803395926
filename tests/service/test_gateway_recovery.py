"""A gateway that starts, or starts again: what is there answers, what is not keeps its callers waiting."""

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import mlflow.pyfunc
import psutil
import pytest

from tests.service.gateways import World, below, linear, wait_until

START_SECONDS = 60.0
SLOW = '''
import time
from pathlib import Path

import mlflow


class Slow(mlflow.pyfunc.PythonModel):
    """Triples, once it was allowed to load."""

    def load_context(self, context):
        while not Path({allowed!r}).exists():
            time.sleep(0.05)

    def predict(self, context, model_input, params=None):
        return [[3.0 * value] for value in model_input["x"]]


mlflow.models.set_model(Slow())
'''


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A home with an ONNX model and one whose process loads only when the file `allowed` is there."""
    world, source = World(tmp_path, request_timeout_seconds=START_SECONDS), tmp_path / "slow.py"
    source.write_text(SLOW.format(allowed=str(tmp_path / "allowed")))
    world.release("double-1", linear(2.0))
    world.release(
        "slow-1",
        native=lambda folder: mlflow.pyfunc.save_model(folder, python_model=source, pip_requirements=[]),
    )
    world.keys = [world.make_key(world.key, "tester", ("adder", "slow"))]
    world.deploy("adder", double_1=1.0)
    world.deploy("slow", slow_1=1.0)
    yield world


def answered(world: World) -> bool:
    """Whether the ONNX model answers."""
    try:
        return world.ask(4.0).json().get("outputs", [{}])[0].get("data") == [8.0]
    except httpx.TransportError:
        return False


def serving(pid: int) -> list[psutil.Process]:
    """The processes that a supervisor started to answer requests."""
    return [p for p in psutil.Process(pid).children() if "majlis.serving.gateway" in p.cmdline()]


def test_a_slow_model_keeps_only_its_own_callers_waiting(world: World) -> None:
    with world.gateway(wait=False), ThreadPoolExecutor(1) as callers:
        wait_until(lambda: answered(world), START_SECONDS)
        assert not world.alive(), "it is ready before all is loaded"
        waits = callers.submit(world.ask, 1.0, name="slow")
        assert answered(world) and not waits.done()
        (world.home / "allowed").touch()
        assert waits.result().json()["outputs"][0]["data"] == [3.0]
        wait_until(world.alive, START_SECONDS)


def test_a_model_that_cannot_be_loaded_releases_its_callers(world: World) -> None:
    """A refused release ends the waiting, with the reason."""
    (world.folder("slow-1") / "model" / "MLmodel").write_text("altered")
    with world.gateway():
        answer = world.ask(1.0, name="slow")
        assert answer.status_code == 503 and "does not verify" in answer.json()["detail"]
        assert answered(world)


def test_the_only_process_is_killed(world: World) -> None:
    """What is ONNX answers again, even while the process of the other model is still loading."""
    with world.gateway(wait=False) as gateway:
        wait_until(lambda: answered(world), START_SECONDS)
        (killed,) = serving(gateway.pid)
        killed.send_signal(signal.SIGKILL)
        wait_until(lambda: answered(world), START_SECONDS)
        assert killed.pid not in {process.pid for process in serving(gateway.pid)}


def gone(process: psutil.Process) -> bool:
    """Whether a process has ended."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def tripled(world: World) -> bool:
    """Whether the model that is code answers."""
    try:
        return world.ask(1.0, name="slow").json().get("outputs", [{}])[0].get("data") == [3.0]
    except httpx.TransportError:
        return False


def test_the_supervisor_is_killed(world: World) -> None:
    """Its processes end with it, so that the next one gets the port; the template goes on."""
    (world.home / "allowed").touch()
    with world.gateway() as gateway:
        (model,) = below(gateway, "slow-1")
        template, left = model.parent(), [model, *serving(gateway.pid)]
        assert template is not None
        gateway.kill()
        gateway.wait()
        wait_until(lambda: all(map(gone, left)), START_SECONDS)
        assert not gone(template)
        with world.gateway(wait=False):
            wait_until(lambda: answered(world) and tripled(world), START_SECONDS)
            (successor,) = template.children()
            assert successor.name() == "slow-1"
    wait_until(lambda: gone(template), START_SECONDS)


def test_a_template_is_killed(world: World) -> None:
    """Nobody notices: its workers go on, and the next worker comes of another one."""
    (world.home / "allowed").touch()
    with world.gateway() as gateway:
        (model,) = below(gateway, "slow-1")
        template = model.parent()
        assert template is not None and tripled(world)
        template.kill()
        wait_until(lambda: gone(template), START_SECONDS)
        assert tripled(world) and not gone(model)
        model.kill()
        wait_until(lambda: gone(model) and tripled(world), START_SECONDS)
        (successor,) = below(gateway, "slow-1")
        assert successor.ppid() != template.pid
