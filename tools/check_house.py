"""Check what nbdev does not: that notebooks and modules belong together, and imports only lead down.

Run from the project's root: `python tools/check_house.py`.
Prints one line per fault and exits 1 when there is any.
"""

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

LIBRARY = Path("majlis")
NOTEBOOKS = Path("nbs")
PLAIN = {LIBRARY / "__init__.py", LIBRARY / "_modidx.py", LIBRARY / "migrations"}  # no notebook behind these

# From the ground up; a module may import from its own floor and from those below it.
FLOORS: list[set[str]] = [
    {"errors", "clock", "files", "values", "settings", "store", "access", "envelope", "events"}
    | {"audit", "audit_export", "audit_writer", "audit_checkpoints"},
    {"data", "features"},
    {"training", "pipelines"},
    {"registry", "governance"},
    {"serving", "monitoring", "cost"},
    {"control", "client", "client_api", "client_versions", "client_deployments", "tables"},
    {
        "sparklines",
        "widgets",
        "cli",
        "cli_app",
        "cli_pipelines",
        "cli_models",
        "cli_records",
        "portal",
        "mlflow_plugin",
    },
]
DEFAULT_EXP = re.compile(r"^#\s*\|\s*default_exp\s+(\S+)", re.MULTILINE)
EXPORTED = re.compile(r"\s*#\s*\|\s*(export|default_exp)")
CONFLICT = re.compile(r"^(<{7}|>{7}|={7})( |$)", re.MULTILINE)
INDEX_HOST = re.compile(
    r'--(extra-)?index-url|"resolved": *"http|^registry *=|/simple/'
    r"|(pypi|pythonhosted|npmjs)\.(org|com)",
    re.MULTILINE,
)


def main() -> int:
    """Print every fault of the tree; return the exit status."""
    faults = [*pairing(), *descent(), *reading(), *mixed(), *text()]
    print("\n".join(faults) or "house: every module has its notebook, and every import leads down and back")
    return int(bool(faults))


def pairing() -> Iterator[str]:
    """Notebooks without a module, modules without a notebook, two notebooks that write one module."""
    exports: Counter[str] = Counter()
    for notebook, name in exported():
        if name is None:
            yield f"{notebook}: no `#| default_exp`, so nothing is exported; add it to the first code cell"
        else:
            exports[name] += 1
    twice = {name: count for name, count in exports.items() if count > 1}
    yield from (f"{name}: {count} notebooks export it; keep one" for name, count in twice.items())
    for module in modules():
        name = ".".join(module.relative_to(LIBRARY).with_suffix("").parts)
        if module.name != "__init__.py" and name not in exports:
            yield f"{module}: no notebook exports {name}; delete it, or write its notebook"


def exported() -> Iterator[tuple[Path, str | None]]:
    """Every notebook in the order of its number, and the name of the module that it writes."""
    for notebook, cells in notebooks().items():
        found = DEFAULT_EXP.search("\n".join(source for _, source in cells))
        yield notebook, found and found[1]


@cache
def notebooks() -> dict[Path, list[tuple[str, str]]]:
    """Type and source of every cell, by notebook, in the order of their numbers."""
    return {
        path: [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(path.read_text())["cells"]]
        for path in sorted(NOTEBOOKS.glob("*.ipynb"))
    }


def modules() -> list[Path]:
    """The library's generated files."""
    return [path for path in sorted(LIBRARY.rglob("*.py")) if PLAIN.isdisjoint({path, *path.parents})]


def floor(module: str) -> int | None:
    """The floor of `majlis.<room>...`, or None where the name is no room."""
    room = module.split(".")[1] if module.startswith("majlis.") else ""
    return next((number for number, rooms in enumerate(FLOORS) if room in rooms), None)


def descent() -> Iterator[str]:
    """Imports that lead up, and rooms that stand on no floor."""
    for path in modules():
        here = floor(".".join(path.with_suffix("").parts))
        if here is None:
            if path.parent != LIBRARY or path.name != "__init__.py":
                yield f"{path}: its room stands on no floor; add it to FLOORS in tools/check_house.py"
            continue
        for line, target in imported(path):
            there = floor(target)
            if there is not None and there > here:
                yield f"{path}:{line}: imports {target}, which stands on a higher floor"


def reading() -> Iterator[str]:
    """Notebooks that stand before one that their module imports: who reads in order has not met it yet."""
    of_module = {f"majlis.{name}": notebook for notebook, name in exported() if name}
    for path in modules():
        here = of_module.get(".".join(path.with_suffix("").parts))
        targets = {target for _, name in imported(path) for target in (name, name.rpartition(".")[0])}
        for there in sorted(of_module[target] for target in targets & of_module.keys()):
            if here is not None and there > here:
                yield f"{here}: comes before {there.name}, which it imports; renumber one of them"


def mixed() -> Iterator[str]:
    """Examples that import and do something: building the docs executes what imports, and only that."""
    for notebook, cells in notebooks().items():
        for number, (kind, source) in enumerate(cells):
            if kind != "code" or EXPORTED.match(source):
                continue
            tree = ast.parse(source)
            imports = [isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree)]
            body = [isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body]
            if any(imports) and not all(body):
                yield f"{notebook}: cell {number} imports and does more; give the imports a cell of their own"


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything that `path` imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = list(path.parent.parts)[: len(path.parent.parts) - node.level + 1] if node.level else []
            source = ".".join([*package, *filter(None, [node.module])])
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def text() -> Iterator[str]:
    """Conflict markers, package-index hosts and this machine's paths in tracked files."""
    tracked = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    home = str(Path.home())
    for name in filter(None, tracked.split("\0")):
        path = Path(name)
        if path == Path("tools/check_house.py") or not path.is_file():
            continue
        try:
            content = path.read_text()
        except UnicodeDecodeError:  # an image
            continue
        if CONFLICT.search(content) and path.suffix not in {".md", ".lock"}:
            yield f"{path}: holds a conflict marker"
        if INDEX_HOST.search(content):
            yield f"{path}: names a package index"
        if str(Path.cwd()) in content or (len(home) > len("/root") and home in content):
            yield f"{path}: holds a path of this machine"


if __name__ == "__main__":
    sys.exit(main())
