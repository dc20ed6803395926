"""What a rollout's judge costs: good releases taken back, seconds to find a fault, seconds to calm.

`python -m tests.bench.bench_rollout` prints the share of 10,000 rollouts of an equally good release that
would be taken back (five signals, the tolerances of the settings), the median time until faulty ones are,
the share of A/B tests between equals that outcomes would decide though they are looked at after every batch,
and on a real gateway under load the time from the verdict until no process serves what was taken back.
"""

import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

from majlis.serving.evidence import threshold
from majlis.serving.rollout import Plan
from tests.service.gateways import World, failing, linear, wait_until
from tests.service.planes import asked, control, over, released
from tests.support.sequences import counted, measured

ROLLOUTS, LOOKS, SECONDS_PER_LOOK, PER_SECOND = 10_000, 20, 5, 100
TESTS, LABEL_LOOKS, LABEL_BATCH = 10_000, 50, 100  # A/B tests judged by what happened
QUIET = {"failures": 0.01, "slow": 0.1, "low": 0.25, "middle": 0.5, "high": 0.25}
FAULTS = {
    "errors +2 points": {"failures": 0.03},
    "latency x2 (one in ten becomes seven in ten slow)": {"slow": 0.7},
    "drift (the upper quarter doubles)": {"low": 0.125, "middle": 0.375, "high": 0.5},
}


def granted(plan: Plan) -> NDArray[np.float64]:
    """The tolerance of each signal."""
    return np.array([plan.failures, plan.slow, plan.drift, plan.drift, plan.drift])


def evidence(
    generator: np.random.Generator,
    plan: Plan,
    share: float,
    rates: dict[str, float],
    rollouts: int,
    looks: int,
) -> NDArray[np.bool_]:
    """Whether each rollout is rolled back at each look of a step [rollouts, looks]."""
    batch = SECONDS_PER_LOOK * PER_SECOND
    quiet, faulty = np.array(list(QUIET.values())), np.array(list(rates.values()))
    seen = counted(generator, rollouts, looks, batch, share, quiet, faulty)
    needed = threshold(plan.level, len(plan.judged) * len(plan.steps))
    return np.asarray((seen.worse(granted(plan)) > needed).any(-1))


def false_rollbacks(plan: Plan) -> float:
    """Share of equally good releases that are taken back."""
    generator = np.random.default_rng(7)
    wrong = np.zeros(ROLLOUTS, bool)
    for share in plan.steps[:-1]:
        for part in np.array_split(np.arange(ROLLOUTS), 20):
            wrong[part] |= evidence(generator, plan, share, QUIET, len(part), LOOKS).any(1)
    return float(wrong.mean())


def median_seconds(plan: Plan, fault: dict[str, float]) -> float:
    """Median seconds to the rollback of a faulty release, at the first step."""
    found = evidence(np.random.default_rng(8), plan, plan.steps[0], QUIET | fault, 200, 400)
    looks = np.where(found.any(1), found.argmax(1) + 1, np.inf)
    return float(np.median(looks) * SECONDS_PER_LOOK)


def false_verdicts(level: float) -> dict[str, float]:
    """Share of A/B tests between equals that are ever decided, looked at after each batch of labels."""
    generator, half = np.random.default_rng(9), np.array([0.8])
    found = {"correct in 80 %": np.zeros(0, bool), "a number of mean 0.2": np.zeros(0, bool)}
    for _ in range(20):
        coin = counted(generator, TESTS // 20, LABEL_LOOKS, 2 * LABEL_BATCH, 0.5, half, half)
        number = measured(generator, TESTS // 20, LABEL_LOOKS, LABEL_BATCH, (1, 4), (1, 4))
        for name, seen in zip(found, (coin, number), strict=True):
            decided = seen.apart(level).reshape(TESTS // 20, -1).any(1)
            found[name] = np.concatenate([found[name], decided])
    return {name: float(decided.mean()) for name, decided in found.items()}


def rows_to_a_verdict(level: float) -> float:
    """Median labelled rows of each revision until 80 % and 85 % correct are told apart."""
    generator = np.random.default_rng(10)
    seen = counted(generator, 500, 200, 2 * LABEL_BATCH, 0.5, np.array([0.8]), np.array([0.85]))
    decided = seen.apart(level)[..., 0]
    looks = np.where(decided.any(1), decided.argmax(1) + 1, np.inf)
    return float(np.median(looks) * LABEL_BATCH)


def calm() -> float:
    """Seconds from the recorded verdict until no process of the gateway serves the candidate."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        with control(world, pause_seconds=600) as (plane, wb):
            released(plane, world, 1, linear(2.0))
            released(plane, world, 2, failing())
            deployment = wb.deploy("flights-1")
            with world.gateway():
                deployment.wait(30)
                with asked(world, wb.key("flights")) as answers:
                    wait_until(lambda: answers[200, "1"] > 100)
                    wb.deploy("flights-2", strategy="canary", steps=[20, 100])
                    wait_until(lambda: over(deployment), 60)
                    begun = time.monotonic()
                    wait_until(lambda: "2" not in serving(world), 30)
                    return time.monotonic() - begun


def serving(world: World) -> set[str]:
    """Revisions that have traffic, or could have."""
    told = httpx.get(f"{world.url}/status", timeout=5).json()
    return {row["name"] for row in told["deployments"]["flights"]["revisions"]}


def main() -> None:
    """Print it all."""
    plan = Plan()
    print(f"false rollbacks in {ROLLOUTS} rollouts of an equal release: {false_rollbacks(plan):.2%}")
    print(f"at {PER_SECOND} requests a second, {plan.steps[0]:.0%} of them to the candidate:")
    for name, fault in FAULTS.items():
        print(f"  {name}: median {median_seconds(plan, fault):.0f} s to the rollback")
    for level in (plan.level, 0.05):
        told = ", ".join(f"{name}: {share:.2%}" for name, share in false_verdicts(level).items())
        print(f"false verdicts in {TESTS} A/B tests by outcomes, {LABEL_LOOKS} looks, level {level}: {told}")
    print(f"labelled rows of each until 80 % and 85 % are told apart: {rows_to_a_verdict(plan.level):.0f}")
    print(f"seconds from the verdict to calm: {max(calm() for _ in range(3)):.2f} (worst of 3)")


if __name__ == "__main__":
    main()
