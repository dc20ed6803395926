"""Shadow, A/B and blue-green, driven by the control plane on a real gateway; and what is refused."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from majlis.client import STRATEGIES
from majlis.control import wanted
from majlis.errors import Invalid
from majlis.serving import snapshot
from majlis.serving.rollout import Phase
from tests.service.gateways import World, failing, heavy, linear, wait_until
from tests.service.planes import asked, command, control, over, released, shares, state, trail


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def meters(world: World, name: str = "flights") -> dict[str, int]:
    """Requests that each revision of a deployment has answered."""
    revisions = world.status()["deployments"][name]["revisions"]
    return {row["name"]: sum(row.get("meter", {}).get("codes", {}).values()) for row in revisions}


@pytest.mark.timeout(180)
def test_a_blue_green_switch_is_watched_and_goes_back_by_itself(world: World) -> None:
    with control(world) as (plane, wb):
        for number, model in enumerate((linear(2.0), failing(), linear(2.0)), 1):
            released(plane, world, number, model)
        deployment = wb.deploy("flights-1")
        with world.gateway():
            deployment.wait(30)
            with asked(world, wb.key("flights")) as answers:
                wait_until(lambda: answers[200, "1"] > 100)
                wb.deploy("flights-2", strategy="blue-green", reason="bold")
                wait_until(lambda: over(deployment), 60)
                assert state(deployment)["phase"] == "rolled back"
                assert "2 fails 100.00%" in state(deployment)["reason"]
                assert shares(deployment) == {"1": 1.0, "2": 0.0}
                returned = answers[200, "1"]
                wait_until(lambda: answers[200, "1"] > returned + 20)
                failed = answers[400, ""]

                wb.deploy("flights-3", strategy="blue-green", reason="better")
                assert shares(deployment) == {"1": 0.0, "2": 0.0, "3": 1.0}
                warm = snapshot.load(plane.settings.snapshot, plane.settings.release.public_key)
                assert [r.name for r in warm.deployments["flights"].revisions] == ["1", "3"]
                wait_until(lambda: over(deployment), 60)
        assert state(deployment)["phase"] == Phase.PROMOTED
        assert failed and sum(count for (code, _), count in answers.items() if code != 200) == failed
        assert trail(wb) == [
            ("amira", "rollout.started", 100),
            ("majlis", "rollout.rolled_back", 0),
            ("amira", "rollout.started", 100),
            ("majlis", "rollout.promoted", 100),
        ]


@pytest.mark.timeout(180)
def test_a_bad_shadow_is_put_away_and_no_caller_has_seen_it(world: World) -> None:
    with control(world, pause_seconds=600, slow=0.5) as (plane, wb):
        for number, model in enumerate((linear(2.0), heavy(), failing(), linear(3.0)), 1):
            released(plane, world, number, model)
        deployment = wb.deploy("flights-1")
        with world.gateway():
            deployment.wait(30)
            with asked(world, wb.key("flights")) as answers:
                wait_until(lambda: answers[200, "1"] > 100)
                wb.deploy("flights-2", strategy="shadow", reason="is it quick enough?")
                wait_until(lambda: over(deployment), 60)
                assert "2 is slow in" in state(deployment)["reason"]

                wb.deploy("flights-3", strategy="shadow")
                wait_until(lambda: over(deployment), 60)
                assert "3 fails 100.00%" in state(deployment)["reason"]

                wb.deploy("flights-4", strategy="shadow")
                wait_until(lambda: over(deployment), 60)
                assert "4 scores high in" in state(deployment)["reason"]
        assert set(answers) == {(200, "1")}


@pytest.mark.timeout(180)
def test_a_good_shadow_waits_for_a_person(world: World) -> None:
    with control(world, pause_seconds=1e-6) as (plane, wb):
        for number in (1, 2):
            released(plane, world, number, linear(2.0))
        deployment = wb.deploy("flights-1")
        with world.gateway():
            deployment.wait(30)
            with asked(world, wb.key("flights")) as answers:
                wait_until(lambda: answers[200, "1"] > 100)
                wb.deploy("flights-2", strategy="shadow")
                wait_until(lambda: meters(world).get("2", 0) > 100, 60)
                assert state(deployment)["phase"] == "running" and shares(deployment)["2"] == 0.0
                assert wb.version("flights", 2).stage == "Staging"
                deployment.promote("its scores are the same")
                wait_until(lambda: answers[200, "2"] > 20, 30)
        assert shares(deployment) == {"1": 0.0, "2": 1.0} and {status for status, _ in answers} == {200}


@pytest.mark.timeout(180)
def test_an_ab_test_keeps_callers_apart_and_says_what_it_found(world: World) -> None:
    seen: dict[str, set[str]] = {}
    with control(world, pause_seconds=1e-6) as (plane, wb):
        released(plane, world, 1, linear(2.0))
        released(plane, world, 2, linear(4.0))
        deployment = wb.deploy("flights-1")
        with world.gateway():
            deployment.wait(30)
            key = wb.key("flights")
            with asked(world, key, lambda random: {"X-Caller": str(random.randrange(1000))}) as answers:
                wait_until(lambda: answers[200, "1"] > 100)
                wb.deploy("flights-2", strategy="a/b", share=40, sticky="X-Caller", reason="which is better?")
                wait_until(lambda: answers[200, "2"] > 300, 60)
                for caller in range(20):
                    said = {
                        world.ask(0.5, name="flights", key=key, headers={"x-caller": str(caller)}).headers[
                            "x-revision"
                        ]
                        for _ in range(5)
                    }
                    seen[str(caller)] = said
                found: dict[str, dict[str, Any]] = {
                    row["signal"]: row for row in state(deployment)["compared"]
                }
                assert state(deployment)["phase"] == "running"
                deployment.promote("it scores as we hoped")
        assert {len(said) for said in seen.values()} == {1} and len(set.union(*seen.values())) == 2
        total = answers[200, "1"] + answers[200, "2"]
        assert total == sum(answers.values())
        high = found["high"]
        assert high["decided"] and high["low"] < high["effect"] < high["high"] and high["wrong"] < 0.01
        assert not found["failures"]["decided"] and found["failures"]["wrong"] == 1.0
        last = wb.audit(subject="flights", action="rollout.promoted")[-1]["detail"]
        assert last["strategy"] == "a/b" and {row["signal"] for row in last["compared"]} == set(found)
        there = snapshot.load(plane.settings.snapshot, plane.settings.release.public_key)
        assert there.deployments["flights"].sticky is None  # nobody is kept apart any more


@pytest.mark.timeout(60)
def test_a_deployment_says_what_counts_without_features(world: World) -> None:
    """It stays until something else is said, reaches the gateway's snapshot, and is on record."""
    with control(world) as (plane, wb):
        released(plane, world, 1, linear(2.0))
        wb.deploy("flights-1", feature_policy="stale", feature_budget_seconds=0.02)
        kept = wb.deploy("flights-1", reason="again")
        assert kept.features == "the values that were fetched last count after 20 ms"
        there = snapshot.load(plane.settings.snapshot, plane.settings.release.public_key)
        spec = there.deployments["flights"]
        assert (spec.feature_policy, spec.feature_budget_seconds) == ("stale", 0.02)
        back = wb.deploy("flights-1", feature_policy="settings", feature_budget_seconds=0, reason="calm")
        assert back.record["features"] == {"policy": "refuse", "budget_seconds": 0.05}
        said = [row["detail"] for row in wb.audit(subject="flights", action="deployment.features")]
        assert [row["after"]["policy"] for row in said] == ["stale", None] and said[-1]["reason"] == "calm"
        for wrong in ({"feature_policy": "hope"}, {"feature_budget_seconds": -1}):
            with pytest.raises(Invalid, match=next(iter(wrong))):
                wb.deploy("flights-1", **wrong)


@pytest.mark.timeout(180)
def test_what_does_not_belong_together_is_refused_alike(world: World) -> None:
    assert STRATEGIES == wanted.STRATEGIES
    nonsense: list[tuple[dict[str, Any], str]] = [
        ({"strategy": "at-once", "steps": [50]}, "steps came with strategy = at-once"),
        ({"strategy": "blue-green", "steps": [50, 100]}, "steps came with strategy = blue-green"),
        ({"strategy": "canary", "share": 50}, "share came with strategy = canary"),
        ({"strategy": "shadow", "sticky": "x-user"}, "sticky came with strategy = shadow"),
        ({"strategy": "a/b", "share": 100}, "share"),
        ({"strategy": "green-blue"}, "strategy"),
    ]
    with control(world) as (plane, wb), world.gateway(False):
        for number in (1, 2):
            released(plane, world, number, linear(2.0))
        wb.deploy("flights-1").wait(30)
        for options, complaint in nonsense:
            with pytest.raises(Invalid, match=complaint):
                wb.deploy("flights-2", **options)
        odd = ("--strategy", "shadow", "--steps", "5,100")
        with pytest.raises(Invalid, match="steps came with strategy = shadow"):
            command(world, "start", "flights", "flights-2", "--reason", "odd", *odd)
        begun = command(world, "start", "flights", "flights-2", "--reason", "halves", "--strategy", "a/b")
        assert (begun["strategy"], begun["percent"], begun["sticky"]) == ("a/b", 50, "x-user")


@pytest.mark.timeout(240)
def test_twenty_changes_by_people_under_load_fail_nothing_and_lose_nothing(world: World) -> None:
    with control(world, poll_seconds=3600) as (plane, wb):
        for number in range(1, 8):
            released(plane, world, number, linear(2.0))
        deployment = wb.deploy("flights-1")
        with world.gateway():
            deployment.wait(30)
            changes = 0
            with asked(world, wb.key("flights")) as answers:
                for number in range(2, 8):
                    strategy = ("canary", "blue-green", "a/b")[number % 3]
                    wb.deploy(f"flights-{number}", reason="hot reload").wait(30)
                    deployment.rollback("and back")
                    wb.deploy(f"flights-{number}", strategy=strategy).wait(30)
                    if number % 2:
                        deployment.promote("it is good")
                    else:
                        deployment.abort("it is not")
                    changes += 4
                    seen = sum(answers.values())
                    wait_until(lambda seen=seen: sum(answers.values()) > seen + 10)
            assert changes >= 20 and {status for status, _ in answers} == {200}
            everything = wait_until(
                lambda: (counted := gateway_requests(world)) == sum(answers.values()) and counted, 20
            )
            assert everything > 200 and len({revision for _, revision in answers}) > 6


def gateway_requests(world: World) -> int:
    """Requests that the gateway says it answered, whatever their revision."""
    page = httpx.get(f"{world.url}/metrics").text
    lines = [line for line in page.splitlines() if line.startswith("majlis_gateway_requests_total{")]
    return round(sum(float(line.rpartition(" ")[2]) for line in lines))
