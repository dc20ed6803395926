"""Listings in pages: each row once and in order, whatever is added meanwhile; made-up cursors are refused."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from majlis import audit, clock
from majlis.control.service import ControlPlane
from majlis.cost import meter
from majlis.registry import versions
from majlis.registry.versions import DeploymentRow
from tests.support.council import API, PEOPLE, Asking, columns, emptied, in_review

Add = Callable[[ControlPlane, Session, int], None]  # makes the row number n of a listing


def a_model(control: ControlPlane, session: Session, n: int) -> None:
    versions.add(session, f"model-{n:02d}", 1, "amira", **columns())


def a_version(control: ControlPlane, session: Session, n: int) -> None:
    versions.add(session, "flights", 100 - n, "amira", **columns())


def a_review(control: ControlPlane, session: Session, n: int) -> None:
    in_review(control, session, n)


def a_deployment(control: ControlPlane, session: Session, n: int) -> None:
    now = clock.now()
    if session.get(versions.ModelRow, "flights") is None:
        versions.add(session, "flights", 1, "amira", **columns())
    session.add(
        DeploymentRow(
            name=f"live-{n:02d}", model="flights", created_by="amira", created_at=now, updated_at=now
        )
    )


def a_record(control: ControlPlane, session: Session, n: int) -> None:
    audit.append(session, "amira", "test.listed", f"row-{n:02d}", {})


def a_cost(control: ControlPlane, session: Session, n: int) -> None:
    used = meter.Measurement(
        id=f"m-{n}", kind=meter.Kind.PIPELINE, subject=f"flights-{n:02d}", cpu_seconds=9.0
    )
    meter.record(session, PEOPLE["admin"], [used], control.settings.costs)


# path, filters, how a row is named, how one is made
LISTINGS: list[tuple[str, dict[str, str], str, Add]] = [
    ("/models", {"search": "model"}, "name", a_model),
    ("/models/flights/versions", {}, "version", a_version),
    ("/reviews", {}, "version", a_review),
    ("/deployments", {}, "name", a_deployment),
    ("/audit", {"action": "test.listed"}, "subject", a_record),
    ("/costs", {"by": "pipeline"}, "name", a_cost),
]
IDS = [path for path, *_ in LISTINGS]


@pytest.fixture
def filled(control: ControlPlane, identity: Asking) -> Callable[[Add, range], None]:
    identity.who = PEOPLE["admin"]
    with control.store.session() as session:
        emptied(session)
        session.connection().exec_driver_sql("DELETE FROM usage")

    def fill(add: Add, numbers: range) -> None:
        with control.store.session() as session:
            for n in numbers:
                add(control, session, n)

    return fill


def following(answer: Any) -> dict[str, str] | None:
    """The query of the next page."""
    link = answer.links.get("next")
    return dict(parse_qsl(urlsplit(link["url"]).query)) if link else None


@pytest.mark.parametrize(("path", "filters", "name", "add"), LISTINGS, ids=IDS)
def test_each_row_comes_once_though_rows_are_added(
    http: TestClient,
    control: ControlPlane,
    filled: Callable[[Add, range], None],
    path: str,
    filters: dict[str, str],
    name: str,
    add: Add,
) -> None:
    begun = control.trail(PEOPLE["admin"], newest=True, limit=1)
    filters = filters | ({"after": str(begun[0].seq)} if path == "/audit" and begun else {})
    filled(add, range(10, 15))
    whole = [row[name] for row in http.get(f"{API}{path}", params=filters).json()]
    assert len(whole) == 5
    answer = http.get(f"{API}{path}", params=filters | {"limit": 2})
    read, sizes = [row[name] for row in answer.json()], [len(answer.json())]
    filled(add, range(1, 4))  # before the place we are at, where the listing is by name
    filled(add, range(20, 22))  # behind it
    while query := following(answer):
        assert query["limit"] == "2" and set(filters) < set(query)
        answer = http.get(f"{API}{path}", params=query)
        assert answer.status_code == 200, answer.text
        read += [row[name] for row in answer.json()]
        sizes.append(len(answer.json()))
    assert [each for each in read if each in whole] == whole
    assert len(set(read)) == len(read) and set(sizes[:-1]) == {2} and 1 <= sizes[-1] <= 2


@pytest.mark.parametrize(("path", "filters", "name", "add"), LISTINGS, ids=IDS)
def test_a_page_has_bounds(
    http: TestClient,
    control: ControlPlane,
    filled: Callable[[Add, range], None],
    path: str,
    filters: dict[str, str],
    name: str,
    add: Add,
) -> None:
    filled(add, range(1, 2))
    most = control.settings.api.page_rows_max
    assert http.get(f"{API}{path}", params={"limit": most}).status_code == 200
    for limit in (0, -1, most + 1):
        refused = http.get(f"{API}{path}", params={"limit": limit})
        assert refused.status_code == 422 and str(most) in refused.json()["remedy"]


@pytest.mark.parametrize(("path", "filters", "name", "add"), LISTINGS, ids=IDS)
def test_a_made_up_cursor_is_refused(
    http: TestClient,
    filled: Callable[[Add, range], None],
    path: str,
    filters: dict[str, str],
    name: str,
    add: Add,
) -> None:
    filled(add, range(1, 4))
    query = following(http.get(f"{API}{path}", params=filters | {"limit": 1}))
    assert query is not None
    inside = json.loads(base64.urlsafe_b64decode(query["cursor"] + "=="))
    forged = [
        inside | {"listing": f"{API}/elsewhere"},
        inside | {"asked": {"search": "other"}},
        inside | {"after": "\0"},
        inside | {"after": 7},
        inside | {"principal": "root"},
    ]
    texts = [base64.urlsafe_b64encode(json.dumps(each).encode()).decode().rstrip("=") for each in forged]
    for text in ["", "x", "ä", query["cursor"][:-2], *texts]:
        refused = http.get(f"{API}{path}", params=query | {"cursor": text})
        assert refused.status_code == 422, (text, refused.text)
        assert "begin again" in refused.json()["remedy"] or "next" in refused.json()["remedy"]


def test_a_cursor_gives_nobody_a_right(
    http: TestClient, identity: Asking, filled: Callable[[Add, range], None]
) -> None:
    filled(a_model, range(1, 4))
    query = following(http.get(f"{API}/models", params={"limit": 1}))
    identity.who = PEOPLE["nothing"]
    assert http.get(f"{API}/models", params=query).status_code == 403


def test_the_trial_of_a_policy_comes_in_pages_after_its_sum(
    http: TestClient, filled: Callable[[Add, range], None]
) -> None:
    filled(a_model, range(10, 15))  # which are high, though nothing of what they declare is
    shipped = Path("hub_config/policy.yaml").read_text()
    whole = http.post(f"{API}/policy/test", json={"policy": shipped}).json()
    assert whole["summary"] == {"judged": 5, "changed": 5, "moves": {"high → low": 5}}
    answer = http.post(f"{API}/policy/test", json={"policy": shipped}, params={"limit": 2})
    assert answer.json()["summary"] == whole["summary"]
    read = answer.json()["changes"]
    filled(a_model, range(20, 22))
    while query := following(answer):
        answer = http.post(f"{API}/policy/test", json={"policy": shipped}, params=query)
        assert answer.json()["summary"] is None
        read += answer.json()["changes"]
        other = http.post(f"{API}/policy/test", json={"policy": f"{shipped}\n"}, params=query)
        assert other.status_code == 422 and "another policy" in other.json()["detail"]
    assert [row["subject"] for row in read] == [f"model-{n}/1" for n in (*range(10, 15), 20, 21)]
    assert read[:5] == whole["changes"]
