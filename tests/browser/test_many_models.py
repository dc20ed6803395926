"""The panel with a thousand models: what is not seen is not drawn, and everything can be reached."""

import json
import re

import pytest
from playwright.sync_api import Browser, Route, expect

from tests.browser.sessions import Session
from tests.support.people import Person
from tests.support.workbench import Workbench

MODELS, PAGE = 1000, 400  # all of them, and those in the first of two answers
DRAWN_MAX = 40  # rows of 52 pixels: those in view, and some above and below
NODES_MAX = 900  # elements of the whole panel


def thousand(route: Route) -> None:
    """What the control plane would answer if there were a thousand models."""
    models = [
        {
            "name": f"model-{number:04}",
            "versions": 3,
            "latest": 3,
            "production": 2 if number % 2 else None,
            "tier": ("low", "medium", "high")[number % 3],
            "updated": "2026-01-01T00:00:00Z",
        }
        for number in range(MODELS)
    ]
    first = "cursor=" not in route.request.url
    found = models[:PAGE] if first else models[PAGE:]
    next_page = {"Link": '<?cursor=second>; rel="next"'} if first else {}
    headers = {"Content-Type": "application/json"} | next_page
    route.fulfill(status=200, headers=headers, body=json.dumps(found))


@pytest.mark.timeout(300)
def test_only_what_is_seen_is_drawn(chromium: Browser, workbench: Workbench, scientist: Person) -> None:
    server = scientist.start_server()
    session = Session.of(chromium, workbench, "scientist")
    page = session.page
    page.route(re.compile(r"/majlis/api/models(\?|$)"), thousand)
    page.goto(f"{server}lab?reset")
    page.click('[data-id="majlis-panel"]')
    tree = page.get_by_role("tree", name="Models and their versions")
    rows = tree.get_by_role("treeitem")
    expect(page.get_by_role("status").filter(has_text=f"{MODELS:,} models")).to_be_visible()
    assert 0 < rows.count() <= DRAWN_MAX
    assert page.locator("#majlis-panel *").count() <= NODES_MAX

    tree.focus()
    page.keyboard.press("End")
    expect(tree.get_by_role("treeitem", name=f"model-{MODELS - 1:04}, 3 versions")).to_be_visible()
    assert rows.count() <= DRAWN_MAX and page.locator("#majlis-panel *").count() <= NODES_MAX
    page.keyboard.press("Home")
    expect(tree.get_by_role("treeitem", name="model-0000, 3 versions")).to_be_visible()

    page.get_by_role("searchbox", name="Search models").fill("model-07")
    expect(page.get_by_role("status").filter(has_text="100 of 1,000 models")).to_be_visible()
    page.get_by_label("Which models are shown").select_option("High risk")
    expect(page.get_by_role("status").filter(has_text="33 of 1,000 models")).to_be_visible()
    session.close()
    assert session.faults == []
