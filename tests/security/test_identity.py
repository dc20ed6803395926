"""Who may call what: with no token, another person's, forged fields, another page, a kernel."""

import httpx
import pytest

from majlis.access import DECIDING_SCOPES, Scope
from tests.support.people import Person
from tests.support.workbench import Workbench

API = "/services/majlis/api/v1"
MLFLOW = "/services/mlflow/api/2.0/mlflow"

People = dict[str, Person]

FORGED = {
    "X-Forwarded-User": "admin",
    "X-Remote-User": "admin",
    "X-User": "admin",
    "X-Auth-Request-User": "admin",
    "Remote-User": "admin",
    "X-JupyterHub-User": "admin",
    "X-Majlis-Principal": "admin",
}


@pytest.mark.parametrize(
    "path", ["whoami", "models", "reviews", "deployments", "audit", "audit/verify", "costs"]
)
def test_the_api_tells_strangers_nothing(workbench: Workbench, path: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "token"},
        {"Cookie": "majlis-majlis=x"},
    ):
        answer = workbench.anonymous().get(f"{API}/{path}", headers=headers)
        assert answer.status_code == 401, (path, headers, answer.text)
        assert answer.headers["content-type"].startswith("application/problem+json")


@pytest.mark.parametrize(
    "path",
    [
        "experiments/search?max_results=1",
        "runs/get?run_id=x",
        "registered-models/search",
        "artifacts/list?run_id=x",
    ],
)
def test_mlflow_tells_strangers_nothing(workbench: Workbench, path: str) -> None:
    assert workbench.anonymous().get(f"{MLFLOW}/{path}").status_code == 401
    direct = f"http://127.0.0.1:{workbench.settings.workbench.mlflow_port}"
    for address in (
        f"{direct}{MLFLOW}/{path}",
        f"{direct}/api/2.0/mlflow/{path}",
        f"{direct}/ajax-api/2.0/mlflow/{path}",
    ):
        assert httpx.get(address, trust_env=False).status_code == 401, address


@pytest.mark.parametrize(
    "path",
    [
        "/ajax-api/3.0/mlflow/gateway/secrets/list",
        "/ajax-api/2.0/mlflow/gateway-proxy",
        "/api/2.0/mlflow/webhooks",
        "/ajax-api/3.0/mlflow/assistant/config",
        "/ajax-api/3.0/jobs/1",
        "/api/2.0/mlflow-artifacts/artifacts/../../control/signing.pem",
    ],
)
def test_what_mlflow_carries_besides_is_closed(people: People, path: str) -> None:
    answer = people["scientist"].api().get(f"/services/mlflow{path}")
    assert answer.status_code in (403, 404), (path, answer.text)


def test_a_forged_field_changes_nothing(people: People) -> None:
    scientist = people["scientist"].api()
    told = {
        "name": "admin",
        "user": "admin",
        "principal": "admin",
        "groups": "admin",
        "scopes": Scope.ADMINISTER,
    }
    me = scientist.get(f"{API}/whoami", headers=FORGED, params=told).json()
    assert me["name"] == "scientist"
    assert me["groups"] == ["scientist"]
    assert Scope.ADMINISTER not in me["scopes"]


def test_anothers_token_is_the_other(people: People) -> None:
    owner = people["owner"].api()
    assert owner.get(f"{API}/whoami").json()["name"] == "owner"
    refused = owner.post(f"{API}/models/m/versions", json={"model_uri": "models:/m-1"})
    assert refused.status_code in (403, 422)
    assert owner.post(f"{MLFLOW}/experiments/create", json={"name": "not the owner's"}).status_code == 403


def test_nobody_enters_anothers_server_or_takes_their_token(people: People) -> None:
    server = people["scientist"].start_server()
    for name in ("engineer", "admin"):
        other = people[name]
        assert other.api().get(f"{server}api/contents").status_code in (401, 403)
        made = other.browser.post(
            "/hub/api/users/scientist/tokens", json={}, headers={"X-XSRFToken": other.xsrf}
        )
        assert made.status_code in (403, 404)


def test_a_revoked_token_is_nobody(workbench: Workbench) -> None:
    person = workbench.person("compliance")
    made = person.hub("POST", "/users/compliance/tokens", json={}).json()
    person.hub("DELETE", f"/users/compliance/tokens/{made['id']}")
    answer = workbench.anonymous().get(f"{API}/whoami", headers={"Authorization": f"Bearer {made['token']}"})
    assert answer.status_code == 401


@pytest.mark.parametrize("name", ["engineer", "owner", "compliance"])
def test_no_token_can_decide(people: People, name: str) -> None:
    whole = people[name].api().get(f"{API}/whoami").json()
    assert set(whole["scopes"]).isdisjoint({scope.value for scope in DECIDING_SCOPES})
    decision = {"decision": "approve", "reason": "it looks good", "as": "review"}
    answer = people[name].api().post(f"{API}/models/m/versions/1/reviews", json=decision)
    assert answer.status_code in (403, 404)


def test_a_kernels_token_cannot_decide_or_administer(workbench: Workbench, people: People) -> None:
    token = people["engineer"].kernel_token()
    kernel = httpx.Client(
        base_url=workbench.url, headers={"Authorization": f"Bearer {token}"}, trust_env=False
    )
    me = kernel.get(f"{API}/whoami").json()
    assert me["name"] == "engineer"
    assert set(me["scopes"]).isdisjoint({Scope.REVIEW, Scope.OWN, Scope.COMPLY, Scope.ADMINISTER})
    assert kernel.get("/hub/api/users").status_code == 403
    more = kernel.post("/hub/api/users/engineer/tokens", json={"scopes": [Scope.REVIEW]})
    assert more.status_code in (400, 403)


def test_a_page_of_the_notebooks_cannot_act_with_a_deciders_session(
    workbench: Workbench, people: People
) -> None:
    decisions = people["engineer"].decisions()
    decision = {"decision": "approve", "reason": "forged", "as": "review"}
    path = f"{API}/models/m/versions/1/reviews"
    for origin in (workbench.url, "http://evil.example", "null", None):
        decisions.headers.pop("Origin", None)
        headers = {"Origin": origin} if origin else {}
        answer = decisions.post(path, json=decision, headers=headers)
        assert answer.status_code == 403, (origin, answer.text)
        assert "same origin" in answer.json()["detail"]


def test_the_decisions_origin_without_a_session_is_closed(workbench: Workbench) -> None:
    there = httpx.get(f"{workbench.decisions_url}{API}/whoami", trust_env=False)
    assert there.status_code == 401
    page = httpx.get(
        f"{workbench.decisions_url}{API}/whoami", headers={"Accept": "text/html"}, trust_env=False
    )
    assert page.status_code == 302
    assert page.headers["location"].startswith(f"{workbench.url}/hub/api/oauth2/authorize")


def test_a_login_that_another_browser_began_is_refused(workbench: Workbench, people: People) -> None:
    begun = httpx.get(
        f"{workbench.url}{API}/whoami",
        headers={"Accept": "text/html"},
        trust_env=False,
        follow_redirects=False,
    )
    state = httpx.URL(begun.headers["location"]).params["state"]
    other = people["owner"].browser.get(
        "/services/majlis/oauth_callback", params={"code": "x", "state": state}
    )
    assert other.status_code == 422
    assert "not begun in this browser" in other.json()["detail"]


@pytest.mark.parametrize(
    "path", ["registered-models/create", "model-versions/create", "registered-models/alias"]
)
def test_the_registry_is_the_control_planes(people: People, path: str) -> None:
    answer = people["scientist"].api().post(f"{MLFLOW}/{path}", json={"name": "m"})
    assert answer.status_code == 403
    assert "decisions" in answer.json()["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a", "artifact_location": "file:///etc"},
        {"name": "b", "artifactLocation": "/etc"},
        {"name": "c", "artifact_location": "s3://elsewhere/x"},
    ],
)
def test_nobody_chooses_where_artifacts_lie(people: People, body: dict[str, str]) -> None:
    answer = people["scientist"].api().post(f"{MLFLOW}/experiments/create", json=body)
    assert answer.status_code == 422


def test_nobody_shows_their_secrets(workbench: Workbench) -> None:
    logs = "".join(path.read_text(errors="replace") for path in (workbench.settings.home / "logs").iterdir())
    for name, password in workbench.passwords.items():
        assert password not in logs, f"{name}'s password is in a log"
    for path in (
        workbench.settings.home / "hub",
        workbench.settings.control,
        workbench.settings.home / "logs",
    ):
        assert path.stat().st_mode & 0o077 == 0, path
