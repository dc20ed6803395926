"""A control plane with somebody's things in it, and a client that calls as whom the test says."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from majlis.control.api import create_app
from majlis.control.service import ControlPlane
from majlis.settings import load
from tests.support.council import Asking, furnished


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    home = tmp_path_factory.mktemp("home")
    made = ControlPlane(load(environ={"MAJLIS_WORKBENCH_HOME": str(home)})).open()
    yield made
    made.close()


@pytest.fixture
def things(control: ControlPlane) -> None:
    furnished(control)


@pytest.fixture
def identity() -> Asking:
    return Asking()


@pytest.fixture
def http(control: ControlPlane, identity: Asking) -> TestClient:
    return TestClient(create_app(control, identity), base_url="http://majlis", raise_server_exceptions=False)
