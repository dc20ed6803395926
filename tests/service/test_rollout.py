"""A rollout on a real gateway: promoted without a failed request, taken back when the candidate fails."""

import random
import threading
import time
from collections import Counter
from pathlib import Path

import httpx

from majlis import clock
from majlis.serving.counts import Observation, observe
from majlis.serving.rollout import Phase, Plan, Rollout, begin, tick
from tests.service.gateways import World, failing, heavy, linear, wait_until


class Control:
    """The control plane's part: keeps the record, publishes the weights."""

    def __init__(self, world: World, rollout: Rollout) -> None:
        self.world = world
        self.rollout = rollout
        self.published: dict[str, float] = {}

    def newest(self) -> list[Rollout]:
        return [self.rollout]

    def observe(self, rollout: Rollout) -> Observation:
        return observe(self.world.status(), "adder", rollout.stable, rollout.candidate)

    def keep(self, rollout: Rollout) -> None:
        self.rollout = rollout

    def publish(self, rollout: Rollout) -> None:
        if rollout.weights() != self.published:
            self.published = rollout.weights()
            self.world.deploy(**{name.replace("-", "_"): w for name, w in self.published.items()})


def carry_out(world: World, candidate: str, plan: Plan) -> tuple[Rollout, Counter[tuple[int, str]], float]:
    """Roll out under load; the end, the answers by status and revision, the seconds from verdict to calm."""
    world.deploy(double_1=1)
    answers: Counter[tuple[int, str]] = Counter()
    done = threading.Event()

    def load(seed: int) -> None:
        values = random.Random(seed)
        with httpx.Client(headers={"authorization": f"Bearer {world.key}"}, timeout=20) as client:
            while not done.is_set():
                body = {
                    "inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [values.random()]}]
                }
                answer = client.post(f"{world.url}/v2/models/adder/infer", json=body)
                answers[answer.status_code, answer.headers.get("x-revision", "")] += 1

    with world.gateway():
        world.synced()
        callers = [threading.Thread(target=load, args=(seed,)) for seed in range(2)]
        for caller in callers:
            caller.start()
        try:
            wait_until(lambda: answers[200, "double-1"] > plan.requests + 50, 60)
            wait_until(
                lambda: sum(observe(world.status(), "adder", "double-1", "").stable.scores) > plan.requests
            )
            seen = observe(world.status(), "adder", "double-1", candidate)
            control = Control(world, begin("adder", "double-1", candidate, plan, clock.now(), seen))
            wait_until(
                lambda: not tick(control, clock.now()) and control.rollout.phase is not Phase.RUNNING, 120
            )
            verdict_at = time.monotonic()
            wait_until(lambda: world.status()["serial"] == world.serial)
            calm = time.monotonic() - verdict_at
        finally:
            done.set()
            for caller in callers:
                caller.join()
    return control.rollout, answers, calm


def test_a_good_candidate_is_promoted_and_nothing_fails(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.release("double-1", linear(2.0))
    world.release("double-2", linear(2.0))
    plan = Plan(steps=(0.2, 0.6, 1.0), pause_seconds=0.5, requests=20, slow=1.0)
    rollout, answers, _ = carry_out(world, "double-2", plan)
    assert rollout.phase is Phase.PROMOTED, rollout.reason
    assert {status for status, _ in answers} == {200} and answers[200, "double-2"] >= 60


def test_a_failing_candidate_is_taken_back_within_two_seconds_of_the_verdict(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.release("double-1", linear(2.0))
    world.release("broken-1", failing())
    plan = Plan(steps=(0.2, 1.0), pause_seconds=600, slow=1.0)
    rollout, answers, calm = carry_out(world, "broken-1", plan)
    assert rollout.phase is Phase.ROLLED_BACK and "broken-1 fails" in rollout.reason
    assert calm < 2 and world.deployments["adder"].revisions[0].weight == 1.0
    failed = sum(count for (status, _), count in answers.items() if status != 200)
    assert 0 < failed < 60 and answers[200, "double-1"] > failed


def test_a_candidate_whose_scores_drift_is_taken_back_without_a_label_or_a_failure(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.release("double-1", linear(2.0))
    world.release("triple-1", linear(3.0))
    plan = Plan(steps=(0.2, 1.0), pause_seconds=600, slow=1.0)
    rollout, answers, calm = carry_out(world, "triple-1", plan)
    assert rollout.phase is Phase.ROLLED_BACK and "triple-1 scores high in" in rollout.reason
    assert {status for status, _ in answers} == {200}
    assert calm < 2 and world.deployments["adder"].revisions[0].weight == 1.0


def test_callers_do_not_wait_for_a_slow_shadow(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.release("double-1", linear(2.0))
    world.release("heavy-1", heavy())
    world.deploy(double_1=1, heavy_1=-1)
    asked = 300
    with world.gateway():
        world.synced()
        with httpx.Client(headers={"authorization": f"Bearer {world.key}"}, timeout=20) as client:
            body = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}]}
            for _ in range(asked):
                assert client.post(f"{world.url}/v2/models/adder/infer", json=body).status_code == 200
        seen = observe(world.status(), "adder", "double-1", "heavy-1")
        assert seen.stable.requests == asked and seen.candidate.requests < asked / 2
        wait_until(lambda: observe(world.status(), "adder", "", "heavy-1").candidate.requests > 5, 30)
