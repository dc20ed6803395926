"""An A/B test judged by what happened: asked through the client, kept, audited, shown."""

import json
from pathlib import Path

import msgspec
import polars as pl
import pytest

from majlis import clock
from majlis.client_deployments import Deployment
from majlis.errors import Conflict, Invalid
from majlis.serving.rollout import Phase
from majlis.widgets import progress
from tests.service.gateways import World, linear, wait_until
from tests.service.planes import asked, control, released, state


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def labelled(deployment: Deployment) -> pl.DataFrame:
    """What happened to every row of the log: the older release is right about all of them."""
    log = deployment.predictions()
    truth = [float(2 * json.loads(text)["x"] >= 0.5) for text in log["inputs"]]
    return pl.DataFrame({"id": log["id"], "label": truth})


@pytest.mark.timeout(180)
def test_an_ab_test_is_judged_by_what_happened_also_when_it_is_over(world: World) -> None:
    with control(world, pause_seconds=1e-6) as (plane, wb):
        released(plane, world, 1, linear(2.0))
        released(plane, world, 2, linear(4.0))  # calls one of eight wrong
        deployment = wb.deploy("flights-1")
        with world.gateway():
            deployment.wait(30)
            with asked(world, wb.key("flights")) as answers:
                wait_until(lambda: answers[200, "1"] > 20)
                before = answers[200, "1"]
                with pytest.raises(Conflict, match="is no A/B test"):
                    deployment.outcomes(pl.DataFrame({"id": ["r"], "label": [1]}))
                wb.deploy("flights-2", strategy="a/b", share=50, reason="which is better?")
                wait_until(lambda: answers[200, "2"] > 400, 90)
        labels = labelled(deployment)  # the gateway has stopped: all of its log is written
        assert len(labels) == sum(answers.values())
        [earlier] = plane.rollouts.book.newest()
        with pytest.raises(Invalid, match="nothing lies between"):
            deployment.outcomes(labels, "mean", low=1, high=0)
        told = deployment.outcomes(labels.sample(fraction=0.5, seed=1))
        assert told["outcome"]["waiting"] > 0
        told = deployment.outcomes(labels)  # all that are known, each time
        [row] = [one for one in told["compared"] if one["signal"] == "correct"]
        assert told["outcome"]["waiting"] == 0
        assert before <= sum(told["outcome"]["rows"]) < sum(answers.values())  # those before do not count
        assert row["stable"] == 1.0 and 0.75 < row["candidate"] < 0.97
        assert row["decided"] and row["low"] <= row["effect"] <= row["high"] < 0 and row["wrong"] < 0.01
        assert state(deployment)["phase"] == "running"  # a person decides
        assert "correct -0." in progress(state(deployment))
        last = wb.audit(subject="flights", action="rollout.outcome")[-1]
        assert last["principal"] == "amira" and last["detail"]["compared"] == [row]
        over = {"phase": Phase.ROLLED_BACK, "reason": "it fails", "since": clock.now()}
        plane.rollouts.book.keep(msgspec.structs.replace(earlier, **over))  # decided before it was told
        assert state(deployment)["outcome"] == told["outcome"]
        again = deployment.outcomes(labels)  # labels come late
        assert again["phase"] == "rolled back" and again["outcome"]["rows"] == told["outcome"]["rows"]
