"""What becomes of a review: people who take too long, approvals that count no longer, who is told of it."""

import hashlib
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_markdown_cell, new_notebook

from majlis import cli, clock
from majlis.control.service import ControlPlane
from majlis.errors import Conflict
from majlis.files import write_whole
from majlis.registry import release as releases
from majlis.registry import versions
from majlis.registry.versions import State
from majlis.settings import load
from tests.support.council import OTHERS, PEOPLE, SHOWN, in_review
from tests.support.receivers import Mail, Web, serving, until

BYTES = {"MLmodel": b"flavors: {}\n", "weights.bin": b"\x00\x01\x02"}
REASON = "a reason that is long enough"
ROUND = (("engineer", "review"), ("owner", "own"), ("compliance", "comply"))


@contextmanager
def opened(home: Path, *urls: str, policy: Path | None = None) -> Iterator[ControlPlane]:
    """A control plane that tells `urls`."""
    environ = {
        "MAJLIS_WORKBENCH_HOME": str(home),
        "MAJLIS_NOTIFY_URLS": "\n".join(urls),
        "MAJLIS_NOTIFY_RETRY_SECONDS": "0.01",
        "MAJLIS_NOTIFY_ATTEMPTS": "1",
        "MAJLIS_NOTIFY_TIMEOUT_SECONDS": "1",
    } | ({"MAJLIS_POLICY_FILE": str(policy)} if policy else {})
    control = ControlPlane(load(environ=environ)).open()
    try:
        yield control
    finally:
        control.close()


@pytest.fixture
def control(tmp_path: Path) -> Iterator[ControlPlane]:
    with opened(tmp_path / "home") as made:
        waiting(made)
        yield made


def waiting(control: ControlPlane) -> None:
    """Version 1 of flights in review, with real bytes behind it."""
    folder = control.folders.staging / "flights-1" / releases.MODEL
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in BYTES.items():
        (folder / name).write_bytes(content)
    with control.store.session() as session:
        policy = control.policy.digest
        in_review(control, session, digests=releases.digests(folder), policy=policy)


def shown(control: ControlPlane) -> dict[str, str]:
    """What a person reads before they decide."""
    record = control.version(PEOPLE["engineer"], "flights", 1)
    return {field: record[field] for field in SHOWN}


def decide(control: ControlPlane, who: str, chair: str, decision: str = "approve") -> str:
    """The state that follows from a decision."""
    person = (PEOPLE | OTHERS)[who]
    record = control.council.decide(person, "flights", 1, chair, decision, REASON, shown(control))
    return str(record["state"])


def state(control: ControlPlane) -> str:
    return str(control.version(PEOPLE["engineer"], "flights", 1)["state"])


def actions(control: ControlPlane) -> list[str]:
    return [each.action for each in control.trail(PEOPLE["engineer"], subject="flights/1")]


def test_the_round_is_signed_with_the_names_of_the_three(control: ControlPlane) -> None:
    assert [decide(control, *step) for step in ROUND] == ["in review", "in review", "approved"]
    until(lambda: state(control) == State.RELEASED)
    key = control.settings.release.public_key
    statement = releases.verify(control.settings.release.folder / "flights-1", key)
    assert [each.principal for each in statement.approvals] == ["noor", "omar", "carla"]
    assert actions(control) == ["review.approved"] * 3 + ["release.signed"]


def test_an_approval_expires_and_is_asked_for_again(control: ControlPlane) -> None:
    days = control.policy.tiers["high"].approval_days
    with clock.frozen(clock.now()) as time:
        decide(control, "engineer", "review")
        time.advance(days=days - 1)
        decide(control, "owner", "own")
        time.advance(days=2)
        assert decide(control, "compliance", "comply") == "in review"
        (row,) = control.council.inbox(PEOPLE["engineer"])
        assert row["required"] == ["review"]
        assert decide(control, "lina", "review") == "approved"
    until(lambda: state(control) == State.RELEASED)
    folder = control.settings.release.folder / "flights-1"
    statement = releases.verify(folder, control.settings.release.public_key)
    assert sorted(each.principal for each in statement.approvals) == ["carla", "lina", "omar"]


def test_whose_approval_expired_may_approve_again(control: ControlPlane) -> None:
    days = control.policy.tiers["high"].approval_days
    with clock.frozen(clock.now()) as time:
        decide(control, "engineer", "review")
        with pytest.raises(Conflict, match="has decided on this version already"):
            decide(control, "engineer", "review")
        time.advance(days=days, seconds=1)
        assert decide(control, "engineer", "review") == "in review"
        assert control.council.inbox(PEOPLE["engineer"])[0]["required"] == ["own", "comply"]


def test_bytes_that_changed_are_not_released(control: ControlPlane) -> None:
    for step in ROUND[:2]:
        decide(control, *step)
    weights = control.folders.staging / "flights-1" / releases.MODEL / "weights.bin"
    weights.write_bytes(b"other weights")
    assert decide(control, *ROUND[2]) == "approved"
    until(lambda: state(control) == State.FAILED)
    record = control.version(PEOPLE["engineer"], "flights", 1)
    assert "are not those that were registered" in record["reason"] and record["release"] is None
    assert {review["void"] for review in record["reviews"]} == {"the bytes changed"}
    assert not (control.settings.release.folder / "flights-1").exists()
    assert actions(control)[-2:] == ["review.voided", "version.failed"]


def test_a_new_review_notebook_asks_everybody_again(control: ControlPlane) -> None:
    """What the checks measured on is in the notebook: other data make another notebook."""
    decide(control, "engineer", "review")
    before = shown(control)
    content = nbformat.writes(new_notebook(cells=[new_markdown_cell("What the checks found on other data")]))
    write_whole(control.evidence.path("flights", 1), content)
    with control.store.session() as session:
        versions.find(session, "flights", 1).evidence = hashlib.sha256(content.encode()).hexdigest()
    assert control.council.inbox(PEOPLE["engineer"])[0]["required"] == ["review", "own", "comply"]
    with pytest.raises(Conflict, match="evidence changed"):
        control.council.decide(PEOPLE["owner"], "flights", 1, "own", "approve", REASON, before)
    assert [decide(control, *step) for step in ROUND] == ["in review", "in review", "approved"]


def test_another_policy_voids_and_asks_for_new_evidence(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    shutil.copyfile("hub_config/policy.yaml", policy)
    with opened(tmp_path / "home", policy=policy) as control:
        waiting(control)
        decide(control, "engineer", "review")
    policy.write_text(policy.read_text() + "\n# stricter\n")
    with opened(tmp_path / "home", policy=policy) as control:
        record = control.version(PEOPLE["engineer"], "flights", 1)
        assert [review["void"] for review in record["reviews"]] == ["the policy changed"]
        assert "review.voided" in actions(control)
        until(
            lambda: state(control) not in (State.CHECKING, State.IN_REVIEW)
        )  # there is no table to check on
        assert state(control) == State.FAILED


@pytest.mark.parametrize(
    ("decision", "ends", "past"),
    [("reject", "rejected", "rejected"), ("ask for changes", "rejected", "changes_requested")],
)
def test_one_no_ends_it(control: ControlPlane, decision: str, ends: str, past: str) -> None:
    decide(control, "engineer", "review")
    assert decide(control, "owner", "own", decision) == ends
    record = control.version(PEOPLE["engineer"], "flights", 1)
    assert record["reason"] == f"omar: {REASON}" and record["release"] is None
    assert actions(control)[-1] == f"review.{past}"
    with pytest.raises(Conflict, match="not in review"):
        decide(control, "compliance", "comply")


def test_a_version_that_was_taken_back_cannot_be_decided(control: ControlPlane) -> None:
    control.council.withdraw(PEOPLE["amira"], "flights", 1, "trained on the wrong months")
    record = control.version(PEOPLE["engineer"], "flights", 1)
    assert (record["state"], record["reason"]) == ("withdrawn", "trained on the wrong months")
    assert control.council.inbox(PEOPLE["engineer"]) == []
    with pytest.raises(Conflict, match="not in review"):
        decide(control, "engineer", "review")
    with pytest.raises(Conflict):
        control.council.withdraw(PEOPLE["amira"], "flights", 1, "again")
    assert actions(control) == ["version.withdrawn"]


def mail(port: int) -> str:
    return f"mailto://127.0.0.1:{port}/?from=majlis@example.org&to=team@example.org&mode=insecure"


def late(control: ControlPlane) -> None:
    with control.store.session() as session:
        versions.find(session, "flights", 1).due_at = clock.now() - timedelta(hours=1)


def test_people_are_told_by_mail_and_by_webhook(tmp_path: Path) -> None:
    letters, web = Mail(), Web()
    with (
        serving(letters) as smtp,
        serving(web) as http,
        opened(tmp_path / "home", mail(smtp), f"json://127.0.0.1:{http}") as control,
    ):
        waiting(control)
        who = PEOPLE["compliance"]
        control.council.delegate(who, "flights", 1, "comply", "dora", OTHERS["dora"], "On leave until May.")
        late(control)
        control.remind()
        control.remind()  # once is enough
        decide(control, "owner", "own", "reject")
        until(lambda: len(web.bodies) == 3 and len(letters.messages) == 3)
    kinds = ["review delegated", "review overdue", "review rejected"]
    assert [body["title"] for body in web.bodies] == [f"Majlis: flights/1: {kind}" for kind in kinds]
    assert "dora, decide about it as comply" in web.bodies[0]["message"]
    overdue = "flights version 1 still waits for engineer, owner, compliance (dora, by delegation)."
    assert web.bodies[1]["message"].startswith(overdue)
    assert all("To: team@example.org" in each for each in letters.messages)
    assert all(any(kind in each for each in letters.messages) for kind in kinds)


def test_dead_channels_hold_up_no_decision(tmp_path: Path) -> None:
    web = Web()
    with socket.socket() as silent, serving(web) as http:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # takes connections, never answers
        quiet = silent.getsockname()[1]
        urls = (mail(quiet), "json://127.0.0.1:1", f"json://127.0.0.1:{quiet}", f"json://127.0.0.1:{http}")
        with opened(tmp_path / "home", *urls) as control:
            waiting(control)
            late(control)
            control.remind()
            assert [decide(control, *step) for step in ROUND][-1] == "approved"
            until(lambda: state(control) == State.RELEASED)
            delivered = [counts.delivered for counts in control.events.counts().values()]
            assert delivered[:3] == [0, 0, 0]
            until(lambda: len(web.bodies) == 5)
    titles = [body["title"].rpartition(": ")[2] for body in web.bodies]
    assert titles == ["review overdue", *["review approved"] * 3, "release signed"]


def test_the_command_line_lists_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    with opened(home) as control:
        waiting(control)
        who = PEOPLE["compliance"]
        control.council.delegate(who, "flights", 1, "comply", "dora", OTHERS["dora"], "On leave until May.")
    monkeypatch.setenv("MAJLIS_WORKBENCH_HOME", str(home))
    monkeypatch.delenv("MAJLIS_URL", raising=False)
    with pytest.raises(SystemExit) as end:
        cli.main(["reviews"])
    assert end.value.code == 0
    head, row = capsys.readouterr().out.strip().splitlines()
    assert head.split()[:2] == ["model", "version"]
    assert "engineer, owner, compliance (dora, by delegation)" in row
