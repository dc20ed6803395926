"""`mlflow deployments … -t majlis`: MLflow's own command, through its own entry point."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from majlis.errors import Invalid
from majlis.mlflow_plugin import moved
from tests.service.gateways import ROOT, World, linear
from tests.service.planes import control, environment, released, state

COMMAND = "from mlflow.cli import cli; cli(prog_name='mlflow')"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "home")


def mlflow(world: World, *arguments: str, fails: bool = False) -> str:
    """What `mlflow deployments` says."""
    run = [sys.executable, "-c", COMMAND, "deployments", *arguments]
    environ = {"PATH": os.environ["PATH"], "HOME": str(world.home), **environment(world)}
    done = subprocess.run(run, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120)
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout


@pytest.mark.timeout(300)
def test_mlflows_command_does_what_the_workbench_does(world: World, tmp_path: Path) -> None:
    with control(world, poll_seconds=3600) as (plane, wb), world.gateway(False):
        for number in (1, 2):
            released(plane, world, number, linear(2.0))
        named = ("-t", "majlis", "--name", "flights")
        said = mlflow(world, "create", *named, "-m", "models:/flights/1", "-C", "reason=a first one")
        assert "deployment flights is created" in said
        assert wb.audit(subject="flights")[-1]["detail"]["reason"] == "a first one"
        assert "flights" in mlflow(world, "list", "-t", "majlis")
        told = mlflow(world, "get", *named)  # MLflow writes a line for each of its facts
        assert "name: flights" in told and "flights-1" in told
        assert "Nothing is deployed as 'nothing'" in mlflow(
            world, "get", "-t", "majlis", "--name", "nothing", fails=True
        )
        (tmp_path / "rows.json").write_text(json.dumps([{"x": 0.5}, {"x": 1.25}]))
        said = mlflow(world, "predict", *named, "-I", str(tmp_path / "rows.json"))
        assert json.loads(said) == {"predictions": [[1.0], [2.5]]}

        canary = ("-C", "strategy=canary", "-C", "steps=10,100")
        mlflow(world, "update", *named, "-m", "models:/flights/2", *canary)
        found = state(wb.deployment("flights"))
        assert (found["strategy"], found["phase"], found["steps"]) == ("canary", "running", [10, 100])

        assert "steps came with strategy = shadow" in mlflow(
            world, "update", *named, "-m", "models:/flights/2", "-C", "strategy=shadow", "-C", "steps=5,100",
            fails=True,
        )  # fmt: skip
        mlflow(world, "delete", *named)
        assert not wb.deployments()


def test_the_configuration_is_read_or_refused() -> None:
    given = moved({"reason": "why", "strategy": "a/b", "share": "20", "sticky": "x-user"})
    assert given == {"strategy": "a/b", "share": 20, "sticky": "x-user"}
    assert moved({"strategy": "canary", "steps": "5, 100"}) == {"strategy": "canary", "steps": [5, 100]}
    assert moved(None) == {}
    own = {"feature_policy": "stale", "feature_budget_seconds": "0.05"}
    assert moved(own) == {"feature_policy": "stale", "feature_budget_seconds": 0.05}
    with pytest.raises(
        Invalid, match="-C colour is not known; allowed are reason, strategy, steps, share, sticky"
    ):
        moved({"colour": "red"})
    for option in ("steps", "share"):
        with pytest.raises(Invalid, match=f"-C {option}=few is no percentage"):
            moved({option: "few"})
    with pytest.raises(Invalid, match="feature_budget_seconds=soon is no number"):
        moved({"feature_budget_seconds": "soon"})
