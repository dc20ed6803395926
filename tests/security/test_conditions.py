"""A change that depends on what its author looked at: refused when that changed, in the same transaction."""

import threading
from collections import Counter
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from majlis import clock
from majlis.control import conditions
from majlis.control.service import ControlPlane
from majlis.registry import versions
from majlis.serving.counts import Observation
from majlis.serving.rollout import Phase, Plan, begin
from tests.support.council import API, OTHERS, PEOPLE, REASON, Asking, ruling

VERSION = "/models/flights/versions/1"
READ = [VERSION, "/models/flights", "/deployments/live"]


def seen(http: TestClient, path: str) -> str:
    """The ETag of what is there."""
    answer = http.get(f"{API}{path}")
    assert answer.status_code == 200, answer.text
    etag = answer.headers["ETag"]
    assert etag.startswith('"') and etag.endswith('"') and not etag.startswith("W/")
    return str(etag)


# who, method, path, body, whose ETag; each may happen once
CHANGES: list[tuple[str, str, str, Any, str]] = [
    ("owner", "POST", f"{VERSION}/reviews", ruling("own"), VERSION),
    ("compliance", "POST", f"{VERSION}/delegations", {"as": "comply", "to": "dora"} | REASON, VERSION),
    ("amira", "POST", f"{VERSION}/withdraw", REASON, VERSION),
    ("amira", "PUT", "/deployments/live", {"release": "flights-2"}, "/deployments/live"),
    ("amira", "POST", "/deployments/live/rollback", REASON, "/deployments/live"),
    ("amira", "POST", "/deployments/live/keys", {"days": 1}, "/deployments/live"),
    ("amira", "DELETE", "/deployments/live", None, "/deployments/live"),
]


@pytest.mark.parametrize("path", READ)
def test_what_the_caller_has_is_not_sent_again(
    http: TestClient, identity: Asking, things: None, path: str
) -> None:
    identity.who = PEOPLE["engineer"]
    etag = seen(http, path)
    again = http.get(f"{API}{path}", headers={"If-None-Match": f'"other", W/{etag}'})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    assert http.get(f"{API}{path}", headers={"If-None-Match": '"other"'}).status_code == 200
    assert "no-cache" in again.headers["Cache-Control"]


@pytest.mark.parametrize("path", ["/models", "/reviews", "/deployments", "/audit", f"{VERSION}/review.ipynb"])
def test_every_other_answer_has_a_tag_too(
    http: TestClient, identity: Asking, things: None, path: str
) -> None:
    identity.who = PEOPLE["engineer"]
    again = http.get(f"{API}{path}", headers={"If-None-Match": seen(http, path)})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("who", "method", "path", "body", "tagged"), CHANGES, ids=[f"{c[1]} {c[2]}" for c in CHANGES]
)
def test_a_change_happens_only_to_what_was_seen(
    http: TestClient, identity: Asking, things: None, who: str, method: str, path: str, body: Any, tagged: str
) -> None:
    identity.who = PEOPLE[who]
    before = http.get(f"{API}{tagged}").json()
    etag = seen(http, tagged)
    stale = f'"{"0" * 32}.{"0" * 32}"'
    for header in (stale, f"W/{etag}"):
        refused = http.request(method, f"{API}{path}", json=body, headers={"If-Match": header})
        assert refused.status_code == 412, refused.text
        problem = refused.json()
        assert problem["type"] == "urn:majlis:Changed" and tagged in problem["detail"]
        assert "again" in problem["remedy"]
    assert http.get(f"{API}{tagged}").json() == before
    both = {"If-Match": f"{stale}, {etag}"}
    done = http.request(method, f"{API}{path}", json=body, headers=both)
    assert done.is_success, done.text
    if method != "DELETE" and not path.endswith("/keys") and "live" not in path:
        assert seen(http, tagged) != etag


def test_deleting_needs_a_state(http: TestClient, identity: Asking, things: None) -> None:
    identity.who = PEOPLE["amira"]
    refused = http.delete(f"{API}/deployments/live")
    assert refused.status_code == 428 and refused.json()["type"] == "urn:majlis:NotLookedAt"
    assert "/deployments/live" in refused.json()["remedy"] and "If-Match" in refused.json()["remedy"]
    assert http.get(f"{API}/deployments/live").status_code == 200
    assert http.delete(f"{API}/deployments/live", headers={"If-Match": "*"}).status_code == 204


def test_a_header_that_is_no_tag_is_refused(http: TestClient, identity: Asking, things: None) -> None:
    identity.who = PEOPLE["amira"]
    for header in ("live-1", '"open', "'x'"):
        answer = http.post(f"{API}/deployments/live/rollback", json=REASON, headers={"If-Match": header})
        assert answer.status_code == 422 and "entity tags" in answer.json()["detail"]


def test_put_makes_a_deployment_only_where_there_is_none(
    http: TestClient, identity: Asking, things: None
) -> None:
    identity.who = PEOPLE["amira"]
    none, some = {"If-None-Match": "*"}, {"If-Match": "*"}
    body = {"release": "flights-2"}
    assert http.put(f"{API}/deployments/live", json=body, headers=none).status_code == 412
    assert http.put(f"{API}/deployments/fresh", json=body, headers=some).status_code == 412
    assert http.get(f"{API}/deployments/fresh").status_code == 404
    made = http.put(f"{API}/deployments/fresh", json=body, headers=none)
    assert made.status_code == 200
    kept = made.headers["ETag"].strip('"').partition(".")[0]
    assert seen(http, "/deployments/fresh").strip('"').partition(".")[0] == kept


def test_the_release_that_was_seen_is_revoked(
    http: TestClient, control: ControlPlane, identity: Asking, things: None
) -> None:
    identity.who, path = PEOPLE["admin"], f"{API}/releases/flights-2/revoke"
    etag = f'"{control.conditions.state(conditions.release("flights-2"))}"'
    assert http.post(path, json=REASON, headers={"If-Match": '"0"'}).status_code == 412
    assert control.version(PEOPLE["admin"], "flights", 2)["state"] == "released"
    assert http.post(path, json=REASON, headers={"If-Match": etag}).status_code == 200


def test_the_rollout_that_was_seen_is_promoted(
    http: TestClient, control: ControlPlane, identity: Asking, things: None
) -> None:
    identity.who, path = PEOPLE["amira"], f"{API}/deployments/live/rollout"
    with control.store.session() as session:
        row = versions.find_deployment(session, "live")
        for release in row.revisions:
            release.weight = 0.5
        state = begin("live", "1", "2", Plan(), clock.now(), Observation())
        now = clock.now()
        row.rollouts.append(
            versions.RolloutRow(
                phase=Phase.RUNNING.value,
                state=msgspec.to_builtins(state),
                created_by="amira",
                created_at=now,
                updated_at=now,
            )
        )
    etag = http.get(path).headers["ETag"]
    stale = http.post(f"{path}/promote", json=REASON, headers={"If-Match": '"0.0"'})
    assert stale.status_code == 412 and http.get(path).headers["ETag"] == etag
    assert http.post(f"{path}/promote", json=REASON, headers={"If-Match": etag}).status_code == 200


def test_of_two_who_saw_the_same_one_is_too_late(
    http: TestClient, control: ControlPlane, identity: Asking, things: None
) -> None:
    """Both are past the look when they arrive: only asking inside the transaction tells them apart."""
    identity.who = PEOPLE["amira"]
    etag, together, answers = seen(http, VERSION), threading.Barrier(2), Counter[int]()

    def withdraw() -> None:
        together.wait()
        answer = http.post(f"{API}{VERSION}/withdraw", json=REASON, headers={"If-Match": etag})
        answers[answer.status_code] += 1

    threads = [threading.Thread(target=withdraw) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {200: 1, 412: 1}


def test_an_approval_by_a_colleague_is_no_obstacle(http: TestClient, identity: Asking, things: None) -> None:
    """A decision is bound by its digests; If-Match is there for who wants more."""
    identity.who = PEOPLE["compliance"]
    etag = seen(http, VERSION)
    identity.who = PEOPLE["engineer"]
    assert http.post(f"{API}{VERSION}/reviews", json=ruling("review")).status_code == 201
    identity.who = OTHERS["dora"]
    strict = http.post(f"{API}{VERSION}/reviews", json=ruling("comply"), headers={"If-Match": etag})
    assert strict.status_code == 412
    assert http.post(f"{API}{VERSION}/reviews", json=ruling("comply")).status_code == 201
