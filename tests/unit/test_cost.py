"""The meter: what is counted, once, at which price."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from majlis import clock
from majlis.access import Principal
from majlis.cost.budgets import budget_of, charge
from majlis.cost.meter import By, Kind, Measurement, month_of, price_micros, record, report, team_of
from majlis.errors import Invalid
from majlis.settings import Budgets, Costs
from majlis.store import Store

COSTS = Costs(cpu_hour=1, memory_gib_hour=0.1, gpu_hour=10, storage_gib_month=0.5)
SAMI = Principal("sami", groups=frozenset({"scientist", "operations"}))
LENA = Principal("lena", groups=frozenset({"engineer"}))
JANUARY = datetime(2026, 1, 15, tzinfo=UTC)


def used(id: str = "1", **amounts: Any) -> Measurement:
    return Measurement(
        **({"id": id, "kind": Kind.PIPELINE, "subject": "flights", "cpu_seconds": 3600.0} | amounts)
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path}/majlis.sqlite")
    store.migrate()
    return store


@pytest.mark.parametrize(
    "wrong",
    [
        {"cpu_seconds": -1},
        {"gpu_seconds": float("nan")},
        {"memory_gib_seconds": float("inf")},
        {"storage_gib_hours": -0.1},
        {"id": ""},
        {"subject": ""},
        {"subject": "x" * 201},
        {"part": "x" * 201},
    ],
)
def test_what_cannot_be_usage_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as error:
        used(**wrong)
    assert next(iter(wrong)) in str(error.value)


@pytest.mark.parametrize(
    ("amounts", "price"),
    [
        ({}, 1.0),
        ({"cpu_seconds": 0.0, "memory_gib_seconds": 36000.0}, 1.0),
        ({"cpu_seconds": 0.0, "gpu_seconds": 360.0}, 1.0),
        ({"cpu_seconds": 0.0, "storage_gib_hours": 1460.0}, 1.0),
        ({"cpu_seconds": 0.0}, 0.0),
    ],
)
def test_each_amount_has_its_price(amounts: dict[str, Any], price: float) -> None:
    assert price_micros(used(**amounts), COSTS) == price * 1_000_000


def test_what_is_sent_twice_counts_once(store: Store) -> None:
    with store.session() as session:
        assert record(session, SAMI, [used("1"), used("2")], COSTS) == 2
    with store.session() as session:
        assert record(session, SAMI, [used("2"), used("3")], COSTS) == 1
    with store.reading() as session:
        assert report(session)[0].amount == 3.0


def test_nobody_can_take_the_id_of_somebody_else(store: Store) -> None:
    with store.session() as session:
        record(session, SAMI, [used("1")], COSTS)
        assert record(session, LENA, [used("1")], COSTS) == 1


def test_a_new_price_does_not_change_the_past(store: Store) -> None:
    with store.session() as session:
        record(session, SAMI, [used("1")], COSTS)
        record(session, SAMI, [used("2")], Costs(cpu_hour=2))
    with store.reading() as session:
        assert report(session)[0].amount == 3.0


def test_currencies_are_not_added_up(store: Store) -> None:
    with store.session() as session:
        record(session, SAMI, [used("1")], COSTS)
        record(session, SAMI, [used("2")], Costs(currency="AED", cpu_hour=4))
    with store.reading() as session:
        assert {(charge.currency, charge.amount) for charge in report(session)} == {
            ("AED", 4.0),
            ("USD", 1.0),
        }


def test_a_month_ends_where_the_next_begins(store: Store) -> None:
    edges = [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)]
    for moment in [edges[0] - timedelta(seconds=1), edges[0], edges[1] - timedelta(seconds=1), edges[1]]:
        with clock.frozen(moment), store.session() as session:
            record(session, SAMI, [used(moment.isoformat())], COSTS)
    with store.reading() as session:
        amounts = [report(session, month=datetime(2026, month, 9, tzinfo=UTC))[0].amount for month in (1, 2)]
        assert amounts == [2.0, 1.0]
        assert report(session, month=datetime(2026, 5, 1, tzinfo=UTC)) == []


def test_reports_add_up_by_what_is_asked(store: Store) -> None:
    with clock.frozen(JANUARY), store.session() as session:
        record(
            session,
            SAMI,
            [used("1", part="train"), used("2", part="ingest"), used("3", subject="churn")],
            COSTS,
        )
        record(session, LENA, [used("1", kind=Kind.SERVER, subject="server")], COSTS)
    with store.reading() as session:
        found = {by: {c.name: c.amount for c in report(session, by, JANUARY)} for by in By}
        assert found == {
            By.USER: {"sami": 3.0, "lena": 1.0},
            By.TEAM: {"operations": 3.0, "": 1.0},
            By.PIPELINE: {"flights": 2.0, "churn": 1.0},
            By.KIND: {"pipeline": 3.0, "server": 1.0},
        }
        assert report(session, By.PIPELINE, JANUARY, principal="lena") == []


def test_the_month_of_a_moment_elsewhere_is_that_of_utc() -> None:
    dubai = timezone(timedelta(hours=4))
    assert month_of(datetime(2026, 2, 1, 3, tzinfo=dubai))[0] == datetime(2026, 1, 1, tzinfo=UTC)
    assert month_of(datetime(2025, 12, 31, tzinfo=UTC))[1] == datetime(2026, 1, 1, tzinfo=UTC)


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1)))
def test_every_moment_lies_in_its_month(moment: datetime) -> None:
    begin, end = month_of(moment)
    assert begin <= moment < end
    assert month_of(end)[0] == end


def test_a_team_is_a_group_that_is_no_role() -> None:
    assert team_of(LENA) == ""
    assert team_of(SAMI) == "operations"


# Budgets


BUDGETS = Budgets(default_monthly=10)


def spend(store: Store, hours: float, who: Principal = SAMI) -> list[int]:
    with store.session() as session:
        usage = used(f"{hours}-{clock.now().isoformat()}", cpu_seconds=hours * 3600)
        return [reached.percent for reached in charge(session, who, [usage], COSTS, BUDGETS)[1]]


def test_each_level_is_told_once_and_only_the_highest_of_a_jump(store: Store) -> None:
    with clock.frozen(JANUARY) as stopped:
        told = [spend(store, hours) for hours in [7.9, 0.1, 0.5, 1.5, 5] if stopped.advance(seconds=1)]
        assert told == [[], [80], [], [100], []]
        assert spend(store, 9.5, LENA) == [90]


def test_a_new_month_begins_with_nothing_spent(store: Store) -> None:
    with clock.frozen(JANUARY) as stopped:
        spend(store, 20)
        stopped.advance(days=30)
        assert spend(store, 8) == [80]


def test_the_forecast_waits_for_a_pace(store: Store) -> None:
    with store.session() as session:
        for day, known in ((1, False), (16, True)):
            with clock.frozen(datetime(2026, 1, day, tzinfo=UTC)):
                record(session, SAMI, [used(f"{day}")], COSTS)
                assert (budget_of(session, "sami", COSTS, BUDGETS).forecast is not None) is known
