"""Whatever is sent to the API, it answers with what its schema says, and never with a server error."""

import json
import re
from collections.abc import Iterator

import jsonschema
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings

from majlis.access import Principal, Role, role_scopes
from majlis.control.api import create_app
from majlis.control.identity import LocalIdentity
from majlis.control.problems import PROBLEM, Problem
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
    app = app_of(control, roles)
    schema, described = schemathesis.openapi.from_asgi(SCHEMA, app), app.openapi()["paths"]
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
            told = described[case.operation.path][case.operation.method.lower()]["responses"]
            assert str(response.status_code) in told, (case.as_curl_command(), response.text)
            if response.status_code >= 400:
                kind = response.headers["content-type"]
                assert "application/problem+json" in str(kind), (case.as_curl_command(), response.text)
                assert Problem.model_validate_json(response.content).remedy, (
                    case.as_curl_command(),
                    response.text,
                )

        answers()


def test_a_client_can_be_written_by_the_document_alone(control: ControlPlane) -> None:
    document = app_of(control, tuple(Role)).openapi()
    schemas = document["components"]["schemas"]
    validate = jsonschema.Draft202012Validator
    bodies = {
        content["schema"]["$ref"].rpartition("/")[2]
        for methods in document["paths"].values()
        for operation in methods.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
        if "$ref" in content["schema"]
    } | {"Usage"}
    assert len(bodies) > 6
    for name in bodies:
        schema = schemas[name] | {"components": document["components"]}
        validate.check_schema(schema)
        for example in schemas[name]["examples"]:  # KeyError: a body without one
            validate(schema).validate(example)
    facts = schemas["Registration"]["properties"]["facts"]
    assert set(facts["required"]) == {"purpose", "personal_data", "affected_people", "autonomy"}
    assert set(document["components"]["securitySchemes"]) == {"token", "session"}
    references = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
    assert references <= set(schemas)


def test_the_document_tells_what_every_operation_does_alike(control: ControlPlane) -> None:
    document = app_of(control, tuple(Role)).openapi()
    schemas = document["components"]["schemas"]
    assert set(schemas["Problem"]["required"]) == {"type", "title", "status", "detail", "remedy"}
    assert "HTTPValidationError" not in schemas
    assert {"digest", "evidence", "policy"} < set(schemas["Ruling"]["required"])
    operations = {
        (method, path.partition("/api/v1")[2]): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if "/api/v1" in path
    }
    for (method, path), operation in operations.items():
        answers, names = operation["responses"], {each["name"] for each in operation["parameters"]}
        for status in ("401", "403", "404", "409", "422", "503"):
            assert PROBLEM in answers[status]["content"], (method, path)
        if method == "get":
            assert "If-None-Match" in names and {"200", "304"} < set(answers)
            assert "ETag" in answers["200"]["headers"]
        else:
            assert "Idempotency-Key" in names
    listings = {path for (_, path), one in operations.items() if "Link" in str(one["responses"].get("200"))}
    assert listings == {
        "/models", "/models/{name}/versions", "/reviews", "/deployments", "/costs", "/audit",
        "/deployments/{name}/keys", "/policy/test",
    }  # fmt: skip
    for path in listings:
        method = "post" if path == "/policy/test" else "get"
        parameters = {each["name"]: each for each in operations[method, path]["parameters"]}
        assert parameters["limit"]["schema"]["maximum"] == control.settings.api.page_rows_max
    conditional = {key for key, one in operations.items() if "412" in one["responses"]}
    unconditional = {
        ("post", path)
        for path in (
            "/policy/test",
            "/meters",
            "/people/{subject}/tokens/revoke",
            "/deployments/{name}/rollout/outcomes",  # labels come as they come
        )
    } | {("put", "/alarms")}  # a server tells how things are, whatever was told before
    assert conditional == {key for key in operations if key[0] != "get"} - unconditional
    needing = {key for key, one in operations.items() if "428" in one["responses"]}
    assert needing == {("delete", "/deployments/{name}")}
    (header,) = [
        p for p in operations["delete", "/deployments/{name}"]["parameters"] if p["name"] == "if-match"
    ]
    assert header["required"]
