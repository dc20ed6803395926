"""Every endpoint of the control plane × every role × own and foreign things: allowed or refused."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from majlis import audit, clock
from majlis.access import Role
from majlis.control.api import PROBLEM
from majlis.control.service import ControlPlane
from majlis.errors import Tampered
from majlis.files import write_whole
from majlis.registry import versions
from majlis.settings import load
from tests.support.council import (
    API,
    NOTEBOOK,
    PEOPLE,
    REASON,
    SHOWN,
    Asking,
    in_review,
    person,
    ruling,
)

READERS = frozenset(PEOPLE) - {"nothing"}
AMIRA_OR_ADMIN = frozenset({"amira", "admin"})
DEVELOPERS = frozenset({"amira", "ben", "engineer", "kernel"})

REGISTRATION = {
    "model_uri": "models:/m-0",
    "evaluation": {"table": "gold.none", "version": 0, "target": "late"},
    "facts": {
        "purpose": "Warn planners early.",
        "personal_data": False,
        "affected_people": "none",
        "autonomy": "advises",
    },
}
MEASUREMENT = {"id": "1", "kind": "pipeline", "subject": "flights", "cpu_seconds": 1.0}
ALARM = {"name": "nightly", "cron": "0 2 * * *", "due": "2100-01-01T02:00:00Z", "profile": "gpu"}


def handover(chair: str, to: str) -> dict[str, str]:
    return {"as": chair, "to": to} | REASON


# method, path, body, who is let in; everybody else must be refused
TABLE: list[tuple[str, str, Any, frozenset[str]]] = [
    ("GET", "/whoami", None, frozenset(PEOPLE)),
    ("GET", "/health", None, frozenset(PEOPLE)),
    ("GET", "/models", None, READERS),
    ("GET", "/models/flights", None, READERS),
    ("GET", "/models/flights/versions", None, READERS),
    ("GET", "/models/flights/versions/1", None, READERS),
    ("GET", "/models/flights/versions/1/card", None, READERS),
    ("GET", "/models/flights/versions/1/review", None, READERS),
    ("GET", "/models/flights/versions/1/review.ipynb", None, READERS),
    ("POST", "/models/flights/versions", REGISTRATION, DEVELOPERS),
    ("POST", "/models/flights/versions/1/reviews", ruling("review"), frozenset({"engineer"})),
    ("POST", "/models/flights/versions/1/reviews", ruling("own"), frozenset({"owner"})),
    ("POST", "/models/flights/versions/1/reviews", ruling("comply"), frozenset({"compliance"})),
    ("POST", "/models/flights/versions/1/delegations", handover("review", "lina"), frozenset({"engineer"})),
    ("POST", "/models/flights/versions/1/delegations", handover("own", "odd"), frozenset({"owner"})),
    ("POST", "/models/flights/versions/1/delegations", handover("comply", "dora"), frozenset({"compliance"})),
    ("POST", "/models/flights/versions/1/withdraw", REASON, frozenset({"amira"})),
    ("GET", "/reviews", None, READERS),
    ("GET", "/releases/flights-2", None, READERS),
    ("GET", "/releases/flights-2/bundle", None, READERS),
    ("POST", "/releases/flights-2/revoke", REASON, frozenset({"admin"})),
    ("GET", "/deployments", None, READERS),
    ("GET", "/deployments/live", None, READERS),
    ("PUT", "/deployments/live", {"release": "flights-2"}, AMIRA_OR_ADMIN),
    ("POST", "/deployments/live/rollback", REASON, AMIRA_OR_ADMIN),
    ("PUT", "/deployments/live", {"release": "flights-2", "strategy": "canary"}, AMIRA_OR_ADMIN),
    ("GET", "/deployments/live/preview?model=flights&version=2", None, READERS),
    ("GET", "/deployments/live/traffic", None, READERS),
    ("GET", "/deployments/live/rollout", None, READERS),
    ("POST", "/deployments/live/rollout/promote", REASON, AMIRA_OR_ADMIN),
    ("POST", "/deployments/live/rollout/outcomes", {"ids": ["r-1"], "labels": [1]}, AMIRA_OR_ADMIN),
    ("POST", "/deployments/live/rollout/abort", REASON, AMIRA_OR_ADMIN),
    ("POST", "/deployments/live/keys", {"days": 1}, AMIRA_OR_ADMIN),
    ("GET", "/deployments/live/keys", None, READERS),
    ("POST", "/deployments/live/keys/key-amira/withdraw", REASON, frozenset({"amira", "engineer", "admin"})),
    ("POST", "/deployments/live/tokens", None, AMIRA_OR_ADMIN),
    ("POST", "/people/amira/tokens/revoke", REASON, AMIRA_OR_ADMIN),
    ("GET", "/deployments/live/predictions", None, AMIRA_OR_ADMIN),
    ("DELETE", "/deployments/live", None, AMIRA_OR_ADMIN),
    ("POST", "/policy/test", {"policy": Path("hub_config/policy.yaml").read_text()}, READERS),
    ("POST", "/meters", [MEASUREMENT], DEVELOPERS),
    ("GET", "/costs", None, READERS),
    ("GET", "/alarms", None, READERS),
    ("PUT", "/alarms", [ALARM], DEVELOPERS),
    ("GET", "/audit", None, READERS),
    ("GET", "/audit/story/flights-2", None, READERS),
    ("GET", "/audit/verify", None, READERS),
]


def call(http: TestClient, method: str, path: str, body: Any) -> httpx.Response:
    headers = {"If-Match": "*"} if method == "DELETE" else {}  # it is required there
    return http.request(method, f"{API}{path}", json=body, headers=headers)


@pytest.mark.parametrize("who", PEOPLE)
@pytest.mark.parametrize(
    ("method", "path", "body", "allowed"),
    TABLE,
    ids=[
        f"{method} {path} {body.get('as', body.get('strategy', '')) if isinstance(body, dict) else ''}"
        for method, path, body, _ in TABLE
    ],
)
def test_table(
    http: TestClient,
    identity: Asking,
    things: None,
    who: str,
    method: str,
    path: str,
    body: Any,
    allowed: frozenset[str],
) -> None:
    identity.who = PEOPLE[who]
    answer = call(http, method, path, body)
    assert answer.status_code < 500, answer.text
    if who in allowed:
        assert answer.status_code not in (401, 403), answer.text
    else:
        assert answer.status_code == 403, answer.text
        problem = answer.json()
        assert answer.headers["content-type"] == PROBLEM and problem["detail"] and problem["remedy"]


def test_table_is_complete(http: TestClient) -> None:
    """An endpoint that nobody thought about is a hole."""
    known = {(method, shape(path.partition("?")[0])) for method, path, _, _ in TABLE}
    document = http.get("/services/majlis/openapi.json").json()
    served = {
        (method.upper(), shape(path.removeprefix(API)))
        for path, operations in document["paths"].items()
        for method in operations
        if path.startswith(API)
    }
    assert served == known


NAMES = {"flights", "live", "flights-2", "1", "amira", "key-amira"}


def shape(path: str) -> str:
    """A path with its parameters left out."""
    return "/".join(
        "*" if part in NAMES or part.startswith("{") else part for part in path.partition("?")[0].split("/")
    )


@pytest.mark.parametrize(("method", "path", "body", "allowed"), TABLE)
def test_strangers_are_asked_to_sign_in(
    http: TestClient, method: str, path: str, body: Any, allowed: frozenset[str]
) -> None:
    expected = 200 if path == "/health" else 401
    assert call(http, method, path, body).status_code == expected


def test_an_alarm_is_the_callers_own(http: TestClient, identity: Asking, things: None) -> None:
    for who in ("amira", "ben"):
        identity.who = PEOPLE[who]
        assert call(http, "PUT", "/alarms", [ALARM]).status_code == 200
    for field in ("principal", "user", "person"):
        forged = call(http, "PUT", "/alarms", [ALARM | {field: "amira"}])
        assert forged.status_code == 422 and field in forged.json()["detail"]
    assert call(http, "PUT", "/alarms", []).json() == []  # withdraws Ben's
    assert call(http, "GET", "/alarms", None).json() == []
    identity.who = PEOPLE["amira"]
    assert [one["name"] for one in call(http, "GET", "/alarms", None).json()] == ["nightly"]


@pytest.mark.parametrize("field", ["principal", "owner", "user", "makers", "approved_by", "scopes"])
def test_no_field_says_who_calls(http: TestClient, identity: Asking, things: None, field: str) -> None:
    """A forged identity in a body is refused as unknown; in a query or a header it changes nothing."""
    identity.who = PEOPLE["ben"]
    forged = call(http, "POST", "/models/flights/versions/1/reviews", ruling("review") | {field: "noor"})
    assert forged.status_code == 422 and field in forged.json()["detail"]
    assert http.get(f"{API}/whoami?{field}=root", headers={f"X-{field}": "root"}).json()["name"] == "ben"


def test_nobody_decides_on_their_own_nor_twice(http: TestClient, identity: Asking, things: None) -> None:
    reviews = "/models/flights/versions/1/reviews"
    identity.who = person("amira", *Role)
    assert "made or requested" in call(http, "POST", reviews, ruling("review")).json()["detail"]
    identity.who = person("noor", *Role)
    assert call(http, "POST", reviews, ruling("review")).status_code == 201
    second = call(http, "POST", reviews, ruling("own"))
    assert second.status_code == 409 and "already" in second.json()["detail"]
    identity.who = PEOPLE["owner"]
    assert "too short" in call(http, "POST", reviews, ruling("own") | {"reason": "ok"}).json()["detail"]


def test_three_people_approve_and_the_trail_tells_it(
    http: TestClient, control: ControlPlane, identity: Asking, things: None
) -> None:
    reviews, states = "/models/flights/versions/1/reviews", []
    with control.store.reading() as session:
        before = audit.head(session)[0]
    for who, chair in (("engineer", "review"), ("owner", "own"), ("compliance", "comply")):
        identity.who = PEOPLE[who]
        states.append(call(http, "POST", reviews, ruling(chair)).json()["state"])
    assert states == ["in review", "in review", "approved"]
    trail = call(http, "GET", f"/audit?subject=flights/1&after={before}", None).json()
    assert [(record["principal"], record["action"]) for record in trail] == [
        (name, "review.approved") for name in ("noor", "omar", "carla")
    ]
    assert call(http, "GET", "/audit/verify", None).json()["ok"]


def test_a_rejection_ends_it(http: TestClient, identity: Asking, things: None) -> None:
    identity.who = PEOPLE["compliance"]
    refusal = ruling("comply") | {"decision": "reject"}
    assert call(http, "POST", "/models/flights/versions/1/reviews", refusal).json()["state"] == "rejected"
    identity.who = PEOPLE["engineer"]
    after = call(http, "POST", "/models/flights/versions/1/reviews", ruling("review"))
    assert after.status_code == 409 and "rejected" in after.json()["detail"]


def test_pages_offer_a_decision_only_to_who_may_decide(
    http: TestClient, control: ControlPlane, identity: Asking, things: None
) -> None:
    page = "/services/majlis/models/flights/1"
    for who, offered in (("engineer", True), ("kernel", False), ("ben", False)):
        identity.who = PEOPLE[who]
        answer = http.get(page)
        assert (f'action="{page}/decide"' in answer.text) is offered, who
        assert answer.headers["x-frame-options"] == "DENY" and "<script" not in answer.text
    identity.who = PEOPLE["ben"]
    form = {"decision": "approve", "chair": "review"} | REASON | SHOWN
    assert http.post(f"{page}/decide", data=form).status_code == 403
    identity.who = PEOPLE["engineer"]
    for name in SHOWN:
        assert http.post(f"{page}/decide", data=form | {name: "2" * 64}).status_code == 409, name
    assert http.post(f"{page}/decide", data=form, follow_redirects=False).status_code == 303
    assert REASON["reason"] in http.get(page).text


def test_the_review_notebook_is_shown_inert(http: TestClient, identity: Asking, things: None) -> None:
    identity.who = PEOPLE["compliance"]
    answer = http.get(f"{API}/models/flights/versions/1/review")
    policy = answer.headers["content-security-policy"]
    assert "What the checks found" in answer.text and "<script" not in answer.text
    assert policy.startswith("default-src 'none'") and "sandbox" in policy and "allow-scripts" not in policy
    assert (
        f'src="{API}/models/flights/versions/1/review"' in http.get("/services/majlis/models/flights/1").text
    )


def test_nobody_decides_on_a_review_notebook_that_is_missing_or_changed(
    http: TestClient, control: ControlPlane, identity: Asking, things: None
) -> None:
    identity.who, reviews = PEOPLE["engineer"], f"{API}/models/flights/versions/1/reviews"
    write_whole(control.evidence.path("flights", 1), NOTEBOOK + " ")
    changed = http.post(reviews, json=ruling("review"))
    assert changed.status_code == Tampered.status and "not the one that was made" in changed.json()["detail"]
    control.evidence.path("flights", 1).unlink()
    assert http.post(reviews, json=ruling("review")).status_code == Tampered.status
    with control.store.session() as session:
        versions.find(session, "flights", 1).evidence = ""
    assert http.post(reviews, json=ruling("review")).status_code == 409
    assert control.version(PEOPLE["engineer"], "flights", 1)["reviews"] == []


def test_a_write_that_is_sent_twice_is_done_once(
    http: TestClient, control: ControlPlane, identity: Asking, things: None
) -> None:
    identity.who, key = PEOPLE["engineer"], {"Idempotency-Key": "approve-1"}
    reviews, body = f"{API}/models/flights/versions/1/reviews", ruling("review")
    first, second = (http.post(reviews, json=body, headers=key) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201) and first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    other = http.post(reviews, json=body | {"reason": "another reason than before"}, headers=key)
    assert other.status_code == 409 and "another request" in other.json()["detail"]
    identity.who = PEOPLE["owner"]
    assert http.post(reviews, json=ruling("own"), headers=key).status_code == 201


def test_a_secret_is_shown_once_and_not_kept(
    http: TestClient, control: ControlPlane, identity: Asking, things: None
) -> None:
    identity.who, key = PEOPLE["amira"], {"Idempotency-Key": "key-1"}
    answers = [http.post(f"{API}/deployments/live/keys", json={"days": 1}, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 409]
    shown = answers[0].json()["key"]
    with control.store.reading() as session:
        kept = session.connection().exec_driver_sql("SELECT body FROM idempotency_key").scalars().all()
        trail = session.connection().exec_driver_sql("SELECT detail FROM audit").scalars().all()
        keys = session.connection().exec_driver_sql("SELECT sha256 FROM api_key").scalars().all()
    assert not any(shown in text for text in [*kept, *trail, *keys])


def test_overdue_decisions_are_told_once(control: ControlPlane, things: None) -> None:
    with control.store.session() as session:
        before = audit.head(session)[0]
        versions.find(session, "flights", 1).due_at = clock.now() - timedelta(hours=1)
    control.remind()
    control.remind()
    with control.store.reading() as session:
        found = audit.records(session, action="review.overdue", after=before)
    assert [record.detail["waiting_for"] for record in found] == [["review", "own", "comply"]]


def test_another_policy_voids_what_was_approved_under_the_old_one(tmp_path: Path) -> None:
    def opened(policy: Path) -> ControlPlane:
        places = {"MAJLIS_WORKBENCH_HOME": str(tmp_path / "home"), "MAJLIS_POLICY_FILE": str(policy)}
        return ControlPlane(load(environ=places)).open()

    old, new = Path("hub_config/policy.yaml").resolve(), tmp_path / "policy.yaml"
    new.write_text(old.read_text() + "\n# stricter times\n")
    control = opened(old)
    policy = control.policy.digest
    with control.store.session() as session:
        in_review(control, session, policy=policy)
    who = PEOPLE["engineer"]
    given = control.council.decide(
        who, "flights", 1, "review", "approve", REASON["reason"], SHOWN | {"policy": policy}
    )
    assert given["reviews"][0]["void"] == ""
    control.close()

    control = opened(new)
    record = control.version(who, "flights", 1)
    assert record["reviews"][0]["void"] == "the policy changed"
    assert record["policy"] == control.policy.digest != policy
    assert record["tier"] == "low"  # what was declared, judged anew: the row said high without a reason
    assert "review.voided" in {entry.action for entry in control.trail(who, subject="flights/1")}
    control.close()


def test_the_keys_of_others_are_not_told(
    http: TestClient, control: ControlPlane, identity: Asking, things: None
) -> None:
    seen = {}
    for who in ("amira", "ben", "engineer", "admin", "kernel"):
        identity.who = PEOPLE[who]
        answer = http.get(f"{API}/deployments/live/keys")
        seen[who] = [row["id"] for row in answer.json()]
        assert "sha256" not in answer.text and "a" * 64 not in answer.text
    assert seen == {
        "amira": ["key-amira"],
        "engineer": ["key-amira"],
        "admin": ["key-amira"],
        "ben": [],
        "kernel": [],
    }


def test_a_key_is_withdrawn_once_with_a_reason_and_on_record(
    http: TestClient, control: ControlPlane, identity: Asking, things: None
) -> None:
    path = f"{API}/deployments/live/keys/key-amira/withdraw"
    identity.who = PEOPLE["ben"]  # who cannot find out which keys others have
    assert [http.post(each, json=REASON).status_code for each in (path, f"{path[:-9]}-x/withdraw")] == [
        403,
        403,
    ]
    identity.who = PEOPLE["engineer"]
    assert http.post(f"{path[:-9]}-x/withdraw", json=REASON).status_code == 404
    assert http.post(path, json={"reason": " "}).status_code == 422
    assert http.post(path.replace("live", "other"), json=REASON).status_code == 404
    gone = http.post(path, json=REASON)
    assert gone.status_code == 200 and gone.json()["state"] == "withdrawn"
    again = http.post(path, json=REASON)
    assert again.status_code == 409 and "noor" in again.json()["detail"]
    record = control.trail(PEOPLE["admin"], action="key.withdrawn", newest=True, limit=1)[0]
    assert (record.principal, record.subject) == ("noor", "live")
    assert record.detail == {"key": "key-amira", "owner": "amira", "reason": REASON["reason"]}
