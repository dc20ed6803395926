"""The hub as it runs: who is who, what survives, and what a killed component does to the others."""

import os
import signal
from functools import partial

import httpx
import psutil
import pytest

from majlis.access import KERNEL_SCOPES, Scope
from tests.support import waiting
from tests.support.people import Person
from tests.support.strangers import BODIES, TOLD_AT_MOST
from tests.support.workbench import Workbench

API = "/services/majlis/api/v1"
MLFLOW = "/services/mlflow/api/2.0/mlflow"

People = dict[str, Person]
eventually = partial(waiting.eventually, seconds=120.0)  # components come back


def answers(url: str) -> bool:
    """Does somebody answer there, with anything but an error of their own?"""
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code < 500
    except httpx.HTTPError:
        return False


def test_every_component_is_well(workbench: Workbench) -> None:
    health = workbench.anonymous().get("/services/majlis/health").json()
    unwell = [part for part in health["components"] if part["status"] == "down"]
    assert not unwell
    names = {part["name"] for part in health["components"]}
    assert {"hub", "proxy", "control plane", "MLflow", "gateway"} <= names


def test_isolation_is_told(workbench: Workbench) -> None:
    health = workbench.anonymous().get("/services/majlis/health").json()
    (kept,) = [part for part in health["components"] if part["name"] == "isolation"]
    assert kept["status"] == ("ok" if os.getuid() == 0 else "degraded")
    assert bool(kept["reason"]) == (kept["status"] != "ok")


@pytest.mark.parametrize("name", ["scientist", "engineer", "owner", "compliance", "admin"])
def test_everyone_has_their_role(people: People, name: str) -> None:
    me = people[name].api().get(f"{API}/whoami").json()
    assert me["name"] == name
    assert me["groups"] == [name]


def test_a_kernel_is_its_person_and_decides_nothing(people: People) -> None:
    code = "import majlis, json; print(json.dumps(majlis.connect().whoami()))"
    me = eval(people["engineer"].run(code), {"true": True, "false": False, "null": None})
    assert me["name"] == "engineer"
    assert set(me["scopes"]) == set(KERNEL_SCOPES)


def test_a_server_runs_apart(workbench: Workbench, people: People) -> None:
    if os.getuid() != 0:
        pytest.skip("only a workbench that runs as root can keep accounts apart")
    found = people["scientist"].run(
        "import os; print(os.getuid(), os.getgid(), oct(os.stat('.').st_mode)[-3:])"
    )
    uid, gid, mode = found.split()
    assert int(uid) > 20_000
    assert (gid, mode) == ("20000", "700")
    look = "import os\nfor p in {}: print(os.access(p, os.R_OK))"
    secret = [
        str(workbench.settings.control),
        str(workbench.settings.home / "hub"),
        str(workbench.settings.home / "mlflow"),
    ]
    assert people["scientist"].run(look.format(secret)).split() == ["False"] * len(secret)


def test_the_notebooks_are_in_a_new_home(people: People) -> None:
    found = people["scientist"].run("import os; print(sorted(os.listdir('notebooks')))")
    assert "flight_delay" in found


def test_mlflow_keeps_runs_for_kernels(people: People) -> None:
    code = """
import mlflow
mlflow.set_experiment("tests")
with mlflow.start_run():
    mlflow.log_metric("a", 1.0)
    mlflow.log_text("hello", "a.txt")
found = mlflow.search_runs(experiment_names=["tests"], output_format="list")[0]
print(found.data.metrics["a"], mlflow.artifacts.load_text(found.info.artifact_uri + "/a.txt"))
"""
    assert people["scientist"].run(code).splitlines()[-1] == "1.0 hello"


def test_decisions_are_made_on_their_own_origin(people: People) -> None:
    engineer = people["engineer"]
    here = engineer.page(f"{API}/whoami").json()
    there = engineer.decisions().get(f"{API}/whoami").json()
    assert Scope.REVIEW not in here["scopes"]
    assert Scope.REVIEW in there["scopes"]


def test_profiles_are_for_their_groups(people: People) -> None:
    owner, form = people["owner"], people["compliance"].page("/hub/spawn").text
    assert "restricted" in form
    assert "cpu-large" not in form
    for options, status, told in (
        ({"profile": "gpu"}, 403, "is for the groups engineer"),
        ({"profile": "nope"}, 422, "cpu-small"),
        ({"image": "registry.example.org/a:1"}, 422, "image does not apply here"),
    ):
        headers = {"X-XSRFToken": owner.xsrf}
        answer = owner.browser.post("/hub/api/users/owner/server", json=options, headers=headers)
        assert answer.status_code == status, answer.text
        assert told in answer.json()["message"]


def test_whatever_is_asked_for_is_refused_and_does_not_stay(people: People) -> None:
    owner = people["owner"]
    for what, body in BODIES.items():
        headers = {"X-XSRFToken": owner.xsrf}
        answer = owner.browser.post("/hub/api/users/owner/server", json=body, headers=headers)
        assert 400 <= answer.status_code < 500, f"{what}: {answer.status_code} {answer.text[:200]}"
        assert len(answer.text) <= TOLD_AT_MOST, what
    page = owner.page("/hub/spawn")  # there is one profile, so nothing is chosen; nor is what was refused
    assert "/spawn-pending/" in str(page.url) or "/user/owner/" in str(page.url), page.text[-2000:]
    owner.start_server()


@pytest.mark.parametrize(
    ("component", "command", "path"),
    [
        ("majlis", "majlis.control.api", "/services/majlis/health"),
        ("mlflow", "majlis.control.tracking_app", "/services/mlflow/health"),
        ("proxy", "configurable-http-proxy", "/hub/health"),
        ("gateway", "majlis.serving.gateway", ""),
        ("hub", "jupyterhub -f", "/hub/health"),
    ],
)
def test_a_killed_component_comes_back(
    workbench: Workbench, people: People, component: str, command: str, path: str
) -> None:
    url = f"{workbench.url}{path}" if path else f"{workbench.settings.gateway.url}/v2/health/live"
    server = people["scientist"].start_server()
    killed = workbench.component(component, command)
    psutil.Process(killed.pid).send_signal(signal.SIGKILL)
    eventually(
        lambda: not killed.is_running() or killed.status() == psutil.STATUS_ZOMBIE, f"{component} died"
    )
    eventually(lambda: answers(url), f"{component} did not come back at {url}")
    assert workbench.component(component, command).pid != killed.pid
    scientist = people["scientist"]
    eventually(lambda: answers(f"{server}api"), "the scientist's server was lost")
    eventually(lambda: scientist.page(f"{API}/whoami").status_code == 200, "the control plane knows nobody")


def test_what_the_kernel_did_survives_the_hub(workbench: Workbench, people: People) -> None:
    server = people["scientist"].start_server()
    pid = people["scientist"].run("import os; print(os.getppid())").strip()
    workbench.component("hub", "jupyterhub -f").kill()
    eventually(lambda: not answers(f"{workbench.url}/hub/health"), "the hub died", seconds=30)
    assert psutil.pid_exists(int(pid))
    eventually(lambda: answers(f"{workbench.url}/hub/health"), "the hub came back")
    eventually(lambda: answers(f"{server}api"), "the way to the server came back")
    assert people["scientist"].run("import os; print(os.getppid())").strip() == pid
