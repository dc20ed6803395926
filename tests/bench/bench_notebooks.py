"""What it costs to execute a notebook: majlis beside papermill itself and nbclient.

Run from the root of the project: `python tests/bench/bench_notebooks.py [--cells 60] [--times 2]`.
Prints wall and processor seconds of each way and their ratio to ours. Processor time counts the kernels;
each way runs in a process of its own.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

IMPORTS = "import pandas as pd\nimport sklearn.ensemble"


def notebooks(folder: Path, cells: int) -> dict[str, Path]:
    """The notebooks to execute, by what is special about them."""
    kinds = {
        "12 cells, pandas and scikit-learn": [IMPORTS, *["pd.DataFrame({'a': range(100)}).describe()"] * 11],
        f"{cells} cells of nearly nothing": ["1 + 1"] * cells,
        "5 MB of output": ["print('x' * 100_000)"] * 50,
    }
    found = {}
    for kind, sources in kinds.items():
        notebook = new_notebook(cells=[new_code_cell("x = 1", metadata={"tags": ["parameters"]})])
        notebook.cells += [new_code_cell(source) for source in sources]
        notebook.metadata.kernelspec = {"name": "python3", "language": "python", "display_name": "Python 3"}
        found[kind] = folder / f"{len(found)}.ipynb"
        nbformat.write(notebook, found[kind])
    return found


def with_majlis(source: Path, target: Path) -> None:
    from majlis.pipelines.execution import Execution, execute

    execute(Execution(source, nbformat.read(source, as_version=4), target, {"x": 2}))


def with_papermill(source: Path, target: Path) -> None:
    import papermill

    papermill.execute_notebook(str(source), str(target), {"x": 2}, progress_bar=False)


def with_nbclient(source: Path, target: Path) -> None:
    from nbclient import NotebookClient

    notebook = nbformat.read(source, as_version=4)
    NotebookClient(notebook, kernel_name="python3").execute()
    nbformat.write(notebook, target)


WAYS: dict[str, Callable[[Path, Path], None]] = {
    "majlis": with_majlis,
    "papermill": with_papermill,
    "nbclient": with_nbclient,
}


def measure(way: str, source: Path) -> tuple[float, float]:
    """Wall and processor seconds of one execution, the process's start included."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, __file__, "--one", way, str(source)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, check=True, env=environ, capture_output=True)
    took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure every way, each notebook `--times` times, and print the best of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=60)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--one", nargs=2, metavar=("WAY", "NOTEBOOK"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.one:
            WAYS[asked.one[0]](Path(asked.one[1]), Path(folder) / "executed.ipynb")
            return
        results = {}
        for kind, source in notebooks(Path(folder), asked.cells).items():
            print(f"\n{kind}")
            best = {way: min(measure(way, source) for _ in range(asked.times)) for way in WAYS}
            for way, (wall, cpu) in best.items():
                ratios = wall / best["majlis"][0], cpu / best["majlis"][1]
                print(f"  {way:<12}{wall:7.2f} s  {cpu:7.2f} CPU s   {ratios[0]:5.2f} × {ratios[1]:5.2f} ×")
            results[kind] = best
        print(json.dumps(results))


if __name__ == "__main__":
    main()
