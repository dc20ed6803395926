"""Every form of the pages, found by reading them, sent from where a browser must not send it."""

from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from starlette.testclient import TestClient

from majlis import audit
from majlis.access import Role, Scope
from majlis.control.api import create_app
from majlis.control.identity import Hub, HubIdentity, OAuthClient
from majlis.control.service import ControlPlane
from tests.support.council import API, OTHERS, TABLES, furnished

HOST, PREFIX = "http://majlis", "/services/majlis/"
ELSEWHERE: dict[str, Mapping[str, str]] = {
    "no origin": {},
    "another site": {"origin": "https://evil.example"},
    "a sandboxed page": {"origin": "null"},
    "a name that begins alike": {"origin": "http://majlis.evil.example"},
    "another port": {"origin": f"{HOST}:8888"},
    "a page that was led here": {"origin": HOST, "sec-fetch-site": "cross-site"},
    "a neighbour": {"origin": HOST, "sec-fetch-site": "same-site"},
}
Sent = tuple[str, dict[str, str]]  # where a form goes, and its fields


class Forms(HTMLParser):
    """The links of a page, and what each button of its forms would send."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.action = url, ""
        self.links: list[str] = []
        self.fields: dict[str, str] = {}
        self.sent: list[Sent] = []
        self.buttons: list[Sent] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attributes}
        if tag == "a" and "href" in said:
            self.links.append(urljoin(self.url, said["href"]))
        elif tag == "form":
            self.fields, self.buttons = {}, []
            self.action = said.get("action", "") if said.get("method", "").lower() == "post" else "get"
        elif tag in ("input", "textarea") and "name" in said:
            self.fields[said["name"]] = said.get("value") or "a reason that is long enough"
        elif tag == "select":
            self.chosen = said["name"]
        elif tag == "option":
            self.fields.setdefault(self.chosen, said["value"])
        elif tag == "button":
            named = {said["name"]: said["value"]} if "name" in said else {}
            self.buttons.append((said.get("formaction", self.action), named))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form" and self.action != "get":
            self.sent += [(urljoin(self.url, to), self.fields | named) for to, named in self.buttons]


@pytest.fixture(scope="module")
def browser(control: ControlPlane) -> TestClient:
    """A browser in which somebody is logged in who may do everything, and made nothing of it."""
    known = {"kind": "user", "groups": [*Role], "scopes": ["access:services", *Scope]}

    def hub(request: httpx.Request) -> httpx.Response:
        name = "wanda" if request.url.path.endswith("/user") else request.url.path.rpartition("/")[2]
        return httpx.Response(200, json=known | {"name": name})

    client = OAuthClient(
        "service-majlis", "a secret", f"{PREFIX}oauth_callback", "majlis-session", allowed=None
    )
    api = Hub("http://hub/api", httpx.AsyncClient(transport=httpx.MockTransport(hub)))
    identity = HubIdentity(api, "majlis", PREFIX, "/hub/authorize", client)
    session = {client.cookie: identity.seal.close({"token": "wanda's"})}
    app = create_app(control, identity)
    return TestClient(app, base_url=HOST, cookies=session, follow_redirects=False)


@pytest.fixture
def forms(browser: TestClient, things: None) -> list[Sent]:
    """All forms that can be reached from the first page."""
    waiting, seen, found = [f"{HOST}{PREFIX}"], set[str](), list[Sent]()
    while waiting:
        url = waiting.pop()
        path = urlsplit(url).path
        if path in seen or not url.startswith(f"{HOST}{PREFIX}") or path.startswith(API):
            continue
        seen.add(path)
        page = Forms(url)
        page.feed(browser.get(url).text)
        waiting += page.links
        found += page.sent
    return found


def state(control: ControlPlane) -> dict[str, Any]:
    """Everything a form could have changed."""
    with control.store.reading() as session:
        rows = {
            name: [tuple(row) for row in session.connection().exec_driver_sql(f'SELECT * FROM "{name}"')]
            for name in TABLES
        }
        return rows | {"audit": audit.head(session)}


def acts(forms: list[Sent]) -> Iterator[str]:
    """What the forms do, by the last part of their addresses."""
    yield from (urlsplit(to).path.rpartition("/")[2] for to, _ in forms)


def test_all_that_can_be_posted_is_among_them(forms: list[Sent]) -> None:
    moving = {"promote", "abort"}  # shown while traffic moves; they are posted below by their address
    assert set(acts(forms)) | moving == {"decide", "delegate", "rollback", "withdraw"} | moving
    decisions = {fields.get("decision") for to, fields in forms if to.endswith("decide")}
    assert {"approve", "reject"} <= decisions


@pytest.mark.parametrize("where", ELSEWHERE)
def test_no_form_works_from_elsewhere(
    browser: TestClient, control: ControlPlane, forms: list[Sent], where: str
) -> None:
    moving = [(f"{HOST}{PREFIX}deployments/live/{act}", {"reason": "now"}) for act in ("promote", "abort")]
    before = state(control)
    for to, fields in [*forms, *moving]:
        answer = browser.post(to, data=fields, headers=ELSEWHERE[where])
        assert answer.status_code == 403, (to, answer.text)
        assert "from a page of the same origin" in answer.text
        assert state(control) == before, to


def test_each_form_works_from_its_own_page(
    browser: TestClient, control: ControlPlane, forms: list[Sent]
) -> None:
    """Otherwise the refusals above would say nothing."""
    for to, fields in forms:
        furnished(control)
        before = state(control)
        sent = fields | ({"delegate": OTHERS["dora"].name} if "delegate" in fields else {})
        answer = browser.post(to, data=sent, headers={"origin": HOST, "sec-fetch-site": "same-origin"})
        assert answer.status_code == 303 and state(control) != before, (to, answer.status_code, answer.text)
