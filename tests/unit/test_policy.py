"""The risk policy: the file that ships, every rule of it, and every kind of mistake in it."""

import itertools
from pathlib import Path

import pytest
import yaml

from majlis.errors import Invalid, SettingsError
from majlis.governance.behaviour import EVERY
from majlis.governance.policy import Facts, Known, Policy, declared, known, load, parse

SHIPPED = Path("hub_config/policy.yaml")


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load(SHIPPED, tuple(EVERY))


def facts(**changes: object) -> Facts:
    base = {
        "purpose": "Tell planners early.",
        "personal_data": False,
        "affected_people": "none",
        "autonomy": "advises",
    }
    return Facts.model_validate(base | changes)


@pytest.mark.parametrize(
    ("changes", "personal", "tier", "because"),
    [
        ({}, [], "low", "no rule"),
        ({"affected_people": "customers"}, [], "low", "no rule"),
        (
            {"affected_people": "customers", "autonomy": "assists"},
            [],
            "medium",
            "affected by what it suggests",
        ),
        ({"autonomy": "decides"}, [], "medium", "without a person"),
        ({"autonomy": "decides", "affected_people": "public"}, [], "high", "decides about people"),
        ({"personal_data": True}, [], "high", "declared"),
        ({}, ["silver.people.passport"], "high", "whatever was declared"),
        ({"personal_data": True}, ["silver.people.passport"], "high", "whatever was declared"),
    ],
)
def test_shipped_rules(
    policy: Policy, changes: dict[str, object], personal: list[str], tier: str, because: str
) -> None:
    found, reasons = policy.assess(known(facts(**changes), personal))
    assert found == tier
    assert because in "; ".join(reasons)


def test_lineage_outweighs_every_declaration(policy: Policy) -> None:
    """Whatever an author says, personal data in the lineage is high risk."""
    for people, autonomy, personal in itertools.product(
        ("none", "employees", "customers", "public"), ("advises", "assists", "decides"), (True, False)
    ):
        seen = Known.model_validate(
            {
                "personal_data": personal,
                "affected_people": people,
                "autonomy": autonomy,
                "lineage_personal": True,
            }
        )
        assert policy.assess(seen)[0] == "high"


def test_more_care_never_lowers_the_tier(policy: Policy) -> None:
    order = list(policy.tiers)
    for people, autonomy in itertools.product(("none", "customers"), ("advises", "assists", "decides")):
        base = facts(affected_people=people, autonomy=autonomy)
        before = policy.assess(known(base, []))[0]
        for more in (known(base, ["t.c"]), known(base.model_copy(update={"personal_data": True}), [])):
            assert order.index(policy.assess(more)[0]) >= order.index(before)


def test_tiers_ask_for_more_as_they_rise(policy: Policy) -> None:
    tiers = list(policy.tiers.values())
    for lower, higher in itertools.pairwise(tiers):
        assert set(lower.checks) <= set(higher.checks)
        assert set(lower.approvals) <= set(higher.approvals)
    assert tiers[0].approvals == () and set(tiers[-1].approvals) == {"review", "own", "comply"}


def test_digest_changes_with_the_text() -> None:
    text = SHIPPED.read_text()
    assert parse(text).digest == parse(text).digest != parse(text + "\n# a remark\n").digest


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("tier_names",), {}, "tier_names"),
        (("tiers",), {}, "tiers"),
        (("tiers", "low", "sla_hours"), 0, "tiers.low.sla_hours"),
        (("tiers", "low", "approvals"), ["boss"], "tiers.low.approvals"),
        (("tiers", "low", "checks"), ["horoscope"], "horoscope"),
        (("tiers", "low", "colour"), "green", "tiers.low.colour"),
        (("rules", 0, "tier"), "extreme", "extreme"),
        (("rules", 0, "when"), {"mood": "good"}, "mood"),
        (("rules", 0, "when"), {"autonomy": "sometimes"}, "autonomy"),
        (("rules", 0, "when"), {"personal_data": "yes"}, "personal_data"),
        (("rules", 0, "because"), "", "because"),
        (("thresholds", "calibration_error_max"), -1, "calibration_error_max"),
        (("schema",), 2, "schema"),
    ],
)
def test_mistakes_are_named(place: tuple[str | int, ...], value: object, said: str) -> None:
    content = yaml.safe_load(SHIPPED.read_text())
    part = content
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    with pytest.raises(SettingsError, match=said):
        parse(yaml.safe_dump(content), checks=tuple(EVERY))


@pytest.mark.parametrize("text", ["", "[]", "a: [", "schema: 1", "just text"])
def test_no_policy_at_all(text: str) -> None:
    with pytest.raises(SettingsError):
        parse(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"purpose": "short"},
        {"personal_data": "no"},
        {"affected_people": "everyone"},
        {"autonomy": None},
        {"mood": "good"},
    ],
)
def test_facts_that_are_not_complete(wrong: dict[str, object]) -> None:
    with pytest.raises(Invalid, match=next(iter(wrong))):
        declared(facts().model_dump() | wrong)
