"""Fixtures that several kinds of tests share: a real workbench, started once, and the people who use it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.people import Person
from tests.support.workbench import Workbench

SHORT = {"months": [1, 2, 9, 10, 11], "iterations": 40, "epochs": 1}  # trains, chooses and tests on something
PIPELINE_SECONDS = 600.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--benchmark` runs what measures; it is slow and not part of the tests."""
    parser.addoption("--benchmark", action="store_true", help="run tests/bench, and print what it measures")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the benchmarks out unless they are asked for."""
    if not config.getoption("--benchmark"):
        skip = pytest.mark.skip(reason="measures, does not test: make bench")
        for item in items:
            if Path(__file__).parent / "bench" in item.path.parents:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """A running workbench for the whole session: hub, proxy, control plane, MLflow, gateway."""
    running = Workbench(open_to_all(tmp_path_factory.mktemp("workbench"))).start()
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


def open_to_all(folder: Path) -> Path:
    """Let other accounts enter `folder`, which pytest makes for its own alone."""
    for step in (folder, *folder.parents):
        if step.owner() == folder.owner() and step != step.parent and not step.stat().st_mode & 0o001:
            step.chmod(step.stat().st_mode | 0o011)
    return folder
