"""Whatever is sent to the API, it answers with what its schema says, and never with a server error."""

from collections.abc import Iterator

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings

from majlis.access import Principal, Role, role_scopes
from majlis.control.api import create_app
from majlis.control.identity import LocalIdentity
from majlis.control.service import ControlPlane
from majlis.settings import load

EXAMPLES = 10  # for each endpoint and role
SCHEMA = "/services/majlis/openapi.json"
ROLES = [(role,) for role in Role] + [tuple(Role), ()]


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    home = tmp_path_factory.mktemp("home")
    made = ControlPlane(load(environ={"MAJLIS_WORKBENCH_HOME": str(home)})).open()
    yield made
    made.close()


def app_of(control: ControlPlane, roles: tuple[Role, ...]) -> FastAPI:
    groups = frozenset(role.value for role in roles)
    return create_app(control, LocalIdentity(Principal("fuzz", role_scopes(groups), groups, "session")))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("roles", ROLES, ids=lambda roles: "+".join(roles) or "nobody")
def test_no_server_error(control: ControlPlane, roles: tuple[Role, ...]) -> None:
    schema = schemathesis.openapi.from_asgi(SCHEMA, app_of(control, roles))
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 20
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        def answers(case: schemathesis.Case) -> None:
            response = case.call()
            assert response.status_code < 500, (case.as_curl_command(), response.text)
            if response.status_code >= 400:
                kind = response.headers["content-type"]
                assert "application/problem+json" in str(kind), (case.as_curl_command(), response.text)

        answers()
