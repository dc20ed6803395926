"""A schedule that is due while its person's server is down: one is started for it, and is gone afterwards."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import httpx
import pytest

from majlis import audit, clock
from majlis.access import Principal, Role, role_scopes
from majlis.control.alarms import Alarm, Alarms
from majlis.events import Notifier
from majlis.pipelines.schedule import Schedule
from majlis.settings import load
from majlis.store import Store
from tests.service.test_elsewhere import LOOK, PATIENCE_SECONDS, Lab
from tests.support import waiting
from tests.support.people import Person
from tests.support.workbench import Workbench

API = "/services/majlis/api/v1"
YEARLY = "0 0 1 1 *"
eventually = partial(waiting.eventually, seconds=PATIENCE_SECONDS)


@pytest.fixture
def program(people: dict[str, Person]) -> Iterator[httpx.Client]:
    """A program of the scientist's, with a token of theirs."""
    with people["scientist"].api() as found:
        yield found


@pytest.fixture
def lab(people: dict[str, Person], program: httpx.Client) -> Iterator[Lab]:
    """The scientist's usual server; in the end, their schedules are gone."""
    found = Lab(people["scientist"])
    found.write("look.ipynb", f"{LOOK}\n# woken")  # or the result of another test's run is taken
    yield found
    found.person.start_server()
    for schedule in found.client.get("majlis/schedules").json():
        found.client.delete(f"majlis/schedules/{schedule['name']}").raise_for_status()
    eventually(lambda: told(program) == {}, "the alarms are withdrawn")
    found.client.close()


def told(program: httpx.Client) -> dict[str, Any]:
    """The person's alarms, as the control plane knows them."""
    return {one["name"]: one for one in program.get(f"{API}/alarms").raise_for_status().json()}


def passed(workbench: Workbench, name: str, profile: str) -> dict[str, str]:
    """Have a time of a schedule's pass, and its profile be another; its alarm. It has the owner it had."""
    path = workbench.settings.home / "home" / "scientist" / "runs" / ".schedules" / f"{name}.json"
    schedule = Schedule.model_validate_json(path.read_text())
    long_ago = {"settled": schedule.settled - timedelta(days=366), "profile": profile}
    schedule = schedule.model_copy(update=long_ago)
    path.write_text(schedule.model_dump_json())
    due = schedule.next()
    assert due is not None and due < clock.now()
    return {"name": name, "cron": YEARLY, "profile": profile, "due": clock.isoformat(due)}


class Counting:
    """A hub without servers, which counts what it is asked to start."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def up(self, person: str) -> frozenset[str]:
        return frozenset()

    def start(self, person: str, name: str, profile: str, title: str) -> None:
        self.started.append(name)


@pytest.mark.timeout(60)
def test_control_planes_that_share_a_database_ring_once(store: Store) -> None:
    hub, planes = Counting(), [Alarms(store, Notifier([], load().notify)) for _ in range(4)]
    ana = Principal("ana", role_scopes(frozenset({Role.SCIENTIST})))
    names = [f"nightly-{number}" for number in range(5)]
    planes[0].set(ana, [Alarm(name, YEARLY, clock.now()) for name in names])
    with ThreadPoolExecutor(len(planes)) as pool:
        list(pool.map(lambda plane: plane.look(hub), planes))
    assert sorted(hub.started) == [f"alarm-{name}" for name in names]
    with store.reading() as session:
        assert len(list(audit.records(session, action="alarm.fired"))) == len(names)


@pytest.mark.timeout(400)
def test_a_schedule_outlives_its_persons_server(
    lab: Lab, program: httpx.Client, workbench: Workbench
) -> None:
    for name in ("woken", "denied"):
        wanted = {"name": name, "source": "look.ipynb", "cron": YEARLY, "profile": "cpu-medium"}
        answer = lab.client.post("majlis/schedules", json=wanted)
        assert answer.status_code == 201, answer.text
    eventually(lambda: told(program).keys() == {"woken", "denied"}, "the control plane is told")
    next_year = told(program)["woken"]["due"]
    lab.person.stop_server()
    alarms = [passed(workbench, "woken", "cpu-medium"), passed(workbench, "denied", "cpu-large")]
    program.put(f"{API}/alarms", json=alarms).raise_for_status()
    eventually(lambda: "alarm-woken" in lab.servers(), "a server is started")
    eventually(lambda: told(program)["woken"]["due"] == next_year, "it has seen to what was due")
    lab.alone()
    lab.person.start_server()
    runs = {run["profile"]: run for run in lab.client.get("majlis/runs").json()[:2]}
    assert runs["cpu-medium"]["state"] == "done", runs
    assert runs["cpu-medium"]["steps"][0]["outputs"]["server"] == "alarm-woken"
    assert runs["cpu-large"]["state"] == "failed"
    assert "is for the groups" in runs["cpu-large"]["reason"]
    trail = program.get(f"{API}/audit", params={"principal": "majlis"}).json()
    done = [(one["action"], one["subject"]) for one in trail if one["action"].startswith("alarm.")]
    place = "alarms/scientist"
    assert sorted(done) == [
        ("alarm.fired", f"{place}/denied"),
        ("alarm.fired", f"{place}/woken"),
        ("alarm.refused", f"{place}/denied"),
    ]
