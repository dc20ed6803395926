"""Register knows the notebook it was opened from: what that one logged is offered first."""

import json

import httpx
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Page, expect

from tests.browser.conftest import TRAIN
from tests.browser.sessions import enter_lab, open_file, panel_of, run_cell
from tests.browser.test_lab_extension import SLOW_MS
from tests.support.people import Person
from tests.support.workbench import Workbench


@pytest.mark.timeout(600)
def test_register_offers_what_the_open_notebook_logged(
    page: Page, workbench: Workbench, scientist: Person
) -> None:
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    headers = {"Authorization": f"token {scientist.full_token}"}
    with httpx.Client(base_url=f"{scientist.start_server()}api/contents/", headers=headers) as contents:
        for name in ("first", "second"):
            code = TRAIN.replace('name="line"', f'name="{name}"')
            notebook = new_notebook(cells=[new_code_cell(code)], metadata=metadata)
            model = {"type": "notebook", "content": json.loads(nbformat.writes(notebook))}
            contents.put(f"{name}.ipynb", json=model).raise_for_status()
    lab = page
    enter_lab(lab, workbench, scientist, "start/01_first_model.ipynb")
    for name in ("first", "second"):
        opened = open_file(lab, f"{name}.ipynb")
        run_cell(opened.locator(".jp-CodeCell").first)
        said = opened.locator(".jp-OutputArea-output", has_text="logged models:/")
        expect(said.first).to_be_visible(timeout=SLOW_MS)
    for name, other in (("first", "second"), ("second", "first")):  # "second" is the newer one
        lab.locator(".lm-TabBar-tabLabel", has_text=f"{name}.ipynb").first.click()
        opened = panel_of(lab, f"{name}.ipynb")
        opened.get_by_role("button", name="Register").click()
        choice = lab.get_by_role("dialog").get_by_label("Trained model")
        expect(choice.locator("option").first).to_contain_text(f"{name} of lab-panel", timeout=SLOW_MS)
        expect(choice).to_have_value("0")
        expect(choice.locator("optgroup[label='From this notebook'] option")).to_have_count(1)
        expect(choice.locator("optgroup[label='Your others']")).to_contain_text(f"{other} of lab-panel")
        lab.keyboard.press("Escape")
