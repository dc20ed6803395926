"""The whole path of a model by four people in four browsers, each of whom sees their part of it."""

import json
from collections.abc import Iterator

import httpx
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.sessions import Session, await_kernel, keep, panel_of, run_cell
from tests.support.people import Person
from tests.support.workbench import Workbench

pytestmark = pytest.mark.timeout(900)
MODEL = "four-accounts"
SLOW_MS = (
    150_000  # eight checks load a model in processes of their own; two cores may be busy with other tests
)
REASONS = {
    "engineer": "The checks reproduce, and it answers fast enough.",
    "owner": "It only advises, and we know what for.",
    "compliance": "The purpose is stated, and the data may be used for it.",
}
TRAIN = """
import numpy as np, polars as pl, majlis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from majlis.data.catalog import Catalog
from majlis.training.models import log_classifier

wb, rng = majlis.connect(), np.random.default_rng(11)
x = rng.normal(size=(800, 2))
paid = (x[:, 0] + x[:, 1] + 0.4 * rng.normal(size=800) > 0).astype(int)
split = np.where(np.arange(800) < 500, "train", "test")
frame = pl.DataFrame({"income": x[:, 0], "term": x[:, 1], "paid": paid, "split": split})
table = wb.lake.write(frame, "gold.four_accounts", mode="overwrite")
Catalog(wb.lake).describe(table.name, title="Loans", owner="scientist", classes={"income": "pii"})
rows = frame.select("income", "term").to_pandas()
strength = table.version + 1
with wb.track("four-accounts", tables=[table], params={"strength": strength}, name="line") as run:
    model = LogisticRegression(C=strength).fit(rows[:500], paid[:500])
    answers = model.predict_proba(rows[500:])[:, 1]
    run.log({"test/pr_auc": float(average_precision_score(paid[500:], answers))})
    log_classifier(run, model, rows.head(3))
print("trained on version", table.version)
"""
PREDICT = """
deployment = wb.deployment("four-accounts")
print("answered", [deployment.predict(rows.head(3)).shape for _ in range(20)][-1])
"""
WIDGET = (
    "from majlis.widgets import DeployWidget\nDeployWidget(wb, wb.version('four-accounts'), 'four-accounts')"
)


@pytest.fixture(scope="module")
def notebook(scientist: Person) -> str:
    """A notebook in the scientist's folder that trains, asks, and shows the widget; its path."""
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [new_code_cell(source.strip()) for source in (TRAIN, PREDICT, WIDGET)]
    content = json.loads(nbformat.writes(new_notebook(cells=cells, metadata=metadata)))
    headers = {"Authorization": f"token {scientist.full_token}"}
    with httpx.Client(base_url=f"{scientist.start_server()}api/contents/", headers=headers) as contents:
        body = {"type": "notebook", "content": content}
        contents.put(f"{MODEL}.ipynb", json=body).raise_for_status()
    return f"{MODEL}.ipynb"


@pytest.fixture(scope="module")
def sessions(chromium: Browser, workbench: Workbench) -> Iterator[dict[str, Session]]:
    """All four, logged in; in the end no page had an error, and nobody but the workbench was asked."""
    made = {name: Session.of(chromium, workbench, name) for name in ("scientist", *REASONS)}
    yield made
    for session in made.values():
        session.close()
    assert {name: session.faults for name, session in made.items() if session.faults} == {}


@pytest.fixture(scope="module")
def lab(sessions: dict[str, Session], workbench: Workbench, notebook: str) -> Page:
    """The scientist's Lab, the notebook and the panel open."""
    page = sessions["scientist"].page
    page.goto(f"{workbench.url}/user/scientist/lab/tree/{notebook}?reset")
    await_kernel(panel_of(page, notebook))
    page.click('[data-id="majlis-panel"]')
    return page


def test_a_version_that_saw_personal_data_is_registered_and_waits_for_three(lab: Page) -> None:
    run(lab, 0, "trained on version 0")
    register(lab)
    version = shown(lab, 1)
    expect(version.get_by_text("in review", exact=True)).to_be_visible(timeout=SLOW_MS)
    expect(version.get_by_text("high risk", exact=True)).to_be_visible()
    expect(version).to_contain_text("the training read columns that are classed as personal data")


def test_each_of_them_finds_it_at_home_and_decides(
    lab: Page, sessions: dict[str, Session], workbench: Workbench
) -> None:
    for name in REASONS:
        page = sessions[name].page
        page.goto(f"{workbench.url}/hub/home")
        today = page.locator("#majlis-today")
        expect(today.get_by_role("link", name=f"{MODEL} 1")).to_be_visible()
        keep(page, "home")
        today.get_by_role("link", name=f"{MODEL} 1").click()
        expect(page.get_by_role("heading", name=f"{MODEL} version 1")).to_be_visible()
        assert page.url.startswith(workbench.decisions_url)
        decide(page, name)
    expect(shown(lab, 1).get_by_text("released", exact=True)).to_be_visible(timeout=SLOW_MS)


def test_the_scientist_deploys_it_and_asks_it(lab: Page) -> None:
    deploy(lab, 1)
    run(lab, 1, "answered (3, 2)")


def test_the_next_version_is_decided_on_beside_the_one_in_production(
    lab: Page, sessions: dict[str, Session], workbench: Workbench
) -> None:
    run(lab, 0, "trained on version 1")
    register(lab)
    expect(shown(lab, 2).get_by_text("in review", exact=True)).to_be_visible(timeout=SLOW_MS)
    for name in REASONS:
        page = sessions[name].page
        page.goto(f"{workbench.decisions_url}/services/majlis/models/{MODEL}/2")
        changes = page.get_by_role("table", name="What changes against version 1, in production")
        expect(
            changes.get_by_role("row", name="trained on gold.four_accounts version 0 version 1")
        ).to_be_visible()
        expect(changes).to_contain_text("pr auc")
        if name == "owner":
            parameters(page)
            keep(page, "decision")
        decide(page, name)
    deploy(lab, 2)


def test_the_widget_shows_the_traffic_and_takes_the_version_back(lab: Page) -> None:
    run(lab, 2, "version 2")
    widget = lab.locator(".jp-OutputArea-output", has=lab.get_by_role("button", name="Roll back")).last
    expect(widget.get_by_label("share of the traffic").first).to_have_attribute("value", "1")
    widget.get_by_role("button", name="Live").click()
    for _ in range(3):  # bursts with nothing in between, each seen by itself
        run(lab, 1, "answered (3, 2)")
        idle = "[aria-label='requests a second: 0.0']"
        expect(widget.locator(f"svg[aria-label^='requests a second']:not({idle})")).to_be_visible()
        expect(widget.locator(f"svg{idle}")).to_be_visible()
    expect(widget.locator("svg[aria-label='failed: 0.0%']")).to_be_visible()
    expect(widget.locator("svg[aria-label^='requests a second'] polyline")).to_be_visible()
    keep(lab, "widget")
    widget.get_by_role("button", name="Live").click()
    widget.get_by_role("button", name="Roll back").click()
    expect(widget.get_by_role("alert")).to_contain_text("The reason is empty")
    widget.get_by_label("Reason").fill("the planners trust the first one more")
    widget.get_by_role("button", name="Roll back").click()
    expect(shown(lab, 1).get_by_text("in production")).to_be_visible(timeout=SLOW_MS)
    expect(shown(lab, 1).get_by_text("v1 100 %")).to_be_visible(timeout=SLOW_MS)
    keep(lab, "panel")


def test_the_trail_tells_who_did_what_and_holds(sessions: dict[str, Session], workbench: Workbench) -> None:
    page = sessions["compliance"].page
    page.goto(f"{workbench.url}/services/majlis/audit")
    page.get_by_label("What").fill("review")
    page.get_by_label("On", exact=True).fill(MODEL)
    page.get_by_role("button", name="Verify the chain").click()
    expect(page.get_by_role("status")).to_contain_text("The chain holds.")
    for name in REASONS:
        expect(
            page.get_by_role("row").filter(has_text=name).filter(has_text="review.approved")
        ).to_have_count(2)
    page.get_by_label("What").fill("deployment.rolled_back")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("row").filter(has_text="the planners trust the first one more")).to_have_count(1)


def run(lab: Page, place: int, says: str) -> None:
    """Run a cell of the notebook, and wait for what its output says."""
    lab.locator(".lm-TabBar-tabLabel", has_text=f"{MODEL}.ipynb").first.click()
    notebook = panel_of(lab, f"{MODEL}.ipynb")
    cell = notebook.locator(".jp-CodeCell").nth(place)
    run_cell(cell)
    expect(cell.locator(".jp-Cell-outputArea")).to_contain_text(says, timeout=SLOW_MS)


def register(lab: Page) -> None:
    """Register what was trained last, with the button in the notebook's toolbar."""
    lab.locator(".lm-TabBar-tabLabel", has_text=f"{MODEL}.ipynb").first.click()
    lab.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-NotebookPanel-toolbar").get_by_role(
        "button", name="Register"
    ).click()
    dialog = lab.get_by_role("dialog")
    expect(dialog.get_by_label("Name")).to_have_value(MODEL)
    for label, value in {
        "Target column": "paid",
        "Only rows where": '{"split": "test"}',
        "Purpose": "Suggest which loans will be paid back, to try the council out",
    }.items():
        dialog.get_by_label(label).fill(value)
    dialog.get_by_label("Whom it affects").select_option("none")
    dialog.get_by_label("What it may do").select_option("advises")
    dialog.get_by_role("button", name="Register").click()
    expect(dialog).to_have_count(0, timeout=SLOW_MS)


def shown(lab: Page, version: int) -> Locator:
    """The page of a version in Lab, opened by its tab in the main area, or in the panel."""
    tab = lab.locator(".lm-TabBar-tabLabel", has_text=f"{MODEL} v{version}")
    if tab.count() == 0:
        lab.get_by_role("searchbox", name="Search models").fill(MODEL)
        model = lab.get_by_role("treeitem", name=f"{MODEL}, ")
        if model.get_attribute("aria-expanded") != "true":
            model.click()
        lab.get_by_role("treeitem", name=f"{MODEL} version {version}").click()
    tab.first.click()
    return lab.locator(".majlis-Page:visible .majlis-Detail")


def deploy(lab: Page, version: int) -> None:
    """Deploy a released version under the model's own name."""
    page = shown(lab, version)
    expect(page.get_by_text("released", exact=True)).to_be_visible(timeout=SLOW_MS)
    page.get_by_role("button", name="Deploy…").click()
    dialog = lab.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("three people agreed")
    expect(dialog.get_by_role("status")).to_contain_text(
        f"goes to version {version}" if version == 1 else "moves to"
    )
    expect(dialog.get_by_role("status")).to_contain_text("for a million predictions")
    keep(lab, "deploy")
    dialog.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.get_by_text("in production")).to_be_visible(timeout=SLOW_MS)
    expect(page.get_by_role("img", name="ready", exact=True)).to_be_visible(timeout=SLOW_MS)


def decide(page: Page, name: str) -> None:
    """Approve, with that person's reason."""
    page.get_by_label("Reason, for whoever reads this later").fill(REASONS[name])
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("cell", name=REASONS[name])).to_be_visible()


def parameters(page: Page) -> None:
    """Wait until the page knows the parameters of both runs: the first question may take too long."""
    for _ in range(3):
        if page.get_by_role("row", name="strength 1 2").count() == 0:
            page.reload()
    expect(page.get_by_role("row", name="strength 1 2")).to_be_visible()
