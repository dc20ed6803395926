"""Render the notebooks as plain ones in _proc/ that mkdocs-jupyter can read, without Quarto.

Run from the project's root: `python tools/docs.py && mkdocs build`.
"""

import inspect
import multiprocessing
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from fastcore import docments
from fastcore.nbio import mk_cell, nb_frontmatter, read_nb, write_nb
from nbdev.config import get_config
from nbdev.processors import FilterDefaults
from nbdev.serve_drv import exec_nb

SITE = Path("_proc")


def render(notebook: Path) -> None:
    """Process `notebook` for reading, as `nbdev.serve.proc_nbs` does, and write it to the site."""
    os.environ["IN_TEST"] = "1"  # nbdev's word for "run the cells that show documentation"
    # annotations as they are written: names that are only imported for types cannot be evaluated
    docments.signature = lambda symbol, **_: inspect.signature(symbol)
    target = SITE / notebook.name
    exec_nb(notebook, target, FilterDefaults)
    flatten(target)


def flatten(path: Path) -> None:
    """Replace nbdev's Quarto front matter and `show_doc` cells in the notebook at `path` by markdown."""
    nb = read_nb(path)
    meta = nb_frontmatter(nb)
    title = f"# {meta['title']}\n\n> {meta.get('description', '')}"
    nb.cells = [mk_cell(title, "markdown"), *(cell for cell in nb.cells if cell.cell_type != "raw")]
    for cell in nb.cells:
        cell.metadata = {}  # execnb stores float timings here, which nbformat rejects
        hidden = "echo: false" in cell.source
        cell.remove_directives()
        if hidden and cell.cell_type == "code":
            data = [output["data"] for output in cell.pop("outputs") if "data" in output]
            cell.set_source("".join("".join(bundle.get("text/markdown", "")) for bundle in data))
            cell.cell_type = "markdown"
            cell.pop("execution_count")
    write_nb(nb, path)


def add_pipelines(site: Path) -> None:
    """Copy the pipelines' and starter notebooks beside the library's, a folder each."""
    for notebook in sorted(Path("notebooks").rglob("*.ipynb")):
        target = site / "notebooks" / notebook.relative_to("notebooks")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(notebook, target)


def main() -> None:
    """Write the whole site's sources to _proc/."""
    source = get_config().nbs_path
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.copytree(source, SITE, ignore=shutil.ignore_patterns("*.ipynb", ".*"))
    # a process each: notebooks that define tables cannot share one
    apart = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=apart, max_tasks_per_child=1) as pool:
        done = list(pool.map(render, sorted(source.glob("*.ipynb"))))
    add_pipelines(SITE)
    shutil.copy("README.md", SITE / "index.md")
    print(f"docs: {len(done)} notebooks of the library rendered")


if __name__ == "__main__":
    main()
