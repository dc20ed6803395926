"""Rehearsals: recordings are replayed as they were judged, and quiet logs stay quiet."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from majlis.errors import Invalid, NotFound
from majlis.serving.counts import Counts, Observation, Signal, events
from majlis.serving.replay import Recorder, quiet, quiet_logs, recordings, rehearse, table, told, traffic
from majlis.serving.rollout import Kind, Phase, Plan, Rollout, advance, begin

START = datetime(2026, 1, 1, tzinfo=UTC)


def drive(recorder: Recorder, plan: Plan, failing: float, minutes: int = 300) -> tuple[Rollout, float]:
    """A rollout of a revision that fails so often, recorded; its end, and the seconds until then."""
    seen = Observation(Counts(5000, 50))
    rollout = begin("flights", "1", "2", plan, START, seen)
    recorder.begun(rollout)
    for minute in range(1, minutes):
        asked = round(1000 * rollout.share)
        seen = Observation(
            Counts(seen.stable.requests + 1000 - asked, seen.stable.failures + (1000 - asked) // 100),
            Counts(seen.candidate.requests + asked, seen.candidate.failures + round(asked * failing)),
        )
        now = START + timedelta(minutes=minute)
        recorder.look(rollout, seen, now)
        rollout = advance(rollout, seen, now)
        if rollout.phase is not Phase.RUNNING:
            recorder.over(rollout)
            return rollout, 60.0 * minute
    raise AssertionError("it did not end")


def test_the_rule_that_was_in_force_fires_when_it_did(tmp_path: Path) -> None:
    plan = Plan(pause_seconds=600, requests=100, steps=(0.1, 0.5, 1.0))
    rollout, after = drive(Recorder(tmp_path), plan, failing=0.04)
    assert rollout.phase is Phase.ROLLED_BACK and rollout.step > 0  # found in a later step
    [recording] = recordings(tmp_path)
    found = rehearse(recording, plan)
    assert (found.fires_after_seconds, found.ended_after_seconds) == (after, after)
    assert (found.ended, found.reason) == ("rolled back", rollout.reason)
    lax = rehearse(recording, msgspec.structs.replace(plan, failures=0.1))
    assert lax.fires_after_seconds is None and lax.reason == ""


def test_looks_thin_out_and_change_no_verdict(tmp_path: Path) -> None:
    plan = Plan(kind=Kind.SHADOW, steps=(1.0,))
    recorder = Recorder(tmp_path)
    rollout = begin("flights", "1", "2", plan, START, Observation())
    recorder.begun(rollout)
    for look in range(1, 20_000):
        recorder.look(
            rollout, Observation(Counts(10 * look), Counts(10 * look)), START + timedelta(seconds=look)
        )
    lines = recorder.path(rollout).read_bytes().splitlines()
    assert 100 < len(lines) < 1000
    fell = Observation(Counts(5), Counts(5))  # a process of the gateway was replaced
    recorder.look(rollout, fell, START)
    [recording] = recordings(tmp_path)
    assert recording.looks[-1].seen == fell and recording.over is None


def test_a_recording_of_a_deleted_deployment_is_put_aside(tmp_path: Path) -> None:
    for failing in (0.2, 0.01):
        drive(Recorder(tmp_path), Plan(pause_seconds=60, requests=10, steps=(0.5, 1.0)), failing)
    found = {one.name: one.over.phase for one in recordings(tmp_path) if one.over}
    assert found == {"flights-2": Phase.PROMOTED, "flights-2.1": Phase.ROLLED_BACK}


def test_files_that_are_no_recordings_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    with pytest.raises(Invalid, match="a.jsonl is no recording"):
        list(recordings(tmp_path))
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(Invalid, match="does not say how"):
        list(recordings(tmp_path))


def test_a_full_disk_costs_the_recording_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    drive(Recorder(tmp_path / "file"), Plan(pause_seconds=60, requests=10, steps=(1.0,)), 0.01)
    assert "is not recorded" in caplog.text


def log(folder: Path, rows: int, revision: str = "1", name: str = "a", **columns: object) -> None:
    """A segment of a deployment's prediction log."""
    generator = np.random.default_rng(2)
    day = folder / "date=2026-01-01"
    day.mkdir(parents=True, exist_ok=True)
    made = {
        "id": [f"{n:028x}" for n in range(rows)],
        "at": [START + timedelta(seconds=n) for n in range(rows)],
        "revision": [revision] * rows,
        "latency_ms": generator.lognormal(0, 0.5, rows),
        "outputs": [f"[{1 - value:.4f}, {value:.4f}]" for value in generator.uniform(0, 1, rows)],
        "shadow": [False] * rows,
    } | columns
    pl.DataFrame(made).write_parquet(day / f"{name}.parquet")


def test_a_log_is_read_request_by_request(tmp_path: Path) -> None:
    log(tmp_path, 3000)
    log(tmp_path, 100, revision="2", name="b")
    log(tmp_path, 5000, name="c", shadow=[True] * 5000)
    log(
        tmp_path, 60, name="d", id=[f"{n // 30:028x}-{n % 30}" for n in range(60)]
    )  # two requests of thirty rows
    revision, rows = traffic(tmp_path)
    assert revision == "1" and len(rows) == 3002
    counts = told(rows)
    marks = Plan().marks(counts)
    assert marks is not None
    sums = table(rows, marks).sum(0).tolist()
    found = events(counts, marks)
    signals = (Signal.SLOW, Signal.LOW, Signal.MIDDLE, Signal.HIGH)
    assert [(a, b) for a, b in zip(sums[:4], sums[4:], strict=True)] == [found[signal] for signal in signals]


def test_texts_are_judged_by_their_latency_and_little_traffic_is_left_out(tmp_path: Path) -> None:
    log(tmp_path / "words", 2000, outputs=['["late"]'] * 2000)
    log(tmp_path / "rare", 210)
    with pytest.raises(Invalid, match="holds 210 requests"):
        quiet(tmp_path / "rare", Plan())
    [found] = quiet_logs(tmp_path, Plan(), 20)
    assert (found.deployment, found.requests, found.fired) == ("words", 2000, 0)
    with pytest.raises(NotFound):
        traffic(tmp_path / "nothing")


def test_a_rule_that_grants_nothing_and_takes_weak_evidence_can_fire(tmp_path: Path) -> None:
    log(tmp_path, 20_000)
    eager = Plan(steps=(0.5,), slow=0, drift=0, level=0.999)
    assert 0 < quiet(tmp_path, eager, rollouts=1000, looks=20).fired < 100
    assert quiet(tmp_path, Plan(steps=(0.5,)), rollouts=1000, looks=20).fired == 0
