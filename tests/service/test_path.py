"""The whole path in a real hub, on part of the year: what `make demo` verifies, claim by claim."""

import json
from typing import Any

import pytest

from hub_config.workbench import verify
from hub_config.workbench.verify import Claim
from tests.support.people import Person
from tests.support.workbench import Workbench

pytestmark = pytest.mark.timeout(900)
KERNEL_SECONDS = 300.0


@pytest.fixture(scope="module")
def facts(people: dict[str, Person], finished_run: dict[str, Any]) -> dict[str, Any]:
    """What the run left behind, as a kernel of the scientist's finds it."""
    program = f"import json\nrun = json.loads({json.dumps(json.dumps(finished_run))})\n"
    printed = people["scientist"].run(program + verify.EVIDENCE.read_text(), KERNEL_SECONDS)
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def test_every_step_is_done(finished_run: dict[str, Any]) -> None:
    failures = [(step["name"], step["failure"]) for step in finished_run["steps"] if step["failure"]]
    assert not failures
    assert finished_run["state"] == "done"


@pytest.mark.parametrize(
    "judge",
    [
        verify.identity,
        verify.features,
        verify.train,
        verify.register,
        verify.deploy,
        verify.monitor,
        verify.audit,
    ],
)
def test_the_claim_holds(facts: dict[str, Any], judge: Any) -> None:
    claim: Claim = judge(facts[judge.__name__])
    assert claim.holds, claim.found


def test_no_row_is_lost(facts: dict[str, Any]) -> None:
    rows = facts["ingest"]
    assert rows["silver"] + rows["quarantined"] == rows["bronze"] > 0
    assert rows["with_reasons"] == rows["quarantined"] > 0


def test_the_release_verifies(facts: dict[str, Any], workbench: Workbench) -> None:
    claim = verify.signed(facts["register"], workbench.settings)
    assert claim.holds, claim.found


def test_a_second_run_reuses_what_has_not_changed(
    people: dict[str, Person], finished_run: dict[str, Any]
) -> None:
    again = people["scientist"].run_pipeline("flight_delay", finished_run["parameters"], KERNEL_SECONDS)
    states = {step["name"]: step["state"] for step in again["steps"]}
    assert [states[name] for name in ("ingest", "features", "train", "register")] == ["reused"] * 4


def test_a_bad_parameter_is_refused(people: dict[str, Person]) -> None:
    scientist = people["scientist"]
    with pytest.raises(Exception, match="4\\d\\d"):
        scientist.run_pipeline("flight_delay", {"months": "all of them", "nonsense": 1}, KERNEL_SECONDS)
