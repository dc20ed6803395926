"""What a decision is bound to, and what happens when it is handed to somebody else."""

import pytest
from starlette.testclient import TestClient

from majlis import audit
from majlis.access import Principal
from majlis.control.api import create_app
from majlis.control.service import ControlPlane
from majlis.registry import versions
from tests.support.council import API, OTHERS, PEOPLE, REASON, SHOWN, Asking, person, ruling

VERSION = f"{API}/models/flights/versions/1"
PAGE = "/services/majlis/models/flights/1"


def handover(to: str, chair: str = "comply") -> dict[str, str]:
    return {"as": chair, "to": to, "reason": "On leave until the first of May."}


@pytest.mark.parametrize("field", SHOWN)
def test_a_decision_says_what_it_is_about(
    http: TestClient, control: ControlPlane, identity: Asking, things: None, field: str
) -> None:
    identity.who = PEOPLE["engineer"]
    body = ruling("review")
    absent = http.post(f"{VERSION}/reviews", json={name: body[name] for name in body if name != field})
    assert absent.status_code == 422
    assert f"{field} missing" in absent.json()["detail"]
    assert "/models/flights/versions/1" in absent.json()["remedy"]
    stale = http.post(f"{VERSION}/reviews", json=body | {field: "2" * 64})
    assert stale.status_code == 409 and f"{field} changed" in stale.json()["detail"]
    assert "again" in stale.json()["remedy"]
    assert control.version(PEOPLE["engineer"], "flights", 1)["reviews"] == []
    assert http.post(f"{VERSION}/reviews", json=body).status_code == 201


def test_the_delegate_decides_and_the_delegator_does_not(
    http: TestClient, control: ControlPlane, identity: Asking, things: None
) -> None:
    with control.store.reading() as session:
        before = audit.head(session)[0]
    identity.who = PEOPLE["compliance"]
    answer = http.post(f"{VERSION}/delegations", json=handover("dora"))
    assert answer.status_code == 201, answer.text
    (made,) = answer.json()["delegations"]
    assert (made["chair"], made["principal"], made["delegate"]) == ("comply", "carla", "dora")
    refused = http.post(f"{VERSION}/reviews", json=ruling("comply"))
    assert (
        refused.status_code == 403 and "handed the decision as 'comply' to dora" in refused.json()["detail"]
    )
    assert http.post(f"{VERSION}/delegations", json=handover("emil")).status_code == 403

    identity.who = OTHERS["dora"]
    back = http.post(f"{VERSION}/delegations", json=handover("carla"))
    assert back.status_code == 409 and "handed this decision over before" in back.json()["detail"]
    decided = http.post(f"{VERSION}/reviews", json=ruling("comply"))
    assert decided.status_code == 201 and decided.json()["reviews"][0]["principal"] == "dora"

    trail = http.get(f"{API}/audit", params={"subject": "flights/1", "after": before}).json()
    assert [(each["principal"], each["action"]) for each in trail] == [
        ("carla", "review.delegated"),
        ("dora", "review.approved"),
    ]
    detail = {"chair": "comply", "delegate": "dora", "reason": "On leave until the first of May."}
    assert trail[0]["detail"] == detail
    told = http.get(f"{API}/audit/story/flights/1").json()["chapters"]
    steps = [(each["by"], each["what"]) for each in told if each["chapter"] == "approval"]
    waits = ("", "waits for engineer, owner")
    assert steps == [("carla", "comply delegated to dora"), ("dora", "approve as comply"), waits]


def test_another_of_the_role_may_still_decide(http: TestClient, identity: Asking, things: None) -> None:
    identity.who = PEOPLE["compliance"]
    assert http.post(f"{VERSION}/delegations", json=handover("dora")).status_code == 201
    identity.who = OTHERS["emil"]
    assert http.post(f"{VERSION}/reviews", json=ruling("comply")).status_code == 201


@pytest.mark.parametrize(
    ("to", "status", "words"),
    [
        ("zoe", 404, "Nobody is called 'zoe'"),
        ("../noor", 404, "Nobody is called"),
        ("", 404, "Nobody is called"),
        ("carla", 422, "cannot delegate to yourself"),
        ("omar", 422, "omar is not compliance"),
        ("amira", 422, "amira is not compliance"),
        ("emil", 409, "emil has decided on this version already, as 'review'"),
    ],
)
def test_who_cannot_be_named(
    http: TestClient, identity: Asking, things: None, to: str, status: int, words: str
) -> None:
    identity.who = OTHERS["emil"]
    assert http.post(f"{VERSION}/reviews", json=ruling("review")).status_code == 201
    identity.who = PEOPLE["compliance"]
    answer = http.post(f"{VERSION}/delegations", json=handover(to))
    assert answer.status_code == status and words in answer.json()["detail"] and answer.json()["remedy"]
    assert http.get(VERSION).json()["delegations"] == []


class Lenient(Asking):
    """A hub that finds people however their name is written."""

    async def person(self, name: str) -> Principal | None:
        return await super().person(name.strip().lower())


def test_who_is_named_in_another_spelling_is_still_that_person(control: ControlPlane, things: None) -> None:
    identity = Lenient()
    http = TestClient(create_app(control, identity), base_url="http://majlis")
    identity.who = PEOPLE["compliance"]
    assert http.post(f"{VERSION}/delegations", json=handover(" DORA")).status_code == 201
    assert [each["delegate"] for each in http.get(VERSION).json()["delegations"]] == ["dora"]
    identity.who = OTHERS["dora"]
    back = http.post(f"{VERSION}/delegations", json=handover("Carla"))
    assert back.status_code == 409 and "handed this decision over before" in back.json()["detail"]


def test_a_maker_cannot_be_named(
    http: TestClient, control: ControlPlane, identity: Asking, things: None
) -> None:
    with control.store.session() as session:
        versions.find(session, "flights", 1).makers = ["amira", "dora"]
    identity.who = PEOPLE["compliance"]
    answer = http.post(f"{VERSION}/delegations", json=handover("dora"))
    assert answer.status_code == 422 and "dora made or requested" in answer.json()["detail"]


def test_who_cannot_delegate(http: TestClient, identity: Asking, things: None) -> None:
    delegations = f"{VERSION}/delegations"
    identity.who = person("amira", *PEOPLE["compliance"].roles)
    assert http.post(delegations, json=handover("dora")).status_code == 403  # it is hers
    identity.who = PEOPLE["compliance"]
    short = http.post(delegations, json=handover("dora") | {"reason": "leave"})
    assert short.status_code == 422 and "too short" in short.json()["detail"]
    assert http.post(f"{VERSION}/reviews", json=ruling("comply")).status_code == 201
    late = http.post(delegations, json=handover("dora"))
    assert late.status_code == 409 and "already" in late.json()["detail"]
    identity.who = OTHERS["dora"]
    done = http.post(delegations, json=handover("emil"))
    assert done.status_code == 409 and "approved as 'comply' already" in done.json()["detail"]
    released = http.post(f"{API}/models/flights/versions/2/delegations", json=handover("emil"))
    assert released.status_code == 409 and "not in review" in released.json()["detail"]


def test_one_person_is_not_named_twice(http: TestClient, identity: Asking, things: None) -> None:
    identity.who = PEOPLE["engineer"]
    assert http.post(f"{VERSION}/delegations", json=handover("emil", "review")).status_code == 201
    identity.who = PEOPLE["compliance"]
    second = http.post(f"{VERSION}/delegations", json=handover("emil"))
    assert second.status_code == 409 and "named to decide as 'review' already" in second.json()["detail"]


def test_the_page_delegates_without_javascript(http: TestClient, identity: Asking, things: None) -> None:
    identity.who = PEOPLE["compliance"]
    page = http.get(PAGE)
    assert f'action="{PAGE}/delegate"' in page.text and "<script" not in page.text
    form = {"chair": "comply", "delegate": "omar"} | REASON
    refused = http.post(f"{PAGE}/delegate", data=form)
    assert refused.status_code == 422 and "omar is not compliance" in refused.text
    done = http.post(f"{PAGE}/delegate", data=form | {"delegate": "dora"}, follow_redirects=False)
    assert (done.status_code, done.headers["location"]) == (303, PAGE)
    after = http.get(PAGE).text
    assert "<h2>Delegations</h2>" in after and REASON["reason"] in after
    assert f'action="{PAGE}/decide"' not in after and f'action="{PAGE}/delegate"' not in after
    assert "compliance (dora, by delegation)" in http.get("/services/majlis/reviews").text
    identity.who = OTHERS["dora"]
    assert f'action="{PAGE}/decide"' in http.get(PAGE).text


def test_the_page_takes_no_delegation_from_a_kernel(
    http: TestClient, control: ControlPlane, identity: Asking, things: None
) -> None:
    identity.who = PEOPLE["kernel"]
    form = {"chair": "review", "delegate": "lina"} | REASON
    assert http.post(f"{PAGE}/delegate", data=form).status_code == 403
    assert control.version(PEOPLE["engineer"], "flights", 1)["delegations"] == []
