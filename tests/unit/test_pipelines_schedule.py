"""Schedules: the times they mean, and what is started when."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from majlis import clock
from majlis.errors import Conflict, Invalid, NotFound, Unavailable
from majlis.pipelines.runs import Process, Run, State, create
from majlis.pipelines.schedule import FIELDS, Cron, Missed, Schedule, Schedules

FRIDAY = datetime(2026, 1, 30, 6, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "comes"),
    [
        ("* * * * *", "2026-01-30 06:01"),
        ("0 6 * * *", "2026-01-31 06:00"),
        ("*/15 * * * *", "2026-01-30 06:15"),
        ("5-50/20 6 * * *", "2026-01-30 06:05"),
        ("0 0 1,15 * *", "2026-02-01 00:00"),
        ("0 0 * * 0", "2026-02-01 00:00"),
        ("0 0 * * 7", "2026-02-01 00:00"),
        ("0 0 13 * 1", "2026-02-02 00:00"),  # either day will do
        ("0 0 */2 * 1", "2026-02-09 00:00"),  # a starred day is no restriction of its own, as in cron
        ("59 23 31 12 *", "2026-12-31 23:59"),
        ("0 0 29 2 *", "2028-02-29 00:00"),
    ],
)
def test_the_next_time(text: str, comes: str) -> None:
    found = Cron.parse(text).after(FRIDAY)
    assert found is not None
    assert f"{found:%Y-%m-%d %H:%M}" == comes


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8",
     "5-1 * * * *", "*/0 * * * *", "a * * * *", "1,,2 * * * *", "-1 * * * *", "0 0 30 2 *", "0 0 31 4,6 *",
     "@daily"],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        Cron.parse(text)


def field(name: str) -> st.SearchStrategy[str]:
    low, high = FIELDS[name]
    numbers = st.integers(low, high)
    ranges = st.tuples(numbers, numbers).map(lambda pair: f"{min(pair)}-{max(pair)}")
    steps = st.tuples(st.just("*") | ranges, st.integers(1, 20)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    part = st.just("*") | numbers.map(str) | ranges | steps
    return st.lists(part, min_size=1, max_size=2).map(",".join)


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(field("minute"), field("hour"), field("day"), st.just("*"), field("weekday")),
    st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)),
)
def test_no_time_is_left_out_and_none_invented(fields: tuple[str, ...], moment: datetime) -> None:
    cron = Cron.parse(" ".join(fields))
    found = cron.after(moment)
    assert found is not None and found > moment
    assert found in cron.times(found.replace(hour=0, minute=0))
    assert cron.latest(found) == found
    before = cron.latest(found - timedelta(microseconds=1))
    assert before is None or before <= moment
    assert before is None or cron.after(before) == found


def test_times_are_utc() -> None:
    dubai = datetime(2026, 1, 30, 10, 0, tzinfo=timezone(timedelta(hours=4)))
    assert Cron.parse("5 6 * * *").after(dubai) == datetime(2026, 1, 30, 6, 5, tzinfo=UTC)


class Bench:
    """Schedules, and what they started."""

    def __init__(self, runs: Path) -> None:
        self.schedules, self.started, self.version = Schedules(runs), [], 1
        self.failure: Exception | None = None

    def add(self, **changes: Any) -> Schedule:
        values = {
            "name": "daily",
            "source": "f",
            "pipeline": "f",
            "cron": "0 7 * * *",
            "settled": clock.now(),
        }
        return self.schedules.add(Schedule.model_validate(values | changes))

    def tick(self) -> int:
        before = len(self.started)
        self.schedules.tick(self.launch, lambda table: self.version)
        return len(self.started) - before

    def launch(self, schedule: Schedule, run_id: str) -> None:
        if self.failure:
            raise self.failure
        self.started.append(run_id)

    def run(self, state: State) -> None:
        values = {
            "id": self.started[-1],
            "pipeline": "f",
            "title": "",
            "source": "f",
            "parameters": {},
            "steps": [],
        }
        record = Run.model_validate(values | {"started_at": clock.now(), "state": state})
        record.process = Process.current()
        create(self.schedules.runs, record)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_time_is_started_once(bench: Bench) -> None:
    with clock.frozen(FRIDAY) as stopped:
        bench.add()
        assert bench.tick() == 0
        stopped.advance(hours=1, minutes=1)
        assert [bench.tick(), bench.tick()] == [1, 0]
        stopped.advance(days=1)
        assert bench.tick() == 1
    assert len(set(bench.started)) == 2


@pytest.mark.parametrize(("missed", "starts"), [(Missed.ONCE, 1), (Missed.SKIP, 0)])
def test_missed_times_are_made_up_for_once_or_not_at_all(bench: Bench, missed: Missed, starts: int) -> None:
    with clock.frozen(FRIDAY) as stopped:
        bench.add(missed=missed)
        stopped.advance(days=300, hours=7)
        assert [bench.tick(), bench.tick()] == [starts, 0]
        stopped.advance(hours=18, minutes=1)  # the next one, in time
        assert bench.tick() == 1


def test_no_second_run_while_the_first_is_going(bench: Bench) -> None:
    with clock.frozen(FRIDAY) as stopped:
        bench.add(cron="* * * * *")
        stopped.advance(minutes=1)
        assert bench.tick() == 1
        bench.run(State.RUNNING)
        stopped.advance(minutes=1)
        assert bench.tick() == 0
        assert "still going" in bench.schedules.read("daily").note


def test_new_data_starts_a_run_and_data_during_a_run_the_next(bench: Bench) -> None:
    with clock.frozen(FRIDAY):
        bench.add(cron=None, table="silver.flights")
        assert [bench.tick(), bench.tick()] == [0, 0]
        bench.version = 2
        assert bench.tick() == 1
        bench.run(State.RUNNING)
        bench.version = 3
        assert bench.tick() == 0
        run = bench.schedules.runs / "f" / bench.started[-1] / "run.json"
        run.write_text(run.read_text().replace('"running"', '"done"'))
        assert [bench.tick(), bench.tick()] == [1, 0]


def test_a_paused_schedule_waits(bench: Bench) -> None:
    with clock.frozen(FRIDAY) as stopped:
        bench.add(paused=True)
        stopped.advance(days=1, hours=2)
        assert bench.tick() == 0
        assert bench.schedules.read("daily").next() is None


def test_what_cannot_be_started_is_noted_and_the_others_go_on(bench: Bench) -> None:
    with clock.frozen(FRIDAY) as stopped:
        bench.add()
        stopped.advance(hours=1)
        bench.failure = Unavailable("no process could be started")
        assert bench.tick() == 0
        assert "no process could be started" in bench.schedules.read("daily").note


def test_adding_and_removing(bench: Bench) -> None:
    bench.add()
    with pytest.raises(Conflict):
        bench.add()
    for wrong in ({"cron": None}, {"table": "silver.flights"}, {"cron": "never"}):
        with pytest.raises(Invalid):
            bench.add(name="other", **wrong)
    bench.schedules.remove("daily")
    with pytest.raises(NotFound):
        bench.schedules.remove("daily")
    with pytest.raises(NotFound):
        bench.schedules.read("../../etc/passwd")
