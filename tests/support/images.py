"""The Dockerfile of hub_config/images, read without a container engine: what images hold and start with."""

import fnmatch
import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dockerfile_parse import DockerfileParser

from tests.support.workbench import ROOT

DOCKERFILE = ROOT / "hub_config" / "images" / "Dockerfile"
KNOWN = {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "ENTRYPOINT", "CMD"}


class Copy(NamedTuple):
    """One COPY: from where (another image, or "" for the repository), what, and to which path."""

    source: str
    paths: tuple[str, ...]
    target: str


@dataclass
class Image:
    """One target: what it adds, and what it has from the one it is made of."""

    name: str
    base: "Image | str"
    copies: list[Copy] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    ports: list[int] = field(default_factory=list)
    user: str = "root"
    folder: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)

    @property
    def files(self) -> dict[str, Path]:
        """What it holds of the repository: a path in it, and where that is here."""
        inherited = self.base.files if isinstance(self.base, Image) else {}
        own = {
            str(PurePosixPath(copy.target) / (PurePosixPath(path).name if many(copy) else "")): ROOT / path
            for copy in self.copies
            if not copy.source
            for path in copy.paths
        }
        return inherited | own


def many(copy: Copy) -> bool:
    """Do the sources go into the target's folder, or become the target?"""
    return len(copy.paths) > 1 or not (ROOT / copy.paths[0]).is_dir()


def images() -> dict[str, Image]:
    """Every target of the Dockerfile, by its name."""
    parser = DockerfileParser(path=str(DOCKERFILE))
    found: dict[str, Image] = {}
    for line in parser.structure:
        kind, value = line["instruction"], line["value"]
        if kind in ("COMMENT", "ARG"):
            continue
        if kind not in KNOWN:
            raise NotImplementedError(
                f"{DOCKERFILE.name} uses {kind}; here only {sorted(KNOWN)} are understood"
            )
        if kind == "FROM":
            base, _, name = value.split()
            image = found[name] = begun(name, found.get(base, base))
        else:
            add(image, kind, value)
    return found


def begun(name: str, base: "Image | str") -> Image:
    """A new image, with what it has from its base."""
    if isinstance(base, str):
        return Image(name, base)
    same = {key: getattr(base, key) for key in ("user", "folder", "entrypoint", "command")}
    return Image(name, base, env=dict(base.env), **same)


def add(image: Image, kind: str, value: str) -> None:
    """One more instruction."""
    if kind == "ENV":
        image.env |= dict(pair.split("=", 1) for pair in shlex.split(value))
    elif kind == "COPY":
        words = value.split()
        source = words.pop(0).removeprefix("--from=") if words[0].startswith("--") else ""
        target = str(PurePosixPath(image.folder) / words.pop())
        image.copies.append(Copy(source, tuple(words), target))
    elif kind == "RUN":
        image.runs.append(value)
    elif kind == "EXPOSE":
        image.ports.append(int(value))
    elif kind == "WORKDIR":
        image.folder = value
    elif kind == "USER":
        image.user = value
    elif kind == "ENTRYPOINT":
        image.entrypoint, image.command = json.loads(value), []
    else:
        image.command = json.loads(value)


def is_sent(path: str) -> bool:
    """Does .dockerignore let a file through to the builder? The last pattern that fits decides."""
    sent = True
    places = [str(place) for place in (PurePosixPath(path), *PurePosixPath(path).parents)][:-1]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        rule = re.compile(fnmatch.translate(pattern.lstrip("!").removeprefix("**/")))
        anywhere = pattern.startswith("**/")
        if any(rule.match(place.rpartition("/")[2] if anywhere else place) for place in places):
            sent = pattern.startswith("!")
    return sent
