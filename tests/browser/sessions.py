"""One person in one browser: logged in, watched for faults, and portrayed for the documentation."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.support.people import Person
from tests.support.workbench import Workbench

PICTURES = Path(__file__).parent.parent.parent / "nbs" / "images"
PATIENCE_MS = 90_000
KERNEL_MS = 120_000
TRIES = 60  # to run a cell
SETTLED_MS = 500  # until Lab has taken or dropped what it was told to run


@dataclass
class Session:
    """A tab of one person; `faults` are errors of its pages, and requests to anybody but the workbench."""

    name: str
    page: Page
    faults: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, chromium: Browser, workbench: Workbench, name: str) -> "Session":
        """A browser profile of `name`'s own, logged in."""
        context = chromium.new_context(viewport={"width": 1280, "height": 860}, color_scheme="light")
        context.set_default_timeout(PATIENCE_MS)
        session = cls(name, context.new_page())
        session.watch(context, {urlsplit(url).netloc for url in (workbench.url, workbench.decisions_url)})
        log_in(session.page, workbench, name)
        return session

    def watch(self, context: BrowserContext, own: set[str]) -> None:
        """Note what goes wrong on any page of the profile."""

        def look(url: str) -> None:
            host = urlsplit(url).netloc
            if host and host not in own:
                self.faults.append(f"asked {host}: {url}")

        context.on("request", lambda request: look(request.url))
        context.on("weberror", lambda error: self.faults.append(f"threw {error.error}"))
        context.on(
            "console", lambda said: self.faults.append(f"said {said.text}") if said.type == "error" else None
        )

    def close(self) -> None:
        """Leave."""
        self.page.context.close()


def enter_lab(page: Page, bench: Workbench, person: Person, path: str) -> None:
    """Open a notebook in a fresh JupyterLab of the person's, through the hub's login, and see it there."""
    page.goto(f"{person.start_server()}lab/tree/{path}?reset")
    page.fill("#username_input", person.name)
    page.fill("#password_input", bench.passwords[person.name])
    page.click("#login_submit")
    panel_of(page, path)


def open_file(lab: Page, path: str) -> Locator:
    """Open a notebook by its path from Lab's menu; its panel."""
    lab.get_by_role("menuitem", name="File", exact=True).click()
    lab.get_by_role("menuitem", name="Open from Path").click()
    dialog = lab.get_by_role("dialog")
    dialog.get_by_role("textbox").fill(path)
    dialog.get_by_role("button", name="Open").click()
    return panel_of(lab, path)


def panel_of(lab: Page, path: str) -> Locator:
    """The panel of a notebook that is open, or is about to be; it is in front and shows its cells."""
    panel = lab.get_by_role("tabpanel", name=path.rpartition("/")[2], exact=True)
    expect(panel.locator(".jp-Cell").first).to_be_visible(timeout=PATIENCE_MS)
    return panel


def await_kernel(notebook: Locator) -> None:
    """Wait until the kernel of a notebook's panel is idle; in a wide panel, a narrow one does not show it."""
    kernel = notebook.locator(".jp-Notebook-ExecutionIndicator")
    expect(kernel).to_have_attribute("data-status", "idle", timeout=KERNEL_MS)


def run_cell(cell: Locator) -> None:
    """Run a cell as soon as there is a kernel to take it.

    While its connection is young Lab calls the kernel idle and drops what it is told to run, without a word.
    """
    prompt = cell.locator(".jp-InputArea-prompt")
    before = {prompt.text_content(), "[ ]:"}
    for _ in range(TRIES):
        cell.locator(".cm-content").press("Control+Enter")
        cell.page.wait_for_timeout(SETTLED_MS)
        if prompt.text_content() not in before:
            return
    raise AssertionError(f"after {TRIES} tries the kernel has not taken the cell")


def log_in(page: Page, bench: Workbench, name: str) -> None:
    """Log in on the hub's own page."""
    page.goto(bench.url)
    page.get_by_label("Username").fill(name)
    page.locator("#password_input").fill(bench.passwords[name])
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#start")).to_be_visible()


def keep(page: Page, name: str) -> None:
    """Keep a picture for the documentation, where it is asked for (`make pictures`)."""
    if os.environ.get("MAJLIS_PICTURES"):
        PICTURES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=PICTURES / f"{name}.png")
