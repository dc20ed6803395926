"""What a program or a browser may send by mistake or on purpose: refused in words, never a fault of ours."""

import html.parser
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from majlis.control.api import create_app
from majlis.control.problems import PROBLEM, Problem
from majlis.control.service import ControlPlane
from majlis.registry.versions import IdempotencyRow
from tests.support.council import API, PEOPLE, REASON, SHOWN, Asking

PREFIX = "/services/majlis/"
JSON = {"Content-Type": "application/json"}
NUL = r'{"reason": "\u0000 a reason that is long enough"}'
FORM = "&".join(f"{name}={digest}" for name, digest in SHOWN.items())
PAGE = {"Accept": "text/html"}


def refused(answer: Any, status: int) -> Problem:
    """The problem document of an answer."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    problem = Problem.model_validate_json(answer.content)
    assert problem.status == status and problem.detail and problem.remedy
    return problem


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("audit?before=99999999999999999999999999", 422),
        ("audit?before=-1", 422),
        ("audit?since=10000-01-01", 422),
        ("audit?since=0001-01-01&until=9999-12-31", 200),
        ("models/flights/99999999999999999999999999", 404),
        ("models/flights/0", 404),
        ("models/flights/1/decide", 404),  # is posted to
        ("nowhere", 404),
    ],
)
def test_an_odd_address_is_answered_with_a_page(
    http: TestClient, identity: Asking, things: None, path: str, status: int
) -> None:
    identity.who = PEOPLE["compliance"]
    answer = http.get(f"{PREFIX}{path}", headers=PAGE)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/html") and "<h1>" in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_who_may_not_read_gets_a_page_in_a_browser_and_a_document_elsewhere(
    http: TestClient, identity: Asking, things: None
) -> None:
    identity.who = PEOPLE["nothing"]
    page = http.get(f"{PREFIX}audit", headers=PAGE)
    assert page.status_code == 403 and 'role="alert"' in page.text
    refused(http.get(f"{API}/audit"), 403)
    refused(http.get(f"{API}/nowhere", headers=PAGE), 404)  # the API answers everybody alike


@pytest.mark.parametrize(
    "send",
    [
        lambda http: http.post(f"{API}/models/flights/versions/1/withdraw", content=NUL, headers=JSON),
        lambda http: http.get(f"{API}/models", params={"search": "\0"}),
        lambda http: http.get(f"{API}/audit", params={"subject": "flights\0"}),
        lambda http: http.get(f"{API}/models/a%00b"),
        lambda http: http.post(
            f"{PREFIX}models/flights/1/decide", content=f"chair=comply&decision=approve&reason=%00{FORM}"
        ),
    ],
    ids=["json", "search", "filter", "path", "form"],
)
def test_a_character_that_no_database_keeps_is_refused(
    http: TestClient, identity: Asking, things: None, send: Callable[[TestClient], Any]
) -> None:
    identity.who = PEOPLE["amira"]
    assert "U+0000" in refused(send(http), 422).detail
    assert http.get(f"{API}/models/flights/versions/1").json()["state"] == "in review"


def test_a_body_beyond_the_bound_is_refused_before_anybody_is_known(
    http: TestClient, identity: Asking, control: ControlPlane
) -> None:
    identity.who = None
    most = control.settings.api.body_bytes_max
    refused(http.post(f"{API}/policy/test", content=b" " * (most + 1)), 413)
    parts = iter([b" " * most, b" "])  # says not how long it is
    refused(http.post(f"{API}/policy/test", content=parts), 413)
    refused(http.post(f"{API}/policy/test", content=b" " * most), 401)


def test_every_path_names_its_methods_and_can_be_asked_for_by_head(
    http: TestClient, identity: Asking, things: None
) -> None:
    identity.who = PEOPLE["amira"]
    answer = http.patch(f"{API}/deployments/live")
    assert "DELETE, GET, PUT" in refused(answer, 405).remedy
    assert answer.headers["allow"] == "DELETE, GET, PUT"
    head, get = http.head(f"{API}/models"), http.get(f"{API}/models")
    assert head.status_code == 200 and head.headers["etag"] == get.headers["etag"]


class Broken(RuntimeError):
    """What nobody foresaw."""


def test_a_fault_of_ours_is_told_without_its_inside_and_the_write_may_be_sent_again(
    control: ControlPlane, identity: Asking, monkeypatch: pytest.MonkeyPatch, things: None
) -> None:
    def broken(*given: Any) -> None:
        raise Broken("password=hunter2")

    identity.who = PEOPLE["amira"]
    http = TestClient(create_app(control, identity), base_url="http://majlis", raise_server_exceptions=False)
    key, path = {"Idempotency-Key": "broken-once"}, f"{API}/models/flights/versions/1/withdraw"
    with monkeypatch.context() as patched:
        patched.setattr(control.council, "withdraw", broken)
        problem = refused(http.post(path, json=REASON, headers=key), 500)
        assert "hunter2" not in problem.model_dump_json()
    with control.store.session() as session:
        assert session.get(IdempotencyRow, ("amira", "broken-once")) is None
    assert http.post(path, json=REASON, headers=key).json()["state"] == "withdrawn"
    assert http.post(path, json=REASON, headers=key).headers["idempotency-replayed"] == "true"


class Sources(html.parser.HTMLParser):
    """What a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag] if tag == "script" else []
        self.found += [str(value) for name, value in attrs if name == "src" or name.startswith("on")]
        self.found += [str(value) for name, value in attrs if tag == "link" and name == "href"]


def test_the_apis_page_runs_nothing_and_shows_every_operation(
    http: TestClient, identity: Asking, control: ControlPlane
) -> None:
    identity.who = PEOPLE["amira"]
    page = http.get(f"{PREFIX}docs", headers=PAGE)
    sources = Sources()
    sources.feed(page.text)
    assert sources.found == [f"{PREFIX}style.css"]
    app = http.app
    assert isinstance(app, FastAPI)
    operations = [each for methods in app.openapi()["paths"].values() for each in methods.values()]
    ids = [each["operationId"] for each in operations]
    assert len(set(ids)) == len(ids) > 30 and all(each.isidentifier() for each in ids)
    assert all(f'id="{each}"' in page.text for each in ids)
    identity.who = PEOPLE["nothing"]
    assert http.get(f"{PREFIX}docs", headers=PAGE).status_code == 403
