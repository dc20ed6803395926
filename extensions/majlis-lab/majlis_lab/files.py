"""The files that requests may name: those below the server's root folder, and nothing else."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from majlis.errors import Forbidden, Invalid, NotFound

PIPELINE_FILE = "pipeline.yaml"


class Files:
    """The folder that the file browser shows, as requests may see it."""

    def __init__(
        self,
        root: Path,  # what the file browser shows
        shelves: Sequence[str] = (".", "notebooks"),  # folders below root whose subfolders may be pipelines
    ) -> None:
        self.root = root.resolve()
        self.shelves = tuple(shelves)

    def __repr__(self) -> str:
        return f"Files({str(self.root)!r}, shelves={self.shelves!r})"

    def resolve(self, path: str) -> Path:
        """The file or folder at `path`, as the file browser names it; Forbidden where it lies outside."""
        if "\0" in path:
            raise Invalid(f"the path {path!r} holds a NUL", remedy="Choose a file in the file browser.")
        found = (self.root / path.lstrip("/")).resolve()
        if not found.is_relative_to(self.root):
            raise Forbidden(f"{path} lies outside your folder", remedy="Choose a file in the file browser.")
        if not found.exists():
            raise NotFound(
                f"there is no {path}", remedy="Save the file first, or choose it in the file browser."
            )
        return found

    def relative(self, path: Path) -> str | None:
        """How the file browser names `path`; None where it does not show it."""
        resolved = path.resolve()
        return resolved.relative_to(self.root).as_posix() if resolved.is_relative_to(self.root) else None

    def notebook(self, path: str) -> Path:
        """The notebook at `path`."""
        found = self.resolve(path)
        if found.suffix != ".ipynb" or not found.is_file():
            raise Invalid(f"{path} is not a notebook", remedy="Open a file that ends in .ipynb.")
        return found

    def pipeline(self, name: str) -> Path:
        """The folder of the pipeline called `name`: its path, or its folder's name on one of the shelves."""
        for folder in (name, *(f"{shelf}/{name}" for shelf in self.shelves)):
            path = (self.root / folder.lstrip("/")).resolve()
            if path.is_relative_to(self.root) and (path / PIPELINE_FILE).is_file():
                return path
        found = self.resolve(name)  # says what is wrong with the path itself
        raise NotFound(
            f"{self.relative(found)} holds no {PIPELINE_FILE}",
            remedy=f"Known pipelines: {', '.join(sorted(path.name for path in self.pipelines())) or 'none'}.",
        )

    def pipelines(self) -> Iterator[Path]:
        """The folders on the shelves that hold a pipeline."""
        for shelf in self.shelves:
            for file in sorted((self.root / shelf).glob(f"*/{PIPELINE_FILE}")):
                if file.resolve().is_relative_to(self.root):
                    yield file.parent.resolve()
