"""Alarms: what is rung, how often, and what is kept when nothing came of it."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub_config import roles
from majlis import audit, clock
from majlis.access import Principal, Role, role_scopes
from majlis.control.alarms import AGAIN, TRIES, Alarm, Alarms, HubServers
from majlis.errors import Forbidden, Invalid, MajlisError, Unavailable
from majlis.events import Notifier
from majlis.settings import load
from majlis.store import Store

pytestmark = pytest.mark.timeout(60)
TWO = datetime(2026, 1, 31, 2, tzinfo=UTC)
ANA, BEN = (Principal(name, role_scopes(frozenset({Role.SCIENTIST}))) for name in ("ana", "ben"))


class Servers:
    """A hub without servers: it notes what it is asked to start."""

    def __init__(self) -> None:
        self.running: dict[str, set[str]] = {"ana": set(), "ben": set()}
        self.started: list[tuple[str, str, str]] = []
        self.error: MajlisError | None = None

    def up(self, person: str) -> frozenset[str] | None:
        return None if person not in self.running else frozenset(self.running[person])

    def start(self, person: str, name: str, profile: str, title: str) -> None:
        if self.error:
            raise self.error
        self.started.append((person, name, profile))


@pytest.fixture
def alarms(tmp_path: Path) -> Iterator[Alarms]:
    store = Store(f"sqlite:///{tmp_path}/majlis.sqlite")
    store.migrate()
    yield Alarms(store, Notifier([], load().notify))
    store.close()


@pytest.fixture
def stopped() -> Iterator[clock.Stopped]:
    with clock.frozen(TWO - timedelta(hours=1)) as found:
        yield found


def nightly(due: datetime = TWO, **changes: Any) -> Alarm:
    return Alarm(**{"name": "nightly", "cron": "0 2 * * *", "due": due, "profile": "gpu"} | changes)


def actions(alarms: Alarms, subject: str = "alarms/ana/nightly") -> list[str]:
    """What the audit trail tells of an alarm."""
    with alarms.store.reading() as session:
        assert audit.verify(session).ok
        return [record.action.removeprefix("alarm.") for record in audit.records(session, subject=subject)]


def test_an_alarm_rings_once_when_it_is_due(alarms: Alarms, stopped: clock.Stopped) -> None:
    servers = Servers()
    alarms.set(ANA, [nightly()])
    alarms.look(servers)
    assert servers.started == []
    stopped.advance(hours=9)  # the control plane was down at two
    again = Alarms(alarms.store, alarms.events)  # another process
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: one.look(servers), [alarms, again] * 4))
    assert servers.started == [("ana", "alarm-nightly", "gpu")]
    assert actions(alarms) == ["set", "fired"]
    alarms.set(ANA, [nightly(TWO)])  # the woken server tells before it looks
    alarms.look(servers)
    alarms.set(ANA, [nightly(TWO + timedelta(days=1))])  # and after
    stopped.advance(hours=3)
    alarms.look(servers)
    assert len(servers.started) == 1
    stopped.advance(hours=14)
    alarms.look(servers)
    assert len(servers.started) == 2


@pytest.mark.parametrize("up", ["", "alarm-nightly"])
def test_a_server_that_is_up_is_left_to_see_to_it(alarms: Alarms, stopped: clock.Stopped, up: str) -> None:
    servers = Servers()
    servers.running["ana"] = {up, "run-20260101-000000-abcdef"}
    alarms.set(ANA, [nightly()])
    stopped.advance(hours=2)
    alarms.look(servers)
    assert (servers.started, actions(alarms)) == ([], ["set"])
    servers.running["ana"].remove(up)  # it went without a word
    alarms.look(servers)
    assert len(servers.started) == 1


def test_a_schedule_that_is_gone_withdraws_its_alarm_and_nobody_elses(
    alarms: Alarms, stopped: clock.Stopped
) -> None:
    servers = Servers()
    alarms.set(ANA, [nightly(), nightly(name="other")])
    alarms.set(BEN, [nightly(profile="")])
    alarms.set(ANA, [nightly(name="other")])
    assert [one["name"] for one in alarms.list(ANA)] == ["other"]
    stopped.advance(hours=2)
    alarms.look(servers)
    assert sorted(servers.started) == [("ana", "alarm-other", "gpu"), ("ben", "alarm-nightly", "")]
    assert actions(alarms) == ["set", "withdrawn"]
    del servers.running["ben"]  # who has left
    stopped.advance(hours=1)
    alarms.look(servers)
    assert alarms.list(BEN) == []
    assert actions(alarms, "alarms/ben/nightly") == ["set", "fired", "withdrawn"]


def test_a_change_is_recorded_and_a_time_that_moves_is_not(alarms: Alarms, stopped: clock.Stopped) -> None:
    alarms.set(ANA, [nightly()])
    alarms.set(ANA, [nightly(TWO + timedelta(days=1))])
    alarms.set(ANA, [nightly(cron="0 3 * * *")])
    assert actions(alarms) == ["set", "set"]
    assert alarms.list(ANA)[0]["due"] == clock.isoformat(TWO)


def test_a_refusal_is_final_for_its_time_and_kept_with_its_reason(
    alarms: Alarms, stopped: clock.Stopped
) -> None:
    servers = Servers()
    servers.error = Forbidden("0.00 USD are left")
    alarms.set(ANA, [nightly()])
    stopped.advance(hours=2)
    for _ in range(3):
        alarms.look(servers)
        stopped.advance(hours=1)
    assert actions(alarms) == ["set", "fired", "refused"]
    (kept,) = alarms.set(ANA, [nightly(TWO)])  # the home has not heard of it yet
    assert (kept["refused"], kept["why"]) == (clock.isoformat(TWO), "0.00 USD are left")
    assert kept["due"] == clock.isoformat(TWO + timedelta(days=1))
    servers.error = None
    stopped.advance(days=1)
    alarms.look(servers)
    assert len(servers.started) == 1


@pytest.mark.parametrize(
    ("error", "why"), [(Unavailable("the hub has no room"), "no room"), (None, "did not report")]
)
def test_what_may_go_better_is_tried_again_for_an_hour(
    alarms: Alarms, stopped: clock.Stopped, error: MajlisError | None, why: str
) -> None:
    servers = Servers()
    servers.error = error
    alarms.set(ANA, [nightly()])
    stopped.advance(hours=1)
    for _ in range(TRIES + 2):
        alarms.look(servers)
        alarms.look(servers)
        stopped.advance(seconds=AGAIN.total_seconds())
    assert actions(alarms) == ["set", *["fired"] * TRIES, "refused"]
    assert why in alarms.list(ANA)[0]["why"]


def test_a_hub_that_is_away_is_waited_for(alarms: Alarms, stopped: clock.Stopped) -> None:
    class Away(Servers):
        def up(self, person: str) -> frozenset[str] | None:
            raise Unavailable("the hub does not answer")

    alarms.set(ANA, [nightly()])
    stopped.advance(days=3)
    alarms.look(Away())
    assert actions(alarms) == ["set"]
    servers = Servers()
    alarms.look(servers)
    assert len(servers.started) == 1


@pytest.mark.parametrize(
    ("who", "wanted", "error"),
    [
        (ANA, [nightly(), nightly()], Invalid),
        (ANA, [nightly(cron="often")], Invalid),
        (Principal("omar", role_scopes(frozenset({Role.OWNER}))), [nightly()], Forbidden),
    ],
)
def test_what_cannot_be_is_refused(
    alarms: Alarms, who: Principal, wanted: list[Alarm], error: type[MajlisError]
) -> None:
    with pytest.raises(error):
        alarms.set(who, wanted)
    assert alarms.list(who) == []


def hub(status: int, asked: list[tuple[str, str, Any]]) -> HubServers:
    """A hub that knows one server of everybody's, and answers a start so."""

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path, json.loads(request.content or "null")))
        if request.method == "GET":
            return httpx.Response(status, json={"name": "ana", "servers": {"": {}}})
        if request.method == "DELETE":
            return httpx.Response(204)
        return httpx.Response(status, json={"message": "it says why\nand what to do"})

    found = HubServers("http://hub/hub/api", "token")
    found.client = httpx.Client(transport=httpx.MockTransport(answer))
    return found


def test_the_hub_is_asked_for_a_server_with_the_profile() -> None:
    asked: list[tuple[str, str, Any]] = []
    assert hub(200, asked).up("ana") == {""}
    assert hub(404, asked).up("ana") is None
    with pytest.raises(Unavailable):
        hub(403, asked).up("ana")
    asked.clear()
    hub(202, asked).start("ana", "alarm-nightly", "gpu", "Nightly")
    hub(201, asked).start("ana", "alarm-nightly", "", "Nightly")
    place, title = "/hub/api/users/ana/servers/alarm-nightly", {"display_name": "Nightly"}
    assert asked == [
        ("POST", place, title | {"user_options": {"profile": "gpu"}}),
        ("POST", place, title | {"user_options": {}}),
    ]


@pytest.mark.parametrize(
    ("status", "error", "name_goes"),
    [(403, Forbidden, True), (422, Forbidden, True), (500, Unavailable, True), (400, Unavailable, False)],
)
def test_a_refused_start_leaves_no_name(status: int, error: type[MajlisError], name_goes: bool) -> None:
    asked: list[tuple[str, str, Any]] = []
    with pytest.raises(error, match="it says why"):
        hub(status, asked).start("ana", "alarm-nightly", "gpu", "Nightly")
    assert [method for method, _, _ in asked] == ["POST", *["DELETE"] * name_goes]


def test_the_control_plane_may_wake_and_not_enter() -> None:
    scopes = {role["name"]: set(role["scopes"]) for role in roles.service_roles(demo_accounts=False)}
    held = {scope for scope in scopes[f"{roles.CONTROL}-service"] if "server" in scope}
    assert held == {"read:servers", "start:servers", "delete:servers"}
