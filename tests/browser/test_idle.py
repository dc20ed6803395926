"""Before an idle server is stopped, whoever has its page open reads so, and can keep it."""

import httpx
from playwright.sync_api import Page, expect

from tests.conftest import open_folder
from tests.support.workbench import Workbench

IDLE = {"MAJLIS_WORKBENCH_IDLE_SECONDS": "60", "MAJLIS_WORKBENCH_IDLE_WARNING_SECONDS": "50"}


def test_the_warning_is_seen_and_its_button_keeps_the_server(page: Page) -> None:
    with open_folder() as folder:
        workbench = Workbench(folder, IDLE).start()
        try:
            scientist = workbench.person("scientist")
            server = scientist.start_server()
            page.goto(f"{server}lab?reset")
            page.fill("#username_input", scientist.name)
            page.fill("#password_input", workbench.passwords[scientist.name])
            page.click("#login_submit")
            warning = page.get_by_text("Your server stops in")
            expect(warning).to_be_visible()
            with page.expect_response(lambda response: "/majlis/idle" in response.url) as kept:
                page.get_by_role("button", name="Keep it").click()
            assert kept.value.json()["stops_in_seconds"] > 50
            expect(warning).not_to_be_visible()
            headers = {"Authorization": f"token {scientist.full_token}"}
            assert httpx.get(f"{server}api", headers=headers, trust_env=False).status_code == 200
        finally:
            workbench.stop()
