"""The site's table of contents, a hook of mkdocs: the library by floors, in the order of its numbers."""

import json
import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

CHAPTERS = {  # the first number of each
    0: "Ground",
    100: "Data",
    200: "Features",
    300: "Training",
    400: "Pipelines",
    500: "Registry",
    550: "Governance",
    600: "Serving",
    700: "Monitoring",
    750: "Cost",
    800: "Control plane",
    900: "Faces",
}


def on_config(config: Any) -> Any:
    """Give mkdocs the order that the folder alone does not tell."""
    config["nav"] = contents(Path(config["docs_dir"]))
    return config


def contents(site: Path) -> list[dict[str, Any]]:
    """The pages of the site: the front page, the library's chapters, the notebooks that people run."""
    chapters = defaultdict(list)
    for notebook in sorted(site.glob("[0-9]*.ipynb")):
        page = {heading(notebook): notebook.name}
        chapters[chapter(int(notebook.name.partition("_")[0]))].append(page)
    folders = defaultdict(list)
    for notebook in sorted((site / "notebooks").rglob("*.ipynb")):
        page = {heading(notebook): notebook.relative_to(site).as_posix()}
        folders[title(notebook.parent.name)].append(page)
    order = [name for name in CHAPTERS.values() if name in chapters]
    return [
        {"Majlis": "index.md"},
        {"Notebooks": [{name: pages} for name, pages in sorted(folders.items(), key=start_first)]},
        {"The library": [{name: chapters[name]} for name in order]},
    ]


def heading(notebook: Path) -> str:
    """The title that stands at the top of a notebook."""
    first = "".join(json.loads(notebook.read_text())["cells"][0]["source"])
    return first.partition("\n")[0].lstrip("# ")


def chapter(number: int) -> str:
    """The chapter that a notebook's number lies in."""
    for first, following in pairwise([*CHAPTERS, 1000]):
        if first <= number < following:
            return CHAPTERS[first]
    raise ValueError(f"{number} lies in no chapter: notebooks have the numbers 000 to 999")


def title(folder: str) -> str:
    """A folder's name for people."""
    return re.sub(r"[_-]+", " ", folder).capitalize()


def start_first(item: tuple[str, list[dict[str, str]]]) -> tuple[bool, str]:
    """Sorts the starter notebooks before the examples."""
    return item[0] != "Start", item[0]
