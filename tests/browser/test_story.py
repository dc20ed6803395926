"""A scientist's first minutes: log in, open the executed training notebook, run a cell; and who cannot."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser.sessions import await_kernel, keep, log_in, panel_of, run_cell
from tests.support.workbench import Workbench


def watched(page: Page, bench: Workbench) -> Callable[[], list[str]]:
    """Note every request that leaves for another host, and every error a page throws."""
    faults: list[str] = []
    own = {urlsplit(bench.url).hostname}

    def look(url: str) -> None:
        host = urlsplit(url).hostname
        if host and host not in own:
            faults.append(f"asked {host}: {url}")

    page.on("request", lambda request: look(request.url))
    page.on("pageerror", lambda error: faults.append(f"threw {error}"))
    return lambda: faults


def executed(run: dict[str, Any], step: str) -> str:
    """Where the executed notebook of a step is, from the scientist's home."""
    (notebook,) = [one["executed"] for one in run["steps"] if one["name"] == step]
    return f"runs/{run['pipeline']}/{run['id']}/{notebook}"


@pytest.mark.timeout(900)
def test_a_scientist_opens_a_finished_run_and_talks_to_the_workbench(
    workbench: Workbench, page: Page, finished_run: dict[str, Any]
) -> None:
    faults = watched(page, workbench)
    log_in(page, workbench, "scientist")
    expect(page.get_by_role("heading", name="Welcome, scientist")).to_be_visible()
    keep(page, "home")

    page.goto(f"{workbench.url}/user/scientist/lab/tree/{executed(finished_run, 'train')}?reset")
    notebook = panel_of(page, executed(finished_run, "train"))
    expect(notebook.get_by_role("heading", level=1).first).to_contain_text("Train")
    await_kernel(notebook)
    keep(page, "hub")

    notebook.get_by_role("button", name="Click to add a cell.").click()
    cell = notebook.locator(".jp-Cell").last
    cell.locator(".cm-content").fill("import majlis; print('I am', majlis.connect().whoami()['name'])")
    run_cell(cell)
    expect(cell.locator(".jp-OutputArea-output")).to_contain_text("I am scientist")
    assert not faults()


def test_a_stranger_sees_the_login_page_and_nothing_else(workbench: Workbench, page: Page) -> None:
    for path in ("/", "/user/scientist/lab", "/services/mlflow/"):
        page.goto(f"{workbench.url}{path}")
        expect(page.get_by_label("Username")).to_be_visible()
    page.get_by_label("Username").fill("scientist")
    page.locator("#password_input").fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".login_error")).to_be_visible()


def test_mlflow_opens_for_people_of_the_hub(workbench: Workbench, page: Page) -> None:
    faults = watched(page, workbench)
    log_in(page, workbench, "owner")
    page.goto(f"{workbench.url}/services/mlflow/")
    expect(page.get_by_text("Experiments").first).to_be_visible()
    assert not [fault for fault in faults() if fault.startswith("asked")]


def test_javascript_of_a_notebook_cannot_decide(workbench: Workbench, page: Page) -> None:
    log_in(page, workbench, "engineer")
    page.goto(f"{workbench.decisions_url}/services/majlis/api/v1/whoami")
    assert "custom:majlis:review" in page.content()
    page.goto(f"{workbench.url}/services/majlis/")  # the session that a page of the hub's origin can use
    page.goto(f"{workbench.url}/hub/home")
    tried = page.evaluate(
        """async ([there, here]) => {
            const path = '/services/majlis/api/v1/models/m/versions/1/reviews';
            const body = JSON.stringify({decision: 'approve', reason: 'forged', as: 'review'});
            const post = (url, mode) => fetch(url, {method: 'POST', body, mode, credentials: 'include',
                headers: {'Content-Type': 'text/plain'}}).then(r => r.type + ' ' + r.status, e => 'blocked');
            const ways = [[there, 'cors'], [there, 'no-cors'], [here, 'cors']];
            return await Promise.all(ways.map(([origin, mode]) => post(origin + path, mode)));
        }""",
        [workbench.decisions_url, workbench.url],
    )
    assert tried[0] == "blocked"
    assert tried[1] == "opaque 0"
    assert tried[2].split()[1] in ("403", "404", "422")
    audit = workbench.person("engineer").api().get("/services/majlis/api/v1/audit", params={"subject": "m/1"})
    assert audit.json() == []
