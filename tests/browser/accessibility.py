"""A page looked at by axe-core, at three widths, in the light and in the dark."""

from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page

AXE = Path(__file__).parent.parent.parent / "node_modules" / "axe-core" / "axe.min.js"
WIDTHS, SCHEMES = (1440, 1024, 390), ("light", "dark")
GRAVE = ("serious", "critical")


def looks(chromium: Browser) -> Iterator[tuple[str, Page]]:
    """A tab for every width and scheme, without the page's policy on scripts: escaping alone must hold."""
    for width in WIDTHS:
        for scheme in SCHEMES:
            context = chromium.new_context(
                viewport={"width": width, "height": 900},
                color_scheme=scheme,  # type: ignore[arg-type]
                bypass_csp=True,
            )
            yield f"{width} {scheme}", context.new_page()
            context.close()


def faults(page: Page) -> list[str]:
    """What hinders people on this page: axe's grave findings, and a page wider than its window."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    grave = [
        f"{each['id']} ({each['impact']}): {each['nodes'][0]['html'][:200]}"
        for each in found
        if each["impact"] in GRAVE
    ]
    excess = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return grave + ([f"{excess} pixels wider than the window"] if excess > 0 else [])
