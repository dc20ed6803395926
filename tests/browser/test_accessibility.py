"""Every page can be read by everybody, on a desk and on a phone, whatever was written into its fields."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from majlis.control.service import ControlPlane
from majlis.settings import load
from tests.browser.accessibility import faults, looks
from tests.browser.sessions import PATIENCE_MS, log_in
from tests.support.council import PEOPLE, Asking
from tests.support.gallery import furnish, served
from tests.support.people import Person
from tests.support.workbench import Workbench

VERSION = "api/v1/models/flights/versions/1"
PORTAL = {  # page → who looks at it
    "today": "engineer",
    "": "amira",
    "reviews": "compliance",
    "models/flights/1": "compliance",
    "models/flights/2": "amira",
    "deployments": "amira",
    "?search=nothing": "amira",
    "reviews?cursor=made-up": "amira",
    "costs": "amira",
    "audit?verify=yes": "compliance",
    "audit?who=nobody": "compliance",
    "docs": "amira",
    "models/nothing/1": "amira",
    "an-address-that-leads-nowhere": "amira",
    f"{VERSION}/card": "compliance",
    f"{VERSION}/review": "compliance",
}


@pytest.fixture(scope="module")
def identity() -> Asking:
    return Asking()


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory, identity: Asking) -> Iterator[str]:
    """The address of a control plane whose every field says something hostile."""
    home = tmp_path_factory.mktemp("home")
    control = ControlPlane(load(environ={"MAJLIS_WORKBENCH_HOME": str(home)})).open()
    furnish(control)
    with served(control, identity) as url:
        yield f"{url}/services/majlis/"
    control.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", PORTAL)
def test_a_page_of_the_portal(chromium: Browser, portal: str, identity: Asking, path: str) -> None:
    identity.who = PEOPLE[PORTAL[path]]
    for look, page in looks(chromium):
        page.goto(f"{portal}{path}")
        for each in page.locator("details").all():
            each.evaluate("element => element.open = true")
        assert faults(page) == [], look
        assert "owned" not in page.title()


@pytest.mark.timeout(300)
def test_who_may_not_read_is_told_so_on_a_page(chromium: Browser, portal: str, identity: Asking) -> None:
    identity.who = PEOPLE["nothing"]
    for look, page in looks(chromium):
        page.goto(f"{portal}audit")
        expect(page.get_by_role("alert")).to_be_visible()
        assert faults(page) == [], look


@pytest.mark.timeout(900)
def test_the_pages_of_the_hub(chromium: Browser, workbench: Workbench, people: dict[str, Person]) -> None:
    for name in ("scientist", "owner"):  # whose addresses are opened below
        people[name].stop_server()
    for look, page in looks(chromium):
        page.context.set_default_timeout(PATIENCE_MS)
        page.goto(workbench.url)
        assert faults(page) == [], look
        page.get_by_label("Username").fill("scientist")
        page.locator("#password_input").fill("not the password")
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".login_error")).to_be_visible()
        assert faults(page) == [], look
        log_in(page, workbench, "scientist")
        expect(page.locator("#majlis-today")).to_have_attribute("aria-busy", "false")
        assert faults(page) == [], look
        for path, says in {
            "spawn": "Size of the server",
            "token": "Request new API token",
            "nowhere": "There is nothing at this address",
            "admin": "You may not open this page",
            "user/owner/lab": "There is nothing at this address",
            "user/scientist/lab": "not running",
        }.items():
            shown(page, workbench, path, says)
            assert faults(page) == [], (look, path)


@pytest.mark.timeout(300)
def test_a_start_that_is_watched(chromium: Browser, workbench: Workbench, people: dict[str, Person]) -> None:
    people["compliance"].stop_server()
    look, page = next(looks(chromium))
    page.context.set_default_timeout(PATIENCE_MS)
    log_in(page, workbench, "compliance")
    page.route("**/progress*", lambda route: route.abort())  # the page stays as long as nothing is told
    page.goto(f"{workbench.url}/hub/spawn")
    begin = page.get_by_role("button", name="Start", exact=True)
    if begin.count():  # with one profile there is nothing to choose
        begin.click()
    expect(page.get_by_role("heading", name="Your server is starting")).to_be_visible()
    assert faults(page) == [], look


def shown(page: Page, workbench: Workbench, path: str, says: str) -> None:
    """Open a page of the hub, and wait for what it says."""
    page.goto(f"{workbench.url}/{path if path.startswith('user') else f'hub/{path}'}")
    expect(page.get_by_role("main").get_by_text(says).first).to_be_visible()
