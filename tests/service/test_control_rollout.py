"""A canary that the control plane drives on a real gateway: promoted, taken back, resumed after a kill."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from majlis import clock
from majlis.errors import Changed, Conflict, Invalid, NotFound, Unavailable
from majlis.registry.release import ONNX
from majlis.serving import snapshot
from majlis.serving.rollout import Phase, advance
from majlis.settings import load
from tests.service.gateways import ROOT, World, failing, linear, wait_until
from tests.service.planes import (
    asked,
    command,
    control,
    environment,
    over,
    released,
    shares,
    state,
    trail,
)

STEPS = [10, 50, 100]
CONTROLLER = """
import signal
from majlis.control.service import ControlPlane
from majlis.settings import load

plane = ControlPlane(load()).open()
signal.pause()
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


PASSED = [
    ("amira", "rollout.started", 10),
    ("majlis", "rollout.advanced", 50),
    ("majlis", "rollout.advanced", 100),
    ("majlis", "rollout.promoted", 100),
]


@pytest.mark.timeout(180)
def test_a_good_release_walks_through_its_steps_and_nothing_fails(world: World) -> None:
    with control(world) as (plane, wb):
        for number in (1, 2):
            released(plane, world, number, linear(2.0))
        with pytest.raises(NotFound):  # there is no first release to move from
            wb.deploy("flights-1", strategy="canary")
        deployment = wb.deploy("flights-1")
        assert deployment.rollout is None
        with pytest.raises(Unavailable, match="goes by what it counts"):
            wb.deploy("flights-2", strategy="canary")
        with world.gateway():
            deployment.wait(30)
            with asked(world, wb.key("flights")) as answers:
                wait_until(lambda: answers[200, "1"])
                deployment = wb.deploy("flights-2", strategy="canary", steps=STEPS, reason="a newer month")
                assert state(deployment)["steps"] == STEPS and state(deployment)["started_by"] == "amira"
                wait_until(lambda: over(deployment), 90)
                promoted_after = answers[200, "2"]
                wait_until(lambda: answers[200, "2"] > promoted_after + 20, 30)
        assert (state(deployment)["phase"], shares(deployment)) == ("promoted", {"1": 0.0, "2": 1.0})
        assert {status for status, _ in answers} == {200} and promoted_after >= 3 * 20
        assert trail(wb) == PASSED and wb.api("GET", "/audit/verify")["ok"]
        assert (wb.version("flights", 1).stage, wb.version("flights", 2).stage) == ("Archived", "Production")


@pytest.mark.timeout(180)
def test_a_failing_release_is_taken_back_and_the_trail_says_why(world: World) -> None:
    with control(world, pause_seconds=600) as (plane, wb):
        released(plane, world, 1, linear(2.0))
        released(plane, world, 2, failing())
        deployment = wb.deploy("flights-1")
        with world.gateway():
            deployment.wait(30)
            with asked(world, wb.key("flights")) as answers:
                wait_until(lambda: answers[200, "1"] > 50)
                wb.deploy("flights-2", strategy="canary", steps=STEPS)
                wait_until(lambda: over(deployment), 90)
        assert (state(deployment)["phase"], shares(deployment)) == ("rolled back", {"1": 1.0, "2": 0.0})
        last = wb.audit(subject="flights", action="rollout.rolled_back")[-1]
        assert last["principal"] == "majlis" and "2 fails 100.00% of its requests" in last["detail"]["reason"]
        assert wb.version("flights", 2).stage == "Archived"
        replayed = command(world, "rehearse")
        [incident] = replayed["incidents"]
        assert incident["name"] == "flights-2" and "2 fails 100.00%" in incident["reason"]
        assert incident["fires_after_seconds"] is not None
        lax = world.home / "lax.ini"
        lax.write_text("[rollout]\nfailures = 1\ndrift = 1\nslow = 1\n")
        [again] = command(world, "rehearse", "--rule", str(lax))["incidents"]
        assert again["fires_after_seconds"] is None


@pytest.mark.timeout(180)
def test_a_refused_release_is_taken_back_without_a_failed_request(world: World) -> None:
    with control(world, pause_seconds=600) as (plane, wb):
        for number in (1, 2):
            released(plane, world, number, linear(2.0))
        altered = world.folder("flights-2") / ONNX
        altered.write_bytes(altered.read_bytes()[:-1] + b"\x00")
        deployment = wb.deploy("flights-1")
        with world.gateway():
            deployment.wait(30)
            with asked(world, wb.key("flights")) as answers:
                wb.deploy("flights-2", strategy="canary", steps=STEPS)
                wait_until(lambda: over(deployment), 60)
        reason = wb.audit(subject="flights", action="rollout.rolled_back")[-1]["detail"]["reason"]
        assert reason.startswith("2 is not served: ") and ONNX in reason
        assert shares(deployment)["1"] == 1.0 and set(answers) == {(200, "1")}


@pytest.mark.timeout(180)
def test_a_killed_control_plane_goes_on_without_skipping_or_repeating(world: World) -> None:
    with control(world, poll_seconds=3600) as (plane, wb):  # never looks itself
        for number in (1, 2):
            released(plane, world, number, linear(2.0))
        wb.deploy("flights-1")
    with world.gateway():
        with control(world, poll_seconds=3600) as (plane, wb):
            wb.deployment("flights").wait(30)
            key = wb.key("flights")
            wb.deploy("flights-2", strategy="canary", steps=STEPS)
        with asked(world, key):
            quiet = load(environ=environment(world))

            def step() -> float:
                there = snapshot.load(quiet.snapshot, quiet.release.public_key)
                return there.deployments["flights"].revisions[-1].weight

            environ = {"PATH": os.environ["PATH"], **environment(world, pause_seconds=1)}
            process = subprocess.Popen([sys.executable, "-c", CONTROLLER], cwd=ROOT, env=environ)
            try:
                wait_until(lambda: process.poll() is not None or step() == 0.5, 60)
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait(30)
            assert step() == 0.5  # in the middle
            with control(world) as (_, wb):
                deployment = wb.deployment("flights")
                wait_until(lambda: over(deployment), 60)
                assert shares(deployment) == {"1": 0.0, "2": 1.0} and trail(wb) == PASSED


@pytest.mark.timeout(120)
def test_people_promote_and_abort_and_a_torn_step_is_published(world: World) -> None:
    with (
        control(world, poll_seconds=3600, pause_seconds=1e-6, requests=1) as (plane, wb),
        world.gateway(False),
    ):
        for number in (1, 2, 3):
            released(plane, world, number, linear(2.0))
        deployment = wb.deploy("flights-1").wait(30)
        with pytest.raises(Conflict, match="nothing to move"):
            wb.deploy("flights-1", strategy="canary")
        with pytest.raises(Invalid, match="steps"):
            wb.deploy("flights-2", steps=[50])
        with pytest.raises(Invalid, match="they grow"):
            wb.deploy("flights-2", strategy="canary", steps=[50, 10])
        wb.deploy("flights-2", strategy="canary", steps=STEPS)
        with pytest.raises(Conflict, match="A rollout of 'flights' is running"):
            wb.deploy("flights-3")

        # A step that was recorded, and the process killed before it published
        book = plane.rollouts.book
        [begun] = book.newest()
        with asked(world, wb.key("flights")) as answers:
            wait_until(lambda: answers[200, "2"])
            after = wait_until(
                lambda: (new := advance(begun, book.observe(begun), clock.now())) is not begun and new, 30
            )
        before = snapshot.load(plane.settings.snapshot, plane.settings.release.public_key)
        book.keep(after)
        book.publish(after)
        there = snapshot.load(plane.settings.snapshot, plane.settings.release.public_key)
        assert [r.weight for r in before.deployments["flights"].revisions] == [0.9, 0.1]
        assert [r.weight for r in there.deployments["flights"].revisions] == [0.5, 0.5]
        book.publish(after)  # nothing is to be changed: nothing is
        again = snapshot.load(plane.settings.snapshot, plane.settings.release.public_key)
        assert again.serial == there.serial

        deployment.rollback("the planners saw odd delays")
        assert shares(deployment) == {"1": 1.0, "2": 0.0}
        assert state(deployment)["reason"] == "amira: the planners saw odd delays"
        with pytest.raises(Conflict, match="ended while"):  # it had looked before the person spoke
            book.keep(after)
        with pytest.raises(Conflict, match="No rollout of 'flights' is running"):
            deployment.promote("too late")

        wb.deploy("flights-3", strategy="canary")
        deployment.promote("tried on another machine")
        assert shares(deployment) == {"1": 0.0, "2": 0.0, "3": 1.0}
        assert state(deployment)["phase"] == Phase.PROMOTED
        deployment.rollback("second thoughts")  # nothing runs any more: back, but not to what was taken back
        assert shares(deployment) == {"1": 1.0, "2": 0.0, "3": 0.0}

        with pytest.raises(Invalid, match="--reason"):  # a change needs its reason
            command(world, "abort", "flights")
        wb.deploy("flights-2", strategy="canary", steps=STEPS)
        assert command(world, "status", "flights")["percent"] == 10
        assert command(world, "abort", "flights", "--reason", "once more")["phase"] == "rolled back"
        wb.deploy("flights-2", strategy="canary", steps=STEPS)
        assert command(world, "promote", "flights", "--reason", "at last")["phase"] == "promoted"
        with pytest.raises(Changed):  # it was moved since it was last looked at
            deployment.delete("it was a trial")
        deployment.refresh().delete("it was a trial")
        assert not wb.deployments() and not plane.rollouts.look()
