"""A reviewer reads the evidence and decides, on a page that needs no JavaScript."""

import time
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import PATIENCE_MS
from tests.browser.sessions import log_in
from tests.support.people import POLL_SECONDS, Person
from tests.support.workbench import Workbench

VERSION = "models/decided-here/versions/1"
CHECKED_SECONDS = 300.0
PURPOSE = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def waiting(scientist: Person, trained: dict[str, Any]) -> None:
    """A version of medium risk, in review, whose author wrote more than words."""
    facts = trained["facts"] | {"autonomy": "decides", "purpose": PURPOSE}
    with scientist.api() as api:
        place = f"/services/majlis/api/v1/{VERSION}"
        added = api.post(place.removesuffix("/1"), json=trained | {"facts": facts})
        assert added.status_code == 201, added.text
        deadline = time.monotonic() + CHECKED_SECONDS
        while (version := api.get(place).json())["state"] in ("registered", "checking"):
            assert time.monotonic() < deadline, "the checks are not over"
            time.sleep(POLL_SECONDS)
    assert version["state"] == "in review", version["reason"]


@pytest.mark.timeout(600)
def test_a_reviewer_decides_on_the_executed_notebook_without_javascript(
    chromium: Browser, workbench: Workbench, scientist: Person, waiting: None
) -> None:
    with_scripts = chromium.new_context()
    with_scripts.set_default_timeout(PATIENCE_MS)
    log_in(with_scripts.new_page(), workbench, "engineer")
    context = chromium.new_context(
        java_script_enabled=False,
        storage_state=with_scripts.storage_state(),
        viewport={"width": 1280, "height": 1400},
    )
    with_scripts.close()
    page = context.new_page()
    page.goto(f"{workbench.decisions_url}/services/majlis/models/decided-here/1")
    expect(page.get_by_text("in review", exact=True)).to_be_visible()
    expect(page.get_by_text(PURPOSE)).to_be_visible()
    document = page.frame_locator("iframe[title='Review notebook']")
    expect(document.get_by_role("heading", name="What the platform found")).to_be_visible()
    expect(document.get_by_text(PURPOSE).first).to_be_visible()
    assert "owned" not in page.title()
    page.get_by_label("Reason").fill("The checks hold and the gain is clear.")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("cell", name="The checks hold and the gain is clear.")).to_be_visible()
    with scientist.api() as api:
        reviews = api.get(f"/services/majlis/api/v1/{VERSION}").json()["reviews"]
    assert [(one["principal"], one["decision"]) for one in reviews] == [("engineer", "approve")]
    context.close()
