"""Debian's chromium, driven by Playwright, as people use the workbench."""

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser.sessions import PATIENCE_MS
from tests.support.people import Person

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


TRAIN = """
import numpy as np, polars as pl, majlis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from majlis.training.models import log_classifier

wb, rng = majlis.connect(), np.random.default_rng(7)
x = rng.normal(size=(800, 2))
late = (x[:, 0] + 0.3 * rng.normal(size=800) > 0).astype(int)
split = np.where(np.arange(800) < 500, "train", "test")
frame = pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "late": late, "split": split})
table = wb.lake.write(frame, "gold.lab_panel", mode="overwrite")
rows = frame.select("a", "b").to_pandas()
with wb.track("lab-panel", tables=[table], name="line") as run:
    model = LogisticRegression().fit(rows[:500], late[:500])
    answers = model.predict_proba(rows[500:])[:, 1]
    run.log({"test/pr_auc": float(average_precision_score(late[500:], answers))})
    uri = log_classifier(run, model, rows.head(3))
print("logged", uri, run.id, table.version)
"""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for the session."""
    program = shutil.which("chromium")
    assert program, "chromium is missing: make test installs it, or apt-get install chromium"
    expect.set_options(timeout=PATIENCE_MS)  # its own default is 5 s, whatever a context allows
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A fresh browser profile: nobody is logged in."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, color_scheme="light")
    context.set_default_timeout(PATIENCE_MS)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A tab."""
    return context.new_page()


@pytest.fixture(scope="session")
def scientist(people: dict[str, Person]) -> Person:
    """The one who trains."""
    return people["scientist"]


@pytest.fixture(scope="session")
def trained(scientist: Person) -> dict[str, Any]:
    """A small model, trained and logged in a kernel; what a registration of it says."""
    with ThreadPoolExecutor(1) as apart:  # the browser's driver keeps this thread's event loop
        said = apart.submit(scientist.run, TRAIN, 180).result()
    uri, run_id, version = re.search(r"logged (\S+) (\S+) (\d+)", said).groups()  # type: ignore[union-attr]
    return {
        "model_uri": uri,
        "run_id": run_id,
        "evaluation": {
            "table": "gold.lab_panel",
            "version": int(version),
            "target": "late",
            "where": {"split": "test"},
        },
        "facts": {
            "purpose": "Try the panel out with made-up numbers",
            "personal_data": False,
            "affected_people": "none",
            "autonomy": "advises",
        },
        "lineage": {"tables": [{"name": "gold.lab_panel", "version": int(version)}]},
    }
