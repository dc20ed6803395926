"""The portal on a real gateway: what a rollout has seen, and its end by a form that needs no JavaScript."""

import re
from http import HTTPStatus
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from majlis.access import Principal, Scope
from majlis.control.identity import LocalIdentity
from majlis.control.pages import Pages
from majlis.control.service import ControlPlane
from tests.service.gateways import World, linear, wait_until
from tests.service.planes import asked, control, released, state

PREFIX = "/services/majlis/"
REASON = {"reason": "the planners saw <b>nothing</b> odd"}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def portal(plane: ControlPlane, who: Principal) -> TestClient:
    """The pages, as `who` sees them."""
    app = FastAPI()
    Pages(plane, LocalIdentity(who), PREFIX).install(app)
    return TestClient(app, base_url=f"http://majlis{PREFIX}", follow_redirects=False)


def principal(name: str, *scopes: Scope) -> Principal:
    return Principal(name, scopes=frozenset(scope.value for scope in (Scope.READ, *scopes)))


@pytest.mark.timeout(180)
def test_a_rollout_is_shown_and_ended_on_the_page(world: World) -> None:
    with control(world, pause_seconds=600) as (plane, wb):
        for number in (1, 2):
            released(plane, world, number, linear(2.0))
        deployment = wb.deploy("flights-1")
        amira, omar = (portal(plane, principal(name, Scope.DEPLOY)) for name in ("amira", "omar"))
        with world.gateway():
            deployment.wait(30)
            with asked(world, wb.key("flights")) as answers:
                wait_until(lambda: answers[200, "1"] > 20)
                wb.deploy("flights-2", strategy="canary", steps=[50, 100])
                wait_until(lambda: answers[200, "2"] > 20, 60)
                page = amira.get("deployments").text
                assert 'aria-current="step">50 %' in page and "more seconds" in page
                seen = int(re.findall(r"revision 2, new</td><td class=\"number\">(\d+)", page)[0])
                assert 0 < seen <= answers[200, "2"] + 1  # what is on its way is counted, not yet answered
                assert "formaction" not in omar.get("deployments").text

                refused = amira.post("deployments/flights/promote", data={"reason": " "})
                assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
                assert "The reason is empty" in refused.text and 'aria-current="step">50 %' in refused.text
                assert omar.post("deployments/flights/abort", data=REASON).status_code == HTTPStatus.FORBIDDEN
                assert state(deployment)["phase"] == "running"

                done = amira.post("deployments/flights/promote", data=REASON)
                assert done.status_code == HTTPStatus.SEE_OTHER
                assert done.headers["location"] == f"{PREFIX}deployments"
        assert state(deployment)["phase"] == "promoted"
        page = amira.get("deployments").text
        assert "amira: the planners saw &lt;b&gt;nothing&lt;/b&gt; odd" in page
        assert amira.post("deployments/flights/rollback", data=REASON).status_code == HTTPStatus.SEE_OTHER
        assert [one["weight"] for one in wb.deployment("flights").record["revisions"]] == [1.0, 0.0]
        assert amira.post("deployments/flights/abort", data=REASON).status_code == HTTPStatus.CONFLICT


@pytest.mark.timeout(120)
def test_what_a_deployment_would_change_is_told_before_it_does(world: World) -> None:
    with control(world, pause_seconds=60, requests=20) as (plane, wb):
        for number in (1, 2):
            released(plane, world, number, linear(2.0))
        asked_for = {"model": "flights", "version": 2, "strategy": "canary", "steps": [10, 50, 100]}
        new = wb.api("GET", "/deployments/flights/preview", params=asked_for)
        assert (new["serving"], new["steps"], new["seconds"]) == ([], [100], 0)
        size = sum(path.stat().st_size for path in world.folder("flights-2").rglob("*") if path.is_file())
        assert new["price"]["size_bytes"] == size > 0
        wb.deploy("flights-1")
        moved = wb.api("GET", "/deployments/flights/preview", params=asked_for)
        assert moved["serving"] == [{"version": 1, "percent": 100}] and not moved["same"]
        assert (moved["steps"], moved["seconds"], moved["requests"]) == ([10, 50, 100], 180, 60)
        same = wb.api("GET", "/deployments/flights/preview", params=asked_for | {"version": 1})
        assert same["same"]
        at_once = {"model": "flights", "version": 2}
        assert wb.api("GET", "/deployments/flights/preview", params=at_once)["seconds"] == 0
        assert [one["release"] for one in wb.deployment("flights").record["revisions"]] == ["flights-1"]


@pytest.mark.timeout(120)
def test_a_version_is_shown_beside_the_one_in_production(world: World) -> None:
    with control(world) as (plane, wb):
        for number in (1, 2):
            released(plane, world, number, linear(2.0))
        reader = portal(plane, principal("carla"))
        assert "What changes against" not in reader.get("models/flights/2").text
        wb.deploy("flights-1")
        assert "What changes against version 1, in production" in reader.get("models/flights/2").text
        assert "What changes against" not in reader.get("models/flights/1").text
