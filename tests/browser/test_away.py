"""What the panel and its dialogs say while a component is away; they fill themselves when it is back."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from playwright.sync_api import Page, expect

from tests.browser.sessions import enter_lab
from tests.support.people import Person
from tests.support.workbench import Workbench

SLOW_MS = 120_000  # a component that was killed starts anew


@pytest.fixture
def panel(page: Page, workbench: Workbench, scientist: Person, trained: dict[str, Any]) -> Page:
    """JupyterLab with a notebook, and the panel open."""
    enter_lab(page, workbench, scientist, "start/01_first_model.ipynb")
    expect(page.get_by_role("button", name="Run as pipeline")).to_be_visible(timeout=SLOW_MS)
    page.click('[data-id="majlis-panel"]')
    expect(page.get_by_role("searchbox", name="Search models")).to_be_visible(timeout=SLOW_MS)
    return page


def everything(process: psutil.Process) -> list[psutil.Process]:
    """A process and all that it started."""
    return [process, *process.children(recursive=True)]


@contextmanager
def silent(process: psutil.Process) -> Iterator[None]:
    """A component that is there and does not answer."""
    stopped = everything(process)
    for one in stopped:
        one.suspend()
    try:
        yield
    finally:
        for one in stopped:
            one.resume()


@pytest.mark.timeout(400)
def test_a_silent_control_plane_is_told_and_forgotten(panel: Page, workbench: Workbench) -> None:
    banner = panel.locator(".majlis-Offline")
    expect(banner).to_have_count(0)
    with silent(workbench.component("majlis", "majlis.control.api")):
        expect(banner).to_contain_text("The control plane takes too long to answer.", timeout=SLOW_MS)
        expect(banner).to_contain_text("tried again by itself")
    expect(banner).to_have_count(0, timeout=SLOW_MS)


@pytest.mark.timeout(400)
def test_a_dialog_fills_itself_when_mlflow_is_back(panel: Page, workbench: Workbench) -> None:
    for one in reversed(everything(workbench.component("mlflow", "majlis.control.tracking_app"))):
        one.send_signal(signal.SIGKILL)
    panel.locator(".jp-NotebookPanel-toolbar").get_by_role("button", name="Register").click()
    dialog = panel.get_by_role("dialog")
    expect(dialog.get_by_role("alert")).to_contain_text("The tracking server")
    expect(dialog.get_by_role("alert")).to_contain_text("tried again by itself")
    expect(dialog.get_by_label("Trained model")).to_be_visible(timeout=SLOW_MS)
    expect(dialog.get_by_role("alert")).to_have_count(0)
