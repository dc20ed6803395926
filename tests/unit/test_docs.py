"""What the documentation points at is there: files, headings, commands."""

import json
import re
from pathlib import Path

import pytest
from typer.main import get_command

from majlis.cli import app

ROOT = Path(__file__).parent.parent.parent
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("hub_config/**/*.md")),
    *sorted(ROOT.glob("nbs/*.ipynb")),
    *sorted(ROOT.glob("notebooks/**/*.ipynb")),
]


def words(page: Path) -> str:
    """The text of a page; of a notebook, what is not code."""
    if page.suffix != ".ipynb":
        return page.read_text()
    cells = json.loads(page.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def anchors(page: Path) -> set[str]:
    """What can follow # in an address of the page."""
    return {
        re.sub(r"[^\w\- ]", "", each.strip().lower()).replace(" ", "-")
        for each in HEADING.findall(words(page))
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(words(page)):
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        place, _, anchor = link.partition("#")
        target = page.parent / place if place else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_names_only_what_there_is() -> None:
    readme = words(ROOT / "README.md")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert (
        set(re.findall(r"`make ([a-z-]+)", readme)) | set(re.findall(r"^    make ([a-z-]+)", readme, re.M))
        <= targets
    )
    known = named(get_command(app))
    section = readme.partition("## From the command line")[2].partition("\n## ")[0]
    for first, *others in (
        re.findall(r"`([^`]+)`", row.split("|")[1]) for row in section.splitlines() if "| `" in row
    ):
        commands = [first.removeprefix("majlis ").split(), *(other.split() for other in others)]
        group = commands[0][0]
        for command in commands:
            plain = [word for word in command if word.islower()]
            assert " ".join(plain) in known or f"{group} {plain[0]}" in known, command


def named(command: object, path: str = "") -> set[str]:
    """Every command's name, with those of the groups that it is in."""
    found = {path.strip()} - {""}
    for name, each in getattr(command, "commands", {}).items():
        found |= named(each, f"{path} {name}")
    return found
