"""Render the notebooks as plain ones in _proc/ that mkdocs-jupyter can read, without Quarto.

Run from the project's root: `python tools/docs.py && mkdocs build`.
"""

import json
import shutil
from pathlib import Path

from fastcore.nbio import mk_cell, nb_frontmatter, read_nb, write_nb
from nbdev.config import get_config
from nbdev.serve import proc_nbs


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
    site = Path(proc_nbs(get_config().nbs_path, n_workers=0, force=True))
    for notebook in site.glob("*.ipynb"):
        flatten(notebook)
    add_pipelines(site)
    shutil.copy("README.md", site / "index.md")
    print(json.dumps({"notebooks": len(list(site.rglob("*.ipynb"))), "site": str(site.name)}))


if __name__ == "__main__":
    main()
