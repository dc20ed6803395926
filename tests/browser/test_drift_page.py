"""The drift page, as a cell's output shows it: drawn, in its sandbox, without a request to any other host."""

from pathlib import Path

import numpy as np
import pandas as pd
from playwright.sync_api import Page

from majlis.monitoring.page import drift_page


def test_the_page_is_drawn_inside_a_notebook_and_asks_nobody(page: Page, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    before = pd.DataFrame({"temp": rng.normal(20, 5, 800), "carrier": rng.choice(["AA", "UA"], 800)})
    after = before.assign(temp=before.temp - 10)
    shown = drift_page(before, after, tmp_path / "drift.html", rows=400)._repr_html_()
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f'<!doctype html><meta charset="utf-8"><h1>Monitor</h1>{shown}')

    asked, faults = list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(notebook.as_uri())
    inside = page.frame_locator("iframe[title='drift report']")
    inside.get_by_text("Dataset Drift", exact=True).wait_for()
    inside.get_by_text("temp", exact=True).first.wait_for()

    assert faults == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))] == []
