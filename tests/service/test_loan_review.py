"""The second example in a real hub: refused as unfair, mended, and decided by three people."""

from typing import Any

import pytest
import yaml

from hub_config.workbench import council
from hub_config.workbench.verify import Claim
from tests.support.people import Person
from tests.support.workbench import ROOT, Workbench

pytestmark = pytest.mark.timeout(600)
PIPELINE_SECONDS = 400.0

People = dict[str, Person]


@pytest.fixture(scope="module")
def run(people: People) -> dict[str, Any]:
    """The pipeline, run in the scientist's server: its record."""
    return people["scientist"].run_pipeline("loan_review", {}, PIPELINE_SECONDS)


@pytest.fixture(scope="module")
def outputs(run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What each step handed on."""
    assert run["state"] == "done", [step["failure"] for step in run["steps"] if step["failure"]]
    return {step["name"]: step["outputs"] for step in run["steps"]}


@pytest.fixture(scope="module")
def records(people: People, outputs: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Both versions, as they were before anybody decided."""
    with people["engineer"].decisions() as session:
        return [
            council.seen(session, f"/models/{each['name']}/versions/{each['version']}")
            for each in (outputs["first"], outputs["mitigated"])
        ]


@pytest.fixture(scope="module")
def claims(
    people: People, workbench: Workbench, run: dict[str, Any], records: list[dict[str, Any]]
) -> list[Claim]:
    """What `make demo-review` verifies; the three people decide on the way."""
    return [*council.claims(people, run, workbench.settings)]


def test_it_is_listed_as_a_pipeline(people: People) -> None:
    scientist = people["scientist"]
    with scientist.api() as client:
        found = client.get(f"{scientist.start_server()}majlis/pipelines")
    assert "loan_review" in {each["name"] for each in found.json()}


def test_the_first_version_fails_on_fairness_alone(records: list[dict[str, Any]]) -> None:
    first, _ = records
    assert (first["version"], first["state"], first["tier"]) == (1, "failed", "high")
    verdicts = {check["name"]: check["verdict"] for check in first["checks"]}
    assert verdicts.pop("fairness") == "failed" and set(verdicts.values()) <= {"passed", "skipped"}


def test_each_slice_is_large_enough_and_tells_what_was_found(outputs: dict[str, dict[str, Any]]) -> None:
    slices = outputs["first"]["slices"]
    assert {*slices} == {"white", "black or Hispanic"}
    assert all(each["rows"] >= 50 for each in slices.values())
    assert slices["white"]["chosen"] - slices["black or Hispanic"]["chosen"] > 0.1


def test_lineage_outweighs_what_the_author_declared(records: list[dict[str, Any]]) -> None:
    first, second = records
    assert first["facts"]["personal_data"] is False
    assert first["tier_reasons"] == [
        "the training read columns that are classed as personal data, whatever was declared"
    ]
    assert second["facts"]["personal_data"] is True


def test_the_second_version_waits_for_three_people(records: list[dict[str, Any]]) -> None:
    _, second = records
    assert (second["version"], second["state"], second["tier"]) == (2, "in review", "high")
    assert second["required"] == ["review", "own", "comply"]
    assert {check["verdict"] for check in second["checks"]} <= {"passed", "skipped"}
    asked = yaml.safe_load((ROOT / "hub_config" / "policy.yaml").read_text())["tiers"]["high"]["checks"]
    assert [check["name"] for check in second["checks"]] == asked


def test_every_claim_of_the_demo_holds(claims: list[Claim]) -> None:
    assert [claim for claim in claims if not claim.holds] == []
    steps = ["fairness", "tier", "mitigated", "self", "review", "twice", "own", "comply"]
    assert [claim.step for claim in claims] == [*steps, "released", "release", "audit"]


@pytest.mark.parametrize(("step", "status", "words"), [("self", 403, "review"), ("twice", 409, "already")])
def test_the_refusals_say_why(claims: list[Claim], step: str, status: int, words: str) -> None:
    (claim,) = [each for each in claims if each.step == step]
    assert f"is answered {status}: " in claim.found and words in claim.found.partition(": ")[2]


def test_it_is_released_on_the_word_of_three(
    people: People, outputs: dict[str, dict[str, Any]], claims: list[Claim]
) -> None:
    made = outputs["mitigated"]
    with people["compliance"].decisions() as session:
        after = council.seen(session, f"/models/{made['name']}/versions/{made['version']}")
    given = [(each["principal"], each["chair"]) for each in after["reviews"]]
    assert after["state"] == "released"
    assert given == [("engineer", "review"), ("owner", "own"), ("compliance", "comply")]
    assert len({each["reason"] for each in after["reviews"]}) == 3


def test_what_is_released_cannot_be_decided_again(
    people: People, outputs: dict[str, dict[str, Any]], claims: list[Claim]
) -> None:
    made = outputs["mitigated"]
    with people["owner"].decisions() as session:
        answer = council.attempt(session, f"/models/{made['name']}/versions/{made['version']}", "own")
    assert answer.status_code == 409 and "not in review" in answer.json()["detail"]
