"""The panel in a real JupyterLab of a real hub: from a trained model to a served one, by clicking."""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.sessions import enter_lab, open_file, run_cell
from tests.support.people import Person
from tests.support.workbench import Workbench

SLOW_MS = 120_000  # checks load a model in a process of its own; two cores may be busy with other tests
LIVE_MS = 5_000  # a change is pushed within 2 s; the rest is for a machine that other tests use too


@pytest.fixture(scope="module")
def files(scientist: Person) -> str:
    """A pipeline in the scientist's folder; the path of its notebook."""
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [
        new_code_cell("until: int = 4  # count up to here", metadata={"tags": ["parameters"]}),
        new_code_cell("from majlis.pipelines.notebook import output\noutput(total=sum(range(until)))"),
    ]
    notebook = new_notebook(cells=cells, metadata=metadata)
    failing = [
        new_code_cell("factor: int = 6  # of seven", metadata={"tags": ["parameters"]}),
        new_code_cell("value = 7 * factor"),
        new_code_cell("assert value == 0, 'not yet'"),
        new_code_cell("print('over')"),
    ]
    broken = new_notebook(cells=failing, metadata=metadata)
    pipeline = (
        "name: counting\ntitle: Counting\nparameters: [{name: until, type: int, default: 4, help: the end}]\n"
        "steps: [{name: count, notebook: count.ipynb, parameters: {until: '${parameters.until}'}}]\n"
    )
    content: dict[str, dict[str, Any]] = {
        "counting": {"type": "directory"},
        "counting/count.ipynb": {"type": "notebook", "content": json.loads(nbformat.writes(notebook))},
        "counting/broken.ipynb": {"type": "notebook", "content": json.loads(nbformat.writes(broken))},
        "counting/pipeline.yaml": {"type": "file", "format": "text", "content": pipeline},
    }
    headers = {"Authorization": f"token {scientist.full_token}"}
    with httpx.Client(base_url=f"{scientist.start_server()}api/contents/", headers=headers) as contents:
        for path, model in content.items():
            contents.put(path, json=model).raise_for_status()
    return "counting/count.ipynb"


@pytest.fixture(scope="module")
def lab(
    chromium: Browser, workbench: Workbench, scientist: Person, files: str, trained: dict[str, Any]
) -> Iterator[Page]:
    """JupyterLab in a browser, the panel open; in the end nothing was wrong and nobody else was asked."""
    wrong: list[str] = []
    server = scientist.start_server()
    context = chromium.new_context(viewport={"width": 1280, "height": 820})
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(f"uncaught: {error}"))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("request", lambda request: wrong.append(request.url) if foreign(request.url, server) else None)
    enter_lab(page, workbench, scientist, files)
    expect(page.get_by_role("button", name="Run as pipeline")).to_be_visible(timeout=SLOW_MS)
    page.click('[data-id="majlis-panel"]')
    yield page
    context.close()
    assert wrong == []


def foreign(url: str, server: str) -> bool:
    """Whether a request goes to another host than the hub's."""
    return url.startswith("http") and not url.startswith(server.partition("/user/")[0])


@pytest.mark.timeout(600)
def test_a_trained_model_is_registered_and_served(lab: Page, trained: dict[str, Any]) -> None:
    lab.locator(".jp-NotebookPanel-toolbar").get_by_role("button", name="Register").click()
    dialog = lab.get_by_role("dialog")
    choice = dialog.get_by_label("Trained model")
    ours = choice.locator("option", has_text="of lab-panel").first  # other tests train models, too
    choice.select_option(ours.get_attribute("value"))
    expect(dialog.get_by_label("Name")).to_have_value("lab-panel")
    expect(dialog.get_by_label("Table")).to_have_value("gold.lab_panel")
    dialog.get_by_label("Target column").fill("late")
    dialog.get_by_label("Only rows where").fill('{"split": "test"')
    expect(dialog.get_by_role("button", name="Register")).to_be_disabled()
    dialog.get_by_label("Only rows where").fill('{"split": "test"}')
    dialog.get_by_label("Purpose").fill(trained["facts"]["purpose"])
    dialog.get_by_label("Whom it affects").select_option("none")
    dialog.get_by_label("What it may do").select_option("advises")
    dialog.get_by_role("button", name="Register").click()

    version = lab.locator(".majlis-Detail")
    expect(version.get_by_role("heading", level=1)).to_contain_text("lab-panel", timeout=SLOW_MS)
    expect(version.get_by_text("released", exact=True)).to_be_visible(timeout=SLOW_MS)
    expect(version.get_by_text("better than baseline")).to_be_visible()

    version.get_by_role("button", name="Deploy…").click()
    expect(dialog).to_contain_text("A new deployment lab-panel is made.")
    dialog.get_by_role("button", name="Deploy", exact=True).click()
    expect(version.get_by_text("in production")).to_be_visible(timeout=SLOW_MS)
    expect(version.get_by_text("v1 100 %")).to_be_visible()

    version.get_by_text("Model card").click()
    card = lab.frame_locator("iframe[title^='Model card']")
    expect(card.get_by_role("heading").first).to_be_visible(timeout=SLOW_MS)

    version.get_by_role("button", name="Roll back…").click()
    dialog.get_by_label("Reason").fill("there was nothing before")
    expect(dialog.get_by_role("button", name="Roll back")).to_be_disabled()
    lab.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


@pytest.mark.timeout(600)
def test_what_others_do_appears_by_itself(lab: Page, scientist: Person, trained: dict[str, Any]) -> None:
    tree = lab.get_by_role("tree", name="Models and their versions")
    lab.get_by_role("searchbox", name="Search models").fill("lab-panel")  # other tests leave models too
    expect(tree.get_by_role("treeitem")).to_have_count(1)
    tree.focus()
    lab.keyboard.press("Home")
    lab.keyboard.press("ArrowRight")
    expect(tree.get_by_role("treeitem", name=re.compile("lab-panel version 1"))).to_contain_text(
        "serves lab-panel 100 %"
    )
    with scientist.api() as api:
        added = api.post("/services/majlis/api/v1/models/lab-panel/versions", json=trained)
        assert added.status_code == 201, added.text
        second = tree.get_by_role("treeitem", name=re.compile("lab-panel version 2"))
        expect(second).to_be_visible(timeout=LIVE_MS)
        withdraw = "/services/majlis/api/v1/models/lab-panel/versions/2/withdraw"
        assert api.post(withdraw, json={"reason": "only to be seen"}).status_code == 200
    expect(second).to_contain_text("withdrawn", timeout=LIVE_MS)
    lab.keyboard.press("ArrowLeft")
    expect(second).to_have_count(0)


@pytest.mark.timeout(300)
def test_search_narrows_the_models(lab: Page, trained: dict[str, Any]) -> None:
    search = lab.get_by_role("searchbox", name="Search models")
    search.fill("nothing is called so")
    expect(lab.get_by_text("No model matches")).to_be_visible()
    lab.get_by_role("button", name="Show all models").click()
    expect(search).to_have_value("")
    expect(lab.get_by_role("treeitem").first).to_be_visible()


@pytest.mark.timeout(600)
def test_a_notebook_runs_with_the_parameters_that_are_given(lab: Page) -> None:
    lab.locator(".lm-TabBar-tabLabel", has_text="count.ipynb").first.click()
    lab.get_by_role("button", name="Run as pipeline").click()
    dialog = lab.get_by_role("dialog")
    until = dialog.get_by_role("textbox", name="until")
    expect(until).to_have_value("4")
    expect(dialog).to_contain_text("count up to here")
    until.fill("many")
    expect(dialog).to_contain_text("Give a whole number.")
    expect(dialog.get_by_role("button", name="Run", exact=True)).to_be_disabled()
    until.fill("5")
    lab.keyboard.press("Enter")
    done(lab, "count")
    lab.get_by_role("button", name="Open the executed notebook of count").click()
    expect(lab.locator(".jp-NotebookPanel").get_by_text("total").last).to_be_visible(timeout=SLOW_MS)


@pytest.mark.timeout(600)
def test_a_pipeline_is_chosen_and_run(lab: Page) -> None:
    lab.get_by_role("button", name="Run pipeline…").click()
    dialog = lab.get_by_role("dialog")
    dialog.get_by_role("combobox", name="Pipeline").select_option("Counting")
    expect(dialog).to_contain_text("the end")
    dialog.get_by_role("button", name="Run", exact=True).click()
    done(lab, "Counting")


@pytest.mark.timeout(600)
def test_a_run_on_another_profile_is_followed_in_the_panel(lab: Page) -> None:
    turn_to(lab, "Runs")
    lab.get_by_role("button", name="Run pipeline…").click()
    dialog = lab.get_by_role("dialog")
    dialog.get_by_role("combobox", name="Pipeline").select_option("Counting")
    dialog.get_by_role("textbox", name="until").fill("6")
    where = dialog.get_by_label("Where")
    expect(where.locator("option").first).to_have_text("Here, on your server")
    where.select_option("Medium: 4 cores, 16 GiB")
    expect(dialog).to_contain_text("it stops when the run is over")
    dialog.get_by_role("button", name="Run", exact=True).click()
    expect(lab.locator(".majlis-Run").first).to_contain_text("on cpu-medium", timeout=SLOW_MS)
    done(lab, "Counting")
    dialog_of_again(lab).get_by_role("button", name="Cancel").click()


def dialog_of_again(lab: Page) -> Locator:
    """The form with which the newest run is started again: what was chosen is chosen."""
    newest = lab.locator(".majlis-Run").first
    if newest.get_by_role("button").first.get_attribute("aria-expanded") == "false":
        newest.get_by_role("button").first.click()
    newest.get_by_role("button", name="Run again…").click()
    dialog = lab.get_by_role("dialog")
    expect(dialog.get_by_label("Where")).to_have_value("cpu-medium")
    return dialog


@pytest.mark.timeout(600)
def test_a_notebook_that_failed_is_taken_up_at_the_failed_cell(lab: Page, scientist: Person) -> None:
    open_file(lab, "counting/broken.ipynb")
    turn_to(lab, "Runs")
    lab.get_by_role("button", name="Run notebook…").click()
    dialog = lab.get_by_role("dialog")
    dialog.get_by_role("textbox", name="factor").fill("8")
    dialog.get_by_role("button", name="Run", exact=True).click()
    lab.get_by_role("button", name="Try again from cell 3").click(timeout=SLOW_MS)
    copy = lab.locator(".jp-NotebookPanel:visible", has_text="An Exception was encountered")
    expect(copy.locator(".jp-Cell.jp-mod-active")).to_contain_text("assert value == 0", timeout=SLOW_MS)
    active = copy.locator(".jp-Cell.jp-mod-active")
    active.locator(".cm-content").fill("print('it is', value)")  # in the state in which it failed
    run_cell(active)
    expect(active.locator(".jp-OutputArea-output")).to_contain_text("it is 56", timeout=SLOW_MS)


@pytest.mark.timeout(600)
def test_a_pipeline_is_scheduled_and_its_schedule_removed(lab: Page, scientist: Person) -> None:
    turn_to(lab, "Runs")
    lab.get_by_role("button", name="Run pipeline…").click()
    dialog = lab.get_by_role("dialog")
    dialog.get_by_role("combobox", name="Pipeline").select_option("Counting")
    dialog.get_by_label("When").select_option("At other times")
    dialog.get_by_label("Minute hour day month weekday").fill("often")
    dialog.get_by_role("button", name="Schedule", exact=True).click()
    expect(dialog.locator("input:invalid")).to_have_value("often")
    dialog.get_by_label("When").select_option("Every day")
    dialog.get_by_label("At, UTC").fill("04:30")
    dialog.get_by_label("Where").select_option("Medium: 4 cores, 16 GiB")
    expect(dialog).to_contain_text("Your server need not be up")
    dialog.get_by_role("button", name="Schedule", exact=True).click()
    scheduled = lab.get_by_role("region", name="Schedules").get_by_role("listitem")
    expect(scheduled).to_contain_text("counting next in", timeout=SLOW_MS)
    expect(scheduled).to_contain_text("on cpu-medium")
    expect(scheduled.locator("[title='30 4 * * *']")).to_be_visible()
    lab.get_by_role("button", name="Remove the schedule counting").click()
    expect(lab.get_by_role("region", name="Schedules")).to_have_count(0)


@pytest.mark.timeout(300)
def test_the_launcher_and_the_palette_lead_to_everything(lab: Page) -> None:
    lab.get_by_role("button", name="New Launcher").first.click()
    launcher = lab.locator(".jp-Launcher:visible")
    cards = launcher.locator(".jp-LauncherCard[data-category='Majlis']")
    titles = [
        "Models",
        "Review inbox",
        "Run a pipeline",
        "Your first model",
        "Bring your own data",
        "Review a model",
    ]
    expect(cards).to_have_text(titles)
    first, ours = (
        launcher.locator(f".jp-LauncherCard[data-category='{name}']").first for name in ("Notebook", "Majlis")
    )
    assert ours.bounding_box()["y"] < first.bounding_box()["y"]  # type: ignore[index]
    cards.nth(1).focus()
    lab.keyboard.press("Enter")
    expect(lab.get_by_role("tab", name=re.compile("^Reviews"))).to_have_attribute("aria-selected", "true")
    lab.keyboard.press("Control+Shift+C")
    lab.keyboard.type("Bring your own data")
    expect(lab.locator(".lm-CommandPalette-item", has_text="Bring your own data")).to_be_visible()
    lab.keyboard.press("Enter")
    expect(lab.locator(".lm-TabBar-tabLabel", has_text="02_your_data.ipynb")).to_be_visible(timeout=SLOW_MS)


def turn_to(lab: Page, tab: str) -> None:
    """Show a tab of the panel, whatever the sidebar shows."""
    if not lab.locator("#majlis-panel").is_visible():
        lab.click('[data-id="majlis-panel"]')
    lab.get_by_role("tab", name=tab, exact=True).click()


def done(lab: Page, title: str) -> None:
    """Wait until the newest run is the one called `title`, and done."""
    newest = lab.locator(".majlis-Run").first
    expect(newest.locator(".majlis-Name")).to_have_text(title, timeout=SLOW_MS)
    expect(newest.locator(".majlis-Badge")).to_have_text(re.compile("done|failed"), timeout=SLOW_MS)
    expect(newest.locator(".majlis-Badge")).to_have_text("done")


@pytest.mark.timeout(300)
def test_reviews_lead_to_what_waits_for_a_decision(lab: Page, scientist: Person) -> None:
    turn_to(lab, "Runs")
    lab.keyboard.press("ArrowRight")
    expect(lab.get_by_role("tab", name=re.compile("^Reviews"))).to_have_attribute("aria-selected", "true")
    with scientist.api() as api:  # other tests leave versions in review, or none
        waiting = api.get("/services/majlis/api/v1/reviews").json()
    reviews = lab.get_by_role("region", name="Reviews")
    expect(reviews.get_by_role("listitem")).to_have_count(len(waiting))
    for version in waiting:
        page = f"/services/majlis/models/{version['model']}/{version['version']}"
        expect(reviews.locator(f"a[href$='{page}']")).to_be_visible()
    if not waiting:
        expect(lab.get_by_text("Nothing to decide")).to_be_visible()
