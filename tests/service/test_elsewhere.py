"""Runs on another profile: a server of their own, which carries them out and takes itself away."""

import json
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.support import waiting
from tests.support.people import Person
from tests.support.workbench import Workbench

PATIENCE_SECONDS = 120.0
eventually = partial(waiting.eventually, seconds=PATIENCE_SECONDS)
LOOK = (
    "import os\nfrom majlis.pipelines.notebook import output\n"
    "output(server=os.environ['JUPYTERHUB_SERVER_NAME'], threads=os.environ['OMP_NUM_THREADS'])"
)
WAIT = "import pathlib, time\nwhile not pathlib.Path.home().joinpath('go').exists():\n    time.sleep(0.1)"
NOTEBOOKS = {"look": LOOK, "wait": WAIT, "fail": "raise ValueError('as it was meant to')"}


class Lab:
    """The Lab extension of one person's usual server."""

    def __init__(self, person: Person) -> None:
        self.person = person
        headers = {"Authorization": f"token {person.full_token}"}
        self.client = httpx.Client(
            base_url=person.start_server(), headers=headers, timeout=PATIENCE_SECONDS, trust_env=False
        )
        for name, code in NOTEBOOKS.items():
            self.write(f"{name}.ipynb", code)

    def write(self, path: str, code: str) -> None:
        """Put a notebook into the home."""
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        content = json.loads(nbformat.writes(new_notebook(cells=[new_code_cell(code)], metadata=metadata)))
        self.client.put(
            f"api/contents/{path}", json={"type": "notebook", "content": content}
        ).raise_for_status()

    def go(self) -> None:
        """Let the runs that wait go on."""
        text = {"type": "file", "format": "text", "content": ""}
        self.client.put("api/contents/go", json=text).raise_for_status()

    def start(self, notebook: str, profile: str) -> httpx.Response:
        """Ask for a run."""
        return self.client.post("majlis/runs", json={"notebook": f"{notebook}.ipynb", "profile": profile})

    def begun(self, notebook: str, profile: str) -> str:
        """Start a run; its id."""
        answer = self.start(notebook, profile)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        """How a run stands."""
        found: dict[str, Any] = self.client.get(f"majlis/runs/{run_id}").json()
        return found

    def ended(self, run_id: str) -> dict[str, Any]:
        """The run when it is over."""
        eventually(lambda: self.run(run_id)["state"] not in ("pending", "running"), "the run is over")
        return self.run(run_id)

    def servers(self) -> set[str]:
        """The servers for runs that the hub knows, running or not."""
        path = f"/users/{self.person.name}?include_stopped_servers=1"
        return {name for name in self.person.hub("GET", path).json()["servers"] if name}

    def alone(self) -> None:
        """Wait until every server that was there for a run is gone and forgotten."""
        eventually(lambda: not self.servers(), "no server is left of the runs")


@pytest.fixture(scope="module")
def lab(people: dict[str, Person]) -> Iterator[Lab]:
    """The scientist's usual server."""
    found = Lab(people["scientist"])
    yield found
    found.client.close()


@pytest.fixture
def go(lab: Lab) -> Iterator[None]:
    """The runs that wait have not been let go; in the end they are."""
    lab.client.delete("api/contents/go")
    yield
    lab.go()
    lab.alone()


@pytest.mark.timeout(400)
def test_a_run_has_a_server_of_its_profile_which_goes_when_it_is_over(lab: Lab) -> None:
    offered = {one["name"]: one for one in lab.client.get("majlis/profiles").json()}
    assert list(offered) == ["cpu-small", "cpu-medium", "gpu-shared"]
    assert offered["cpu-medium"]["size"] == "4 cores, 16 GiB"
    run_id = lab.begun("look", "cpu-medium")
    run = lab.ended(run_id)
    assert (run["state"], run["profile"]) == ("done", "cpu-medium"), run
    assert run["steps"][0]["outputs"]["server"] == f"run-{run_id}"
    lab.alone()


@pytest.mark.timeout(400)
def test_a_run_that_fails_leaves_no_server_and_is_resumed_on_its_profile(lab: Lab) -> None:
    run_id = lab.begun("fail", "cpu-medium")
    run = lab.ended(run_id)
    assert run["state"] == "failed"
    assert "as it was meant to" in run["steps"][0]["failure"]["message"]
    lab.alone()
    lab.write("fail.ipynb", f"{LOOK}\n# mended")
    resumed = lab.client.post(f"majlis/runs/{run_id}/resume")
    assert resumed.status_code == 200, resumed.text
    again = lab.ended(run_id)
    assert again["steps"][0]["outputs"]["server"] == f"run-{run_id}", again
    lab.alone()


@pytest.mark.parametrize(
    ("profile", "status", "title", "detail", "remedy"),
    [
        ("cpu-large", 403, "Not allowed", "is for the groups", "Choose one of yours"),
        ("nope", 422, "Not valid", "There is no profile 'nope'", "Yours are"),
    ],
)
def test_a_refusal_says_what_to_do_and_leaves_nothing(
    lab: Lab, profile: str, status: int, title: str, detail: str, remedy: str
) -> None:
    before = lab.client.get("majlis/runs").json()
    answer = lab.start("look", profile)
    problem = answer.json()
    assert answer.status_code == status, problem
    assert problem["title"] == title
    assert detail in problem["detail"]
    assert remedy in problem["remedy"]
    assert lab.client.get("majlis/runs").json() == before
    assert lab.servers() == set()


@pytest.mark.timeout(600)
def test_two_at_once_one_is_cancelled_and_the_hub_dies_between(
    lab: Lab, workbench: Workbench, go: None
) -> None:
    first, second = lab.begun("wait", "cpu-small"), lab.begun("wait", "cpu-medium")
    assert lab.servers() == {f"run-{first}", f"run-{second}"}
    for run_id in (first, second):
        eventually(lambda run_id=run_id: lab.run(run_id)["state"] == "running", "the run is going on")
    killed = workbench.component("hub", "jupyterhub -f")
    psutil.Process(killed.pid).send_signal(signal.SIGKILL)
    eventually(lambda: workbench_answers(workbench), "the hub came back")
    eventually(lambda: lab.servers() == {f"run-{first}", f"run-{second}"}, "the hub knows the servers again")
    assert lab.client.post(f"majlis/runs/{first}/cancel").status_code == 200
    assert lab.ended(first)["state"] == "interrupted"
    assert lab.run(second)["state"] == "running"
    lab.go()
    assert lab.ended(second)["state"] == "done"
    lab.alone()


@pytest.mark.timeout(600)
def test_a_run_outlives_the_server_that_started_it(lab: Lab, go: None) -> None:
    lab.write("wait.ipynb", f"{WAIT}\n# once more")  # or the result of an earlier run is taken
    run_id = lab.begun("wait", "cpu-medium")
    eventually(lambda: lab.run(run_id)["state"] == "running", "the run is going on")
    lab.person.hub("DELETE", f"/users/{lab.person.name}/server")
    eventually(lambda: not lab.person.hub("GET", f"/users/{lab.person.name}").json()["server"], "it stopped")
    assert lab.servers() == {f"run-{run_id}"}
    lab.person.start_server()
    assert lab.run(run_id)["state"] == "running"
    lab.go()
    assert lab.ended(run_id)["state"] == "done"
    lab.alone()


def workbench_answers(workbench: Workbench) -> bool:
    """Whether the hub is there."""
    try:
        return workbench.anonymous().get("/hub/health").status_code == 200
    except httpx.HTTPError:
        return False
