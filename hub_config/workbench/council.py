"""`make demo-review`: three people decide about a high-risk model, and every step is verified."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from hub_config import accounts
from hub_config.services import decisions_origin, origin
from hub_config.workbench import verify
from hub_config.workbench.bench import Bench
from hub_config.workbench.demo import Scientist
from hub_config.workbench.screen import Screen
from hub_config.workbench.verify import Claim, Facts
from hub_config.workbench.visitor import API, Visitor
from majlis.access import Role
from majlis.governance.reviews import SHOWN
from majlis.settings import Settings

# Who decides from which chair, in which order, and why.
DECISIONS = {
    Role.ENGINEER.value: (
        "review",
        "The checks reproduce, and the simpler model answers as fast as it has to.",
    ),
    Role.OWNER.value: (
        "own",
        "It only advises, and the loss of accuracy against the first model is acceptable.",
    ),
    Role.COMPLIANCE.value: ("comply", "The groups differ less than the policy allows, and a person decides."),
}
RELEASE_SECONDS = 120.0  # signing copies the model and converts it
POLL_SECONDS = 0.5

Visitors = Mapping[str, Visitor]


async def everything(bench: Bench, scientist: Scientist, run: Facts, screen: Screen) -> int:
    """Let the three people decide, verify each step and say what was found; 0 when all hold, else 1."""

    def decided() -> int:
        return verify.told(claims(visitors(bench.settings), run, bench.settings), screen)

    return await verify.concluded(scientist, await asyncio.to_thread(decided), screen)


def visitors(settings: Settings) -> Visitors:
    """Everybody with a demo account, each logged in with a browser of their own."""
    base = settings.workbench.base_url.rstrip("/")
    hub, decisions = f"{origin(settings)}{base}", f"{decisions_origin(settings)}{base}"
    known = accounts.read(accounts.accounts_file(settings))
    return {name: Visitor(hub, decisions, name, password) for name, password in known.items()}


def claims(people: Visitors, run: Facts, settings: Settings) -> Iterator[Claim]:
    """Every claim, in the order of the path; the decisions are made on the way."""
    outputs = {step["name"]: step["outputs"] for step in run["steps"]}
    model = outputs["mitigated"]["name"]
    first, second = (
        f"/models/{model}/versions/{outputs[name]['version']}" for name in ("first", "mitigated")
    )
    sessions = {name: people[name].decisions() for name in (Scientist.name, *DECISIONS)}
    reader = sessions[Role.ENGINEER]
    yield unfair(seen(reader, first))
    yield risky(seen(reader, first))
    yield waiting(seen(reader, second))
    yield refused("self", attempt(sessions[Scientist.name], second, "review"), "the scientist's own approval")
    for name, (chair, _) in DECISIONS.items():
        yield approved(sessions[name], second, name)
        if name == Role.ENGINEER:
            yield refused("twice", attempt(reader, second, chair), "a second approval by the same person")
    after = released(reader, second)
    yield agreed(after)
    yield verify.signed(after, settings)
    yield verify.audit(reader.get(f"{API}/audit/verify").raise_for_status().json())


def seen(session: httpx.Client, path: str) -> Facts:
    """The record of a version."""
    record: Facts = session.get(f"{API}{path}").raise_for_status().json()
    return record


def attempt(
    session: httpx.Client, path: str, chair: str, reason: str = "It looks good to me."
) -> httpx.Response:
    """What the control plane answers to an approval of what is read there now."""
    record = seen(session, path)
    decision = {"decision": "approve", "as": chair, "reason": reason} | {name: record[name] for name in SHOWN}
    return session.post(f"{API}{path}/reviews", json=decision)


def unfair(record: Facts) -> Claim:
    """The first version failed, and on nothing but fairness."""
    failed = {
        each["name"]: each["reason"] for each in record["checks"] if each["verdict"] in ("failed", "error")
    }
    found = (
        f"version {record['version']} is {record['state']}: {failed.get('fairness', 'fairness was passed')}"
    )
    return Claim("fairness", record["state"] == "failed" and [*failed] == ["fairness"], found)


def risky(record: Facts) -> Claim:
    """Its author declared no personal data; what it was trained on says otherwise."""
    declared, reasons = record["facts"]["personal_data"], record["tier_reasons"]
    by_lineage = any("classed as personal data" in reason for reason in reasons)
    holds = record["tier"] == "high" and declared is False and by_lineage
    return Claim("tier", holds, f"{record['tier']} risk, by {'lineage' if by_lineage else reasons}")


def waiting(record: Facts) -> Claim:
    """The second version passed every check and waits for all three."""
    passed = [each["name"] for each in record["checks"] if each["verdict"] == "passed"]
    stopped = [each["name"] for each in record["checks"] if each["verdict"] not in ("passed", "skipped")]
    chairs = {chair for chair, _ in DECISIONS.values()}
    holds = record["state"] == "in review" and set(record["required"]) == chairs
    found = (
        f"version {record['version']} is {record['state']}, {len(passed)} of {len(record['checks'])} passed"
    )
    return Claim("mitigated", holds and bool(passed) and not stopped, found)


def refused(step: str, answer: httpx.Response, what: str) -> Claim:
    """The control plane refused, saying why."""
    holds = answer.status_code in (httpx.codes.FORBIDDEN, httpx.codes.CONFLICT)
    detail = answer.json().get("detail", "") if holds else "it was accepted"
    return Claim(step, holds, f"{what} is answered {answer.status_code}: {detail}")


def approved(session: httpx.Client, path: str, name: str) -> Claim:
    """A person read the review notebook, approved, and it stands on record under their name."""
    chair, reason = DECISIONS[name]
    page = session.get(f"{API}{path}/review")
    read = page.status_code == httpx.codes.OK and "applicant_group" in page.text
    answer = attempt(session, path, chair, reason)
    decisions = [
        each
        for each in (seen(session, path)["reviews"] if answer.is_success else [])
        if (each["principal"], each["chair"], each["decision"]) == (name, chair, "approve")
    ]
    found = f"{name} read {len(page.content) // 1024} KiB of evidence and approves: {reason}"
    return Claim(chair, read and len(decisions) == 1, found if decisions else f"{name}: {answer.text[:300]}")


def released(session: httpx.Client, path: str) -> Facts:
    """The record of a version once it is released, or as it is when that takes too long."""
    deadline = time.monotonic() + RELEASE_SECONDS
    while (record := seen(session, path))["state"] == "approved" and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return record


def agreed(record: Facts) -> Claim:
    """It is released on the word of three different people, none of whom made it."""
    people: list[Any] = [each["principal"] for each in record["reviews"] if each["decision"] == "approve"]
    holds = record["state"] == "released" and sorted(people) == sorted(DECISIONS)
    return Claim("released", holds, f"{record['state']}, approved by {', '.join(people)}")
