"""Put the project's notebooks into a person's home, and never over something they edited.

Runs as a process of its own, under the account of the home's owner: whatever links lie there lead no further
than that account may go. A note of what was put where tells an edited file from one that can be renewed.
"""

import hashlib
import json
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

NOTE = ".majlis-seeded.json"
START = "start"  # the first notebooks: every home has them at its top, and the pipelines one folder below


def plant(notebooks: Path, home: Path) -> list[str]:
    """Bring the first notebooks and the pipelines to their places in `home`; names what was written."""
    pipelines = seed(notebooks, home / "notebooks", without=(START,))
    first = seed(notebooks / START, home / START)
    return [f"notebooks/{name}" for name in pipelines] + [f"{START}/{name}" for name in first]


def seed(source: Path, target: Path, without: Collection[str] = ()) -> list[str]:
    """Bring every file of `source` to `target` unless the person changed it; names what was written.

    Folders of `source` that are named in `without` stay where they are.
    """
    target.mkdir(parents=True, exist_ok=True)
    note = target / NOTE
    seeded: dict[str, str] = json.loads(note.read_text()) if note.exists() else {}
    written = []
    for name, content in files(source):
        if name.partition("/")[0] in without:
            continue
        place, new = target / name, digest(content)
        if place.exists() and digest(place.read_bytes()) not in (seeded.get(name), new):
            continue  # theirs now
        if not place.exists() and seeded.get(name) == new:
            continue  # they deleted it
        if not place.exists() or seeded.get(name) != new:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            written.append(name)
        seeded[name] = new
    note.write_text(json.dumps(seeded, indent=1, sort_keys=True))
    return written


def files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Relative name and content of everything worth copying."""
    for path in sorted(source.rglob("*")):
        parts = path.relative_to(source).parts
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in parts):
            yield "/".join(parts), path.read_bytes()


def digest(content: bytes) -> str:
    """SHA-256, as text."""
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    plant(Path(sys.argv[1]), Path(sys.argv[2]))
