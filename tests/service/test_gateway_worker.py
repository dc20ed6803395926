"""Models that are code: they run in a process of their own, and what they do there stays there."""

import os
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow.pyfunc
import psutil
import pytest

from majlis.serving import inside
from majlis.serving.environments import wanted
from tests.conftest import open_folder
from tests.service.gateways import World, below, linear, wait_until

MODEL = '''
import os
import time
import mlflow
import pandas as pd


class Behaves(mlflow.pyfunc.PythonModel):
    """Doubles, unless a value tells it to misbehave."""

    def predict(self, context, model_input: pd.DataFrame, params=None):
        values = model_input["x"]
        print("printed to standard output, where the answers go")
        if (values == 666).any():
            os._exit(3)
        if (values == 777).any():
            time.sleep(3600)
        if (values == 888).any():
            raise ValueError("eight hundred and eighty-eight")
        if (values == 999).any():
            secrets = [name for name in os.environ if "MAJLIS" in name or "TOKEN" in name]
            handles = os.listdir("/proc/self/fd")
            return [[float(os.getuid()), float(len(secrets)), float(len(handles))]] * len(values)
        return [[2.0 * value, float(len(values)), 0.0] for value in values]


mlflow.models.set_model(Behaves())
'''


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """A gateway that serves a pyfunc and an ONNX model, from a folder that other users may enter."""
    with open_folder() as home:
        source = home / "model.py"
        source.write_text(MODEL)
        world = World(home, request_timeout_seconds=3)
        world.release("double-1", linear(2.0))
        world.release(
            "pyfunc-1",
            native=lambda folder: mlflow.pyfunc.save_model(folder, python_model=source, pip_requirements=[]),
        )
        world.keys = [world.make_key(world.key, "tester", ("adder", "python"))]
        world.deploy("adder", double_1=1)
        world.deploy("python", pyfunc_1=1)
        with world.gateway() as world.process:
            told = world.synced()
            assert told["deployments"]["python"].get("ready"), told
            yield world


def test_it_answers(world: World) -> None:
    answer = world.ask(1.0, 2.0, name="python").json()["outputs"][0]
    assert (answer["shape"], answer["data"]) == ([2, 3], [2.0, 2.0, 0.0, 4.0, 2.0, 0.0])


def test_its_environment_holds_nothing(world: World) -> None:
    uid, secrets, handles = world.ask(999.0, name="python").json()["outputs"][0]["data"]
    assert secrets == 0 and handles < 16
    needed = (world.home, Path(sys.executable).resolve(), Path(inside.__file__))
    if os.geteuid() == 0 and all(map(readable_by_all, needed)):
        assert uid == 65534


def readable_by_all(path: Path) -> bool:
    """Whether another user could reach a folder."""
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def test_an_error_is_the_callers_only(world: World) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda v: world.ask(v, name="python"), [1.0, 888.0, 3.0, 4.0, 888.0, 6.0, 7.0, 8.0])
        )
    assert [answer.status_code for answer in answers] == [200, 400, 200, 200, 400, 200, 200, 200]
    assert "eight hundred and eighty-eight" in answers[1].json()["detail"]


def test_requests_that_wait_become_one_batch(world: World) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda v: world.ask(float(v), name="python").json(), range(64)))
    data = [answer["outputs"][0]["data"] for answer in answers]
    assert [row[0] for row in data] == [2.0 * value for value in range(64)]
    assert max(row[1] for row in data) > 1  # somebody's rows were asked together with another's


def test_a_crash_is_answered_and_repaired(world: World) -> None:
    answer = world.ask(666.0, name="python")
    assert answer.status_code == 503 and "it died" in answer.json()["detail"]
    assert world.ask(1.0).status_code == 200
    wait_until(lambda: world.ask(1.0, name="python").status_code == 200, 60)


def test_a_process_killed_while_nobody_asks_is_replaced_at_once(world: World) -> None:
    """Whoever asks next waits for the new process; nobody is refused, and nothing hangs."""
    assert world.ask(1.0, name="python").status_code == 200
    (killed,) = model_processes(world)
    killed.kill()
    (successor,) = wait_until(lambda: [p for p in model_processes(world) if p.pid != killed.pid], 10)
    assert world.ask(1.0, name="python").status_code == 200
    assert successor.is_running()


def test_a_hang_is_killed_while_the_others_are_served(world: World) -> None:
    begun = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(world.ask, 777.0, name="python")
        while not hanging.done():
            assert world.ask(1.0).status_code == 200
        answer = hanging.result()
    assert answer.status_code == 503 and "so it was killed" in answer.json()["detail"]
    assert time.monotonic() - begun < 20
    wait_until(lambda: world.ask(1.0, name="python").status_code == 200, 60)


def test_a_model_that_keeps_dying_is_left_alone_for_a_while(world: World) -> None:
    """Refused at once, with the reason and when to come again; the others do not wait, and it recovers."""
    answers = [world.ask(666.0, name="python") for _ in range(4)]
    assert {answer.status_code for answer in answers} == {503}
    assert "is down" in answers[-1].json()["detail"] and answers[-1].headers["retry-after"] == "1"
    assert world.ask(1.0).status_code == 200
    wait_until(lambda: world.ask(1.0, name="python").status_code == 200, 60)


def model_processes(world: World) -> list[psutil.Process]:
    """The processes that hold the Python model."""
    assert world.process is not None
    return below(world.process, "pyfunc-1")


def test_the_process_goes_with_its_revision(world: World) -> None:
    assert len(model_processes(world)) == 1
    world.deploy("python", double_1=1)
    world.synced()
    wait_until(lambda: not model_processes(world))
    assert world.ask(1.0, name="python").status_code == 200


OTHER = '''
import mlflow
import pandas as pd
import tinydep


class Says(mlflow.pyfunc.PythonModel):
    """Multiplies by what another release of a package says."""

    def predict(self, context, model_input: pd.DataFrame, params=None):
        return [[value * tinydep.FACTOR] for value in model_input["x"]]


mlflow.models.set_model(Says())
'''


def test_a_model_runs_on_its_own_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway has tinydep 1, the model asked for tinydep 2, and somebody built that environment."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "tinydep.py").write_text("FACTOR = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "one"))
    source = tmp_path / "model.py"
    source.write_text(OTHER)
    world = World(tmp_path)
    folder = world.release(
        "other-1",
        native=lambda folder: mlflow.pyfunc.save_model(
            folder, python_model=source, pip_requirements=["tinydep==2", f"mlflow=={mlflow.__version__}"]
        ),
    )
    asked = wanted(folder / "model")
    environment = tmp_path / "environments" / asked.name
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "tinydep.py").write_text("FACTOR = 2\n")
    (packages / "workbench.pth").write_text(sysconfig.get_path("purelib") + "\n")  # for all the rest
    world.deploy("adder", other_1=1)
    with world.gateway():
        [revision] = world.synced()["deployments"]["adder"]["revisions"]
        assert "tinydep is missing" in revision["reason"], "it was not built to the end, so it is not used"
    (environment / "complete").touch()
    with world.gateway():
        [revision] = world.synced()["deployments"]["adder"]["revisions"]
        assert revision.get("ready"), revision
        assert revision["environment"] == asked.name
        assert world.ask(21.0).json()["outputs"][0]["data"] == [42.0]
