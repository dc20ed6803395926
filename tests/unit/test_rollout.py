"""Rollouts: judged rightly however often one looks, and resumed rightly wherever one was killed."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln

from majlis.errors import Conflict, Invalid
from majlis.serving.metrics import LOADING
from majlis.serving.rollout import (
    Counts,
    Kind,
    Observation,
    Phase,
    Plan,
    Rollout,
    advance,
    begin,
    difference,
    log_evidence,
    observe,
    threshold,
    tick,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_null_rollouts_are_rolled_back_at_most_at_the_level() -> None:
    generator = np.random.default_rng(11)
    rollouts, looks, batch, plan = 10_000, 12, 250, Plan()
    wrong = np.zeros(rollouts, bool)
    for share in plan.steps[:-1]:
        for rate, tolerance in ((0.01, plan.failures), (0.1, plan.slow)):
            asked = generator.binomial(batch, share, (rollouts, looks))
            # the worst that the hypothesis allows: worse by the whole tolerance
            candidate = generator.binomial(asked, rate + tolerance).cumsum(1)
            stable = generator.binomial(batch - asked, rate).cumsum(1)
            n, m = (batch - asked).cumsum(1), asked.cumsum(1)
            wrong |= (log_evidence(stable, n, candidate, m, tolerance) > threshold(plan.level, 16)).any(1)
    assert wrong.mean() <= 0.01


@given(
    st.integers(0, 200), st.integers(0, 200), st.integers(0, 200), st.integers(0, 200), st.floats(-0.5, 0.5)
)
def test_evidence_is_a_number_and_never_for_a_candidate_that_looks_better(
    a: int, b: int, c: int, d: int, tolerance: float
) -> None:
    found = float(log_evidence(a, a + b, c, c + d, tolerance))
    assert not np.isnan(found)
    if c / max(1, c + d) <= a / max(1, a + b) + tolerance:
        assert found <= 0


def test_evidence_is_the_smallest_over_the_hypothesis() -> None:
    grid = np.linspace(0.0001, 0.9799, 20_000)
    edge = 5 * np.log(grid) + 95 * np.log1p(-grid) + 20 * np.log(grid + 0.02) + 80 * np.log1p(-grid - 0.02)
    mixture = betaln(5.5, 95.5) + betaln(20.5, 80.5) - 2 * betaln(0.5, 0.5)
    assert float(log_evidence(5, 100, 20, 100, 0.02)) == pytest.approx(mixture - edge.max(), abs=1e-4)


class Memory:
    """Records that a test can break at any point."""

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout
        self.published: list[float] = []
        self.asked = np.zeros(2)
        self.crash_in = -1

    def newest(self) -> list[Rollout]:
        self.step()
        return [self.rollout]

    def observe(self, rollout: Rollout) -> Observation:
        self.step()
        return Observation(Counts(int(self.asked[0])), Counts(int(self.asked[1])))

    def keep(self, rollout: Rollout) -> None:
        self.step()
        self.rollout = rollout
        self.step()

    def publish(self, rollout: Rollout) -> None:
        self.step()
        if not self.published or self.published[-1] != rollout.share:
            self.published.append(rollout.share)
        self.step()

    def step(self) -> None:
        """One point at which the controller may be killed."""
        self.crash_in -= 1
        if self.crash_in == 0:
            raise KeyboardInterrupt


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=5, max_size=40))
def test_a_controller_killed_anywhere_skips_and_repeats_nothing(crashes: list[int]) -> None:
    plan = Plan(pause_seconds=60, requests=10)
    memory = Memory(begin("flights", "1", "2", plan, START, Observation()))
    for minute in range(100):
        memory.asked += 1000 * np.array([1 - memory.rollout.share, memory.rollout.share])
        memory.crash_in = crashes[minute] if minute < len(crashes) else -1
        try:
            tick(memory, START + timedelta(minutes=minute))
        except KeyboardInterrupt:
            continue
        if memory.rollout.phase is not Phase.RUNNING and memory.published[-1] == memory.rollout.share:
            break
    assert memory.rollout.phase is Phase.PROMOTED
    assert memory.published == [0.05, 0.25, 0.5, 1.0]


def test_pauses_and_requests_are_waited_for() -> None:
    rollout = begin("flights", "1", "2", Plan(pause_seconds=60, requests=100), START, Observation())
    few, many = (Observation(Counts(1000), Counts(n)) for n in (99, 100))
    assert advance(rollout, many, START + timedelta(seconds=59)) is rollout
    assert advance(rollout, few, START + timedelta(hours=5)) is rollout
    assert advance(rollout, many, START + timedelta(seconds=60)).step == 1


@pytest.mark.parametrize(
    ("stable", "candidate", "word"),
    [
        (Counts(5000, 50), Counts(500, 40), "fails"),
        (Counts(5000, 0, 500), Counts(500, 0, 200), "is slow in"),
        (Counts(5000, 0, 0, 5000, 1000), Counts(500, 0, 0, 500, 400), "scores high"),
        (Counts(5000, 0, 0, 5000, 4000), Counts(500, 0, 0, 500, 100), "scores low"),
    ],
)
def test_each_signal_takes_traffic_back(stable: Counts, candidate: Counts, word: str) -> None:
    rollout = begin("flights", "1", "2", Plan(), START, Observation())
    after = advance(rollout, Observation(stable, candidate), START + timedelta(seconds=1))
    assert after.phase is Phase.ROLLED_BACK and word in after.reason
    assert after.weights() == {"1": 1.0, "2": 0.0}
    assert advance(after, Observation(), START + timedelta(days=1)) is after


def test_the_last_step_is_judged_against_what_the_stable_revision_did_before() -> None:
    plan = Plan(kind=Kind.BLUE_GREEN, steps=(1.0,), pause_seconds=1)
    before = Observation(Counts(10_000, 100), Counts())
    rollout = begin("flights", "1", "2", plan, START, before)
    good = Observation(before.stable, Counts(1000, 10))
    bad = Observation(before.stable, Counts(1000, 80))
    assert advance(rollout, good, START + timedelta(seconds=2)).phase is Phase.PROMOTED
    assert advance(rollout, bad, START + timedelta(seconds=2)).phase is Phase.ROLLED_BACK


def test_counters_that_start_anew_are_understood() -> None:
    assert Counts(10, 1).since(Counts(100, 5)) == Counts(10, 1)
    assert Counts(110, 7).since(Counts(100, 5)) == Counts(10, 2)


def test_a_shadow_and_an_ab_test_are_never_promoted_by_themselves() -> None:
    for kind in (Kind.AB, Kind.SHADOW):
        rollout = begin("flights", "1", "2", Plan(kind=kind, steps=(0.5,)), START, Observation())
        assert (
            advance(rollout, Observation(Counts(10**6), Counts(10**6)), START + timedelta(days=9)) is rollout
        )
        assert rollout.share == (0.5 if kind is Kind.AB else 0.0) and rollout.shadow == (kind is Kind.SHADOW)


def test_the_gateways_status_is_understood() -> None:
    meter = {
        "deployment": "d",
        "revision": "2",
        "codes": {"200": 8, "503": 2},
        "buckets": [0] * 9 + [7, 3] + [0] * 6,
    }
    status = {"deployments": {"d": {"revisions": [{"name": "1"}, {"name": "2", "meter": meter}]}}}
    assert observe(status, "d", "1", "2", slow_seconds=0.1) == Observation(Counts(), Counts(10, 2, 3))
    assert observe(status, "unknown", "1", "2", 0.1) == Observation()


@pytest.mark.parametrize(
    ("revision", "refused"),
    [
        ({"ready": True}, ""),
        ({"reason": f"Release d-2 {LOADING}"}, ""),
        ({"reason": "Release d-2 was revoked."}, "Release d-2 was revoked."),
        ({"ready": True, "reason": "an older one answers"}, ""),
    ],
)
def test_a_candidate_that_the_gateway_refuses_is_taken_back_at_once(
    revision: dict[str, object], refused: str
) -> None:
    status = {"deployments": {"d": {"revisions": [{"name": "1"}, {"name": "2", **revision}]}}}
    seen = observe(status, "d", "1", "2", 0.1)
    after = advance(begin("d", "1", "2", Plan(), START, Observation()), seen, START)
    assert seen.refused == refused
    assert (after.phase, after.reason) == (
        (Phase.ROLLED_BACK, f"2 is not served: {refused}") if refused else (Phase.RUNNING, "")
    )


def test_plans_that_mean_nothing_are_refused() -> None:
    for steps in ((), (0.5, 0.2), (0.0, 1.0), (0.5, 1.5), (0.5, 0.5)):
        with pytest.raises(Invalid):
            Plan(steps=steps)
    with pytest.raises(Invalid):
        Plan(level=0)
    with pytest.raises(Conflict):
        begin("d", "1", "1", Plan(), START, Observation())


def test_differences_cover_the_truth_at_any_time() -> None:
    generator = np.random.default_rng(3)
    missed = 0
    for _ in range(40):
        stable, candidate = (
            generator.binomial(1, 0.3, 2000).cumsum(),
            generator.binomial(1, 0.4, 2000).cumsum(),
        )
        told = [
            difference(int(stable[n]), n + 1, int(candidate[n]), n + 1) for n in (20, 100, 400, 1000, 1999)
        ]
        missed += any(not one.low <= 0.1 <= one.high for one in told)
    assert missed <= 5  # at a level of 5 %, two are expected at the most
