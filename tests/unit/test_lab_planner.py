"""Schedules in the Lab extension: where their runs go, what the control plane is told, what it says back."""

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from majlis import clock
from majlis.errors import Forbidden, MajlisError
from majlis.pipelines.schedule import Schedule

pytest.importorskip("majlis_lab")

from majlis_lab.control import ControlPlane
from majlis_lab.elsewhere import Elsewhere, Errand
from majlis_lab.hub import Hub, Standing
from majlis_lab.planner import Planner
from majlis_lab.runs import Runs, run_of, schedule_of, server_of

pytestmark = pytest.mark.timeout(60)
PROFILES = [{"name": "large", "title": "Large", "size": "16 cores", "description": ""}]
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
QUICK = [sys.executable, "-c", "pass"]  # a run's process that ends at once


class Servers(Hub):
    """A hub that notes what it is asked to start, or refuses."""

    def __init__(self) -> None:
        self.up: dict[str, Standing] = {}
        self.error: MajlisError | None = None

    async def start(self, name: str, profile: str, title: str) -> None:
        if self.error:
            raise self.error
        self.up[name] = Standing.UP

    async def servers(self) -> dict[str, Standing]:
        return dict(self.up)

    async def stop(self, name: str) -> None:
        self.up.pop(name, None)


class Place:
    """A home, a hub and a control plane, and the planner of a server in between."""

    def __init__(self, home: Path, server: str = "", status: int = 200) -> None:
        cell = new_code_cell("1 + 1")
        (home / "look.ipynb").write_text(nbformat.writes(new_notebook(cells=[cell])))
        self.home, self.status = home, status
        self.told: list[list[dict[str, Any]]] = []
        self.refused: dict[str, dict[str, str]] = {}
        self.hub = Servers()
        self.runs = Runs(home / "runs", QUICK, home, server=server)
        elsewhere = Elsewhere(self.runs, self.hub, PROFILES, 1.0)
        control = ControlPlane("http://hub/services/majlis", "token")
        control.client = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        self.planner = Planner(self.runs, elsewhere, control, 30.0, lambda: lambda table: 0)

    def answer(self, request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("PUT", "/services/majlis/api/v1/alarms")
        self.told.append(json.loads(request.content))
        nothing = {"refused": None, "why": ""}
        heard = [one | self.refused.get(one["name"], nothing) for one in self.told[-1]]
        return httpx.Response(self.status, json=heard)

    def add(self, name: str = "nightly", cron: str = "0 3 1 1 *", **changes: Any) -> None:
        source = str(self.home / "look.ipynb")
        wanted = {"name": name, "source": source, "pipeline": "look", "cron": cron, "settled": LONG_AGO}
        self.planner.schedules.add(Schedule.model_validate(wanted | changes))

    def look(self) -> list[Schedule]:
        return asyncio.run(self.planner.look())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_schedule_with_a_profile_has_its_run_on_a_server_of_its_own(place: Place) -> None:
    place.add(profile="large")
    (started,) = place.look()
    run_id = str(started.last_run)
    assert set(place.hub.up) == {server_of(run_id)}
    found = place.runs.get(run_id)
    assert (found["profile"], found["state"]) == ("large", "pending")
    assert place.look() == [], "its time is settled"


def test_a_refusal_of_the_hubs_is_a_run_that_failed_and_says_why(place: Place) -> None:
    place.hub.error = Forbidden("0.00 are left")
    place.add(profile="large")
    place.look()
    schedule = place.planner.schedules.read("nightly")
    (run,) = place.runs.history(10)
    assert (run["id"], run["state"], run["reason"]) == (schedule.last_run, "failed", "0.00 are left")
    assert "0.00 are left" in schedule.note
    assert place.look() == []


def test_the_control_plane_is_told_what_differs(place: Place) -> None:
    place.look()
    assert place.told == [], "a home without schedules has nothing to say"
    place.add(settled=clock.now())
    place.add("waits", cron=None, table="gold.flights")
    place.add("paused", paused=True)
    place.look()
    place.look()
    due = place.planner.schedules.read("nightly").next()
    assert due is not None
    expected = {"name": "nightly", "cron": "0 3 1 1 *", "profile": "", "due": clock.isoformat(due)}
    assert place.told == [[expected]]
    place.planner.schedules.remove("nightly")
    place.look()
    assert place.told[1:] == [[]]


@pytest.mark.parametrize(("status", "times"), [(403, 1), (503, 4)])
def test_what_the_control_plane_did_not_take_is_told_again(tmp_path: Path, status: int, times: int) -> None:
    place = Place(tmp_path, status=status)
    place.add(settled=clock.now())
    place.look()
    place.look()
    assert len(place.told) == times


def test_without_profiles_nobody_is_woken(place: Place) -> None:
    place.planner.elsewhere.profiles = []
    place.add()
    assert len(place.look()) == 1
    assert place.told == [[]], "what was told when there were some is withdrawn"


def test_a_time_that_was_refused_is_a_failed_run_and_is_not_made_up_for(place: Place) -> None:
    at = clock.now() - timedelta(minutes=1)
    place.add(profile="large")
    place.refused["nightly"] = {"refused": clock.isoformat(at), "why": "0.00 are left"}
    for _ in range(2):
        assert place.look() == []
    (run,) = place.runs.history(10)
    assert (run["state"], run["profile"]) == ("failed", "large")
    assert "no server was started" in run["reason"] and "0.00 are left" in run["reason"]
    again = Place(place.home)  # the next server hears it, too
    again.refused = place.refused
    again.look()
    assert len(again.runs.history(10)) == 1


def test_a_faulty_pipeline_does_not_keep_a_refusal_from_the_others(place: Place) -> None:
    at = clock.isoformat(clock.now())
    place.add("broken", source=str(place.home / "gone.ipynb"))
    place.add("sound")
    place.refused = {name: {"refused": at, "why": "no"} for name in ("broken", "sound")}
    assert place.look() == []
    assert [run["reason"][-2:] for run in place.runs.history(10)] == ["no"]


def errand(place: Place) -> None:
    asyncio.run(asyncio.wait_for(place.planner.errand(), 30))


def test_a_woken_server_does_what_it_is_for_and_nothing_else(tmp_path: Path) -> None:
    place = Place(tmp_path, server="alarm-nightly")
    place.add(profile="large")
    place.add("other")
    errand(place)
    (run,) = place.runs.history(10)
    assert (run["pipeline"], run["profile"]) == ("look", "large")
    assert place.runs.server_of(run["id"]) == "alarm-nightly"
    assert place.hub.up == {}, "it carried the run out itself"
    assert {one["name"]: one["due"] for one in place.told[-1]}["other"] < clock.isoformat(clock.now())
    assert {one["name"]: one["due"] for one in place.told[-1]}["nightly"] > clock.isoformat(clock.now())
    errand(place)
    assert len(place.runs.history(10)) == 1


def test_a_woken_server_withdraws_what_is_gone(tmp_path: Path) -> None:
    place = Place(tmp_path, server="alarm-nightly")
    errand(place)
    assert place.told == [[]]


def test_a_faulty_schedule_keeps_no_other_waiting(place: Place) -> None:
    place.add()
    (place.planner.schedules.folder / "faulty.json").write_text("{}")
    assert [one.name for one in place.look()] == ["nightly"]


def test_a_schedule_that_was_removed_meanwhile_does_not_come_back(place: Place) -> None:
    place.add(profile="large")
    (started,) = place.planner.tick()
    place.planner.schedules.remove("nightly")
    place.hub.error = Forbidden("0.00 are left")
    asyncio.run(place.planner.start(started))
    assert list(place.planner.schedules) == []
    assert place.runs.history(10)[0]["reason"] == "0.00 are left"


def test_a_server_that_was_started_for_one_thing_goes_whatever_happens(place: Place) -> None:
    async def work() -> None:
        raise ValueError("nobody thought of this")

    place.hub.up["alarm-nightly"] = Standing.UP
    asyncio.run(Errand("alarm-nightly", work, place.hub, None).carry_out())
    assert place.hub.up == {}


@pytest.mark.parametrize("up", [True, False])
def test_the_usual_server_sees_a_woken_ones_run(tmp_path: Path, up: bool) -> None:
    woken, usual = Place(tmp_path, server="alarm-nightly"), Place(tmp_path)
    woken.add()
    errand(woken)
    (run,) = usual.runs.history(10)
    assert run["state"] == "failed", "its process ended without a word"
    note = usual.runs.noted(run["id"])
    assert note.process is not None
    note.process.host = "a-pod-of-its-own"
    usual.runs.write_note(run["id"], note)
    usual.runs.servers = {"alarm-nightly"} if up else set()
    assert usual.runs.get(run["id"])["state"] == ("pending" if up else "failed")
    going: Callable[[Schedule], bool] = usual.planner.schedules.going
    assert going(usual.planner.schedules.read("nightly")) is up


def test_names_tell_what_a_server_is_for() -> None:
    assert [schedule_of(name) for name in ("alarm-a", "alarm-", "", "run-a", "my-alarm-a")] == [
        "a",
        "",
        "",
        "",
        "",
    ]
    assert run_of("alarm-20260101-000000-abcdef") == ""
