"""Fixtures that several kinds of tests share: a real workbench, started once, and the people who use it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.people import Person
from tests.support.workbench import Workbench

SHORT = {"months": [1, 2, 9, 10, 11], "iterations": 40, "epochs": 1}  # trains, chooses and tests on something
PIPELINE_SECONDS = 600.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The browser comes last: Playwright keeps an event loop running in this thread once it has started."""
    items.sort(key=lambda item: Path(__file__).parent / "browser" in item.path.parents)


@pytest.fixture(scope="session")
def workbench() -> Iterator[Workbench]:
    """A running workbench for the whole session: hub, proxy, control plane, MLflow, gateway."""
    with open_folder() as folder:
        running = Workbench(folder).start()
        yield running
        running.stop()
        assert not running.processes(), "the workbench left processes behind"


@pytest.fixture(scope="session")
def people(workbench: Workbench) -> dict[str, Person]:
    """Everybody with a demo account, logged in."""
    return {name: workbench.person(name) for name in workbench.passwords}


@pytest.fixture(scope="session")
def finished_run(people: dict[str, Person]) -> dict[str, Any]:
    """The example pipeline, run in the scientist's server on part of the year: its record."""
    return people["scientist"].run_pipeline("flight_delay", SHORT, PIPELINE_SECONDS)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A temporary folder that other accounts may enter, as users' servers have to; pytest's are private."""
    with tempfile.TemporaryDirectory(prefix="majlis-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)
