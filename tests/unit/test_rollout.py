"""Rollouts: judged rightly however often one looks, and resumed rightly wherever one was killed."""

from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln

from majlis.errors import Conflict, Invalid
from majlis.serving.counts import Counts, Marks, Observation, Signal, drawn, events, observe
from majlis.serving.evidence import differences, log_evidence, lower, threshold
from majlis.serving.metrics import BOUNDS, LOADING, SCORES, Meter
from majlis.serving.rollout import Kind, Phase, Plan, Rollout, advance, begin, compare, tick
from tests.support.sequences import counted

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_null_rollouts_are_rolled_back_at_most_at_the_level() -> None:
    generator = np.random.default_rng(11)
    rollouts, looks, batch, plan = 10_000, 12, 250, Plan()
    wrong = np.zeros(rollouts, bool)
    for share in plan.steps[:-1]:
        for rate, tolerance in ((0.01, plan.failures), (0.1, plan.slow)):
            # the worst that the hypothesis allows: worse by the whole tolerance
            worst = np.array([rate + tolerance])
            seen = counted(generator, rollouts, looks, batch, share, np.array([rate]), worst)
            wrong |= (seen.worse(tolerance) > threshold(plan.level, 16)).any((1, 2))
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
@given(st.lists(st.integers(0, 8), min_size=5, max_size=40), st.sampled_from([Kind.CANARY, Kind.BLUE_GREEN]))
def test_a_controller_killed_anywhere_skips_and_repeats_nothing(crashes: list[int], kind: Kind) -> None:
    steps = (0.05, 0.25, 0.5, 1.0) if kind is Kind.CANARY else (1.0,)
    plan = Plan(kind=kind, steps=steps, pause_seconds=60, requests=10)
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
    assert memory.published == list(steps)


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
        (Counts(5000, 0, (4500, 500)), Counts(500, 0, (300, 200)), "is slow in"),
        (Counts(5000, 0, (), (1000, 3000, 1000)), Counts(500, 0, (), (100, 100, 300)), "scores high"),
        (Counts(5000, 0, (), (1000, 3000, 1000)), Counts(500, 0, (), (300, 100, 100)), "scores low"),
        (Counts(5000, 0, (), (1000, 3000, 1000)), Counts(500, 0, (), (10, 480, 10)), "scores in the middle"),
    ],
)
def test_each_signal_takes_traffic_back(stable: Counts, candidate: Counts, word: str) -> None:
    rollout = begin("flights", "1", "2", Plan(), START, Observation())
    rollout = msgspec.structs.replace(rollout, marks=Marks(slow=1, low=1, high=2))
    after = advance(rollout, Observation(stable, candidate), START + timedelta(seconds=1))
    assert after.phase is Phase.ROLLED_BACK and word in after.reason
    assert after.weights() == {"1": 1.0}  # the candidate is put away
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
    assert Counts(110, 7, (3, 8)).since(Counts(100, 5, (1,))) == Counts(10, 2, (2, 8))


def test_a_shadow_and_an_ab_test_are_never_promoted_by_themselves() -> None:
    for kind in (Kind.AB, Kind.SHADOW):
        plan = Plan(kind=kind, steps=(0.5,), sticky="x-user")
        rollout = begin("flights", "1", "2", plan, START, Observation())
        assert (
            advance(rollout, Observation(Counts(10**6), Counts(10**6)), START + timedelta(days=9)) is rollout
        )
        assert rollout.share == (0.5 if kind is Kind.AB else 0.0) and rollout.shadow == (kind is Kind.SHADOW)


def test_the_gateways_status_is_understood() -> None:
    meter = Meter("d", "2")
    for seconds in (0.0004,) * 8 + (0.3, 20.0):
        meter.observe(503 if seconds > 10 else 200, seconds)
    told = {"name": "2", "meter": msgspec.to_builtins(meter, str_keys=True)}
    status = {"deployments": {"d": {"revisions": [{"name": "1"}, told]}}}
    seen = observe(status, "d", "1", "2")
    assert seen.stable == Counts() and (seen.candidate.requests, seen.candidate.failures) == (10, 1)
    assert seen.candidate.latencies == tuple(meter.buckets)
    assert observe(status, "unknown", "1", "2") == Observation()


def test_marks_divide_the_stable_revisions_own_requests() -> None:
    latencies, scores = [0] * (len(BOUNDS) + 1), [0] * (len(SCORES) + 1)
    latencies[5], latencies[9] = 90, 10
    scores[100], scores[110], scores[120] = 25, 50, 25
    stable = Counts(100, 0, tuple(latencies), tuple(scores))
    marks = drawn(stable, 100, slowest=0.1, tails=0.25)
    assert marks is not None and drawn(stable, 101, 0.1, 0.25) is None
    found = events(stable, marks)
    assert found[Signal.SLOW] == (10, 100) and marks.slow_seconds == BOUNDS[5]
    assert sum(found[signal][0] for signal in (Signal.LOW, Signal.MIDDLE, Signal.HIGH)) == 100
    below, above = marks.scores
    assert below < SCORES[100] <= above and found[Signal.HIGH][0] == 25


def test_a_constant_score_that_moves_either_way_is_seen() -> None:
    def constant(position: int) -> Counts:
        scores = [0] * (len(SCORES) + 1)
        scores[position] = 1000
        return Counts(1000, 0, (1000,), tuple(scores))

    for moved, signal in ((99, Signal.LOW), (101, Signal.HIGH)):
        rollout = begin("d", "1", "2", Plan(), START, Observation(constant(100)))
        assert rollout.marks is not None
        base = Observation(constant(100))
        seen = Observation(
            Counts(2000, 0, (2000,), tuple(2 * n for n in constant(100).scores)), constant(moved)
        )
        assert rollout.base == base
        after = advance(rollout, seen, START)
        assert after.phase is Phase.ROLLED_BACK and f"2 scores {signal} in 100.00%" in after.reason


def test_without_marks_only_failures_are_judged_and_the_next_step_draws_them() -> None:
    plan = Plan(pause_seconds=1, requests=100)
    slow = Counts(200, 0, (0,) * 12 + (200,))
    rollout = begin("d", "1", "2", plan, START, Observation(Counts(50, 0, (50,))))
    assert rollout.marks is None
    later = advance(rollout, Observation(Counts(2000, 0, (2000,)), slow), START + timedelta(seconds=2))
    assert later.step == 1 and later.marks == Marks(1, 0, 1)
    seen = Observation(Counts(4000, 0, (4000,)), Counts(400, 0, (0,) * 12 + (400,)))
    assert "is slow in 100.00%" in advance(later, seen, START + timedelta(seconds=3)).reason


def test_texts_have_no_scores_and_numbers_that_are_none_count_as_low() -> None:
    meter = Meter("d", "1")
    meter.score(np.array([["late"], ["early"]], dtype=object))
    assert not any(meter.scores)
    meter.score(np.array([[0.2, np.nan]]))
    meter.score(np.arange(12.0).reshape(2, 2, 3))  # the last of the first row's
    assert meter.scores[0] == 1 and meter.scores[SCORES.index(5.0)] == 1 and sum(meter.scores) == 2


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
    seen = observe(status, "d", "1", "2")
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
            differences([(stable[n], n + 1)], [(candidate[n], n + 1)])[0] for n in (20, 100, 400, 1000, 1999)
        ]
        missed += any(not one.low <= 0.1 <= one.high for one in told)
    assert missed <= 5  # at a level of 5 %, two are expected at the most


def test_an_ab_test_without_a_difference_is_seldom_called_one_however_often_it_is_looked_at() -> None:
    generator = np.random.default_rng(4)
    tests, looks, level = 300, 30, 0.05
    events = generator.binomial(100, 0.2, (2, tests, looks)).cumsum(2).reshape(2, -1)
    asked = np.tile(100 * np.arange(1, looks + 1), tests)
    pair = [np.stack([one, asked], 1).astype(float) for one in events]
    called = (lower(*pair, threshold(level, 2)) > 0) | (lower(*pair[::-1], threshold(level, 2)) > 0)
    assert called.reshape(tests, looks).any(1).mean() <= level
    [one] = differences([(200, 1000)], [(320, 1000)], level)
    assert one.decided and one.wrong < level


def test_an_ab_test_does_not_take_a_candidate_back_for_scoring_differently() -> None:
    def scored(position: int, requests: int, failures: int = 0) -> Counts:
        scores = [0] * (len(SCORES) + 1)
        scores[position] = requests
        return Counts(requests, failures, (requests,), tuple(scores))

    plan = Plan(kind=Kind.AB, steps=(0.5,), sticky="x-user")
    rollout = begin("d", "1", "2", plan, START, Observation(scored(100, 500)))
    seen = Observation(scored(100, 1500), scored(105, 1000))
    assert advance(rollout, seen, START) is rollout
    found = {row.signal: row for row in compare(rollout, seen)}
    assert found[Signal.HIGH].difference.effect == 1.0 and found[Signal.HIGH].difference.low > 0.9
    assert not found[Signal.FAILURES].difference.decided
    failing = advance(rollout, Observation(scored(100, 1500), scored(105, 1000, 400)), START)
    assert failing.phase is Phase.ROLLED_BACK and failing.compared and "fails 40.00%" in failing.reason
