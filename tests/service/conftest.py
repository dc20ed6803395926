"""Fixtures of the service tests: real servers, on the loopback, and a workbench in this process."""

from collections.abc import Iterator

import pytest

from majlis.client import Workbench
from majlis.settings import Settings
from tests.service.databases import emptied_database, postgresql, redis, store, store_url  # noqa: F401
from tests.support.embedded import opened, settings_in


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a workbench with a home of its own."""
    return settings_in(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def wb(settings: Settings) -> Iterator[Workbench]:
    """The workbench, its control plane in this process."""
    with opened(settings) as workbench:
        yield workbench
