"""The server extension of majlis-lab, in a real Jupyter server: who may ask what, what a run leaves."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import httpx
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from majlis.pipelines.schedule import Schedule, Schedules

pytest.importorskip("majlis_lab")
TOKEN = "the-token-of-the-test"
HUB_TOKEN = "the-token-of-the-server"
DEADLINE_SECONDS = 60


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """The first true answer of `condition`."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {DEADLINE_SECONDS} s")


class ControlPlane(ThreadingHTTPServer):
    """The far side of the proxy: it notes what it is asked, and answers from a table that tests change."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.table: dict[str, tuple[int, str, bytes]] = {}
        self.headers: dict[str, str] = {}  # of every answer
        self.records = 4321  # in the audit trail

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/services/majlis"


class Answering(BaseHTTPRequestHandler):
    server: ControlPlane
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = self.path.removeprefix("/services/majlis/api/v1/")
        self.server.asked.append(
            (self.command, path, {key.lower(): value for key, value in self.headers.items()}, body)
        )
        status, kind, content = self.server.table.get(path, (200, "application/json", self.content(path)))
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.send_header("set-cookie", "session=of-the-control-plane")
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def content(self, path: str) -> bytes:
        """The audit trail; nothing else has anything in it."""
        name, _, query = path.partition("?")
        if name != "audit":
            return b"[]"
        asked = {key: int(values[0]) for key, values in parse_qs(query).items()}
        last = min(self.server.records, asked["after"] + asked.get("limit", 100))
        return json.dumps([{"seq": seq} for seq in range(asked["after"] + 1, last + 1)]).encode()

    do_POST = do_PUT = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output quiet."""


@dataclass
class Server:
    url: str
    home: Path
    control: ControlPlane
    process: subprocess.Popen[bytes]

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"token {TOKEN}"}, timeout=30)

    def get(self, path: str, **kwargs: Any) -> httpx.Response:
        with self.client as client:
            return client.get(path, **kwargs)

    def post(self, path: str, body: Any = None, **kwargs: Any) -> httpx.Response:
        with self.client as client:
            return client.post(path, json=body, **kwargs)

    def state(self, run_id: str, *states: str) -> dict[str, Any] | None:
        """The run, once it is in one of `states`."""
        run = self.get(f"runs/{run_id}").json()
        return run if run["state"] in states else None


def notebook(path: Path, *sources: str, parameters: str = "") -> None:
    """Write a notebook; `parameters` becomes its tagged cell."""
    cells = [new_code_cell(source) for source in sources]
    if parameters:
        cells.insert(0, new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata=metadata), path)


def pipelines(home: Path) -> None:
    """A pipeline that counts, and one whose second step waits for a file."""
    folder = home / "notebooks" / "counting"
    notebook(
        folder / "count.ipynb",
        "from majlis.pipelines.notebook import output\noutput(total=sum(range(until)))",
        parameters="until: int = 4  # count up to here, exclusive",
    )
    (folder / "pipeline.yaml").write_text(
        "name: counting\ntitle: Counting\nparameters:\n  - {name: until, type: int, default: 4, help: last}\n"
        "steps:\n  - {name: count, notebook: count.ipynb, parameters: {until: '${parameters.until}'}}\n"
    )
    waiting = home / "notebooks" / "waiting"
    notebook(waiting / "first.ipynb", "1 + 1")
    notebook(
        waiting / "second.ipynb",
        "import pathlib, time\nwhile not pathlib.Path('go').exists():\n    time.sleep(0.05)",
    )
    (waiting / "pipeline.yaml").write_text(
        "name: waiting\nsteps:\n  - {name: first, notebook: first.ipynb}\n"
        "  - {name: second, notebook: second.ipynb, after: [first]}\n"
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Jupyter server with the extension, a home, and something where the control plane would be."""
    base = tmp_path_factory.mktemp("lab")
    home = base / "home"
    pipelines(home)
    (base / "secret.ipynb").write_text("{}")
    control = ControlPlane()
    Thread(target=control.serve_forever, daemon=True).start()
    environ = os.environ | {
        "HOME": str(home),
        "JUPYTER_RUNTIME_DIR": str(base / "runtime"),
        "JUPYTER_CONFIG_DIR": str(base / "config"),
        "JUPYTER_DATA_DIR": str(base / "data"),
        "MAJLIS_URL": control.url,
        "JUPYTERHUB_API_TOKEN": HUB_TOKEN,
        "JUPYTERHUB_USER": "scientist",
        "MLFLOW_TRACKING_URI": control.url.replace("majlis", "mlflow"),
        "MLFLOW_TRACKING_TOKEN": HUB_TOKEN,
    }
    options = [
        f"--ServerApp.root_dir={home}",
        f"--IdentityProvider.token={TOKEN}",
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0",
        "--ServerApp.port_retries=0",
        "--ServerApp.base_url=/user/scientist/",
        "--ServerApp.jpserver_extensions={'majlis_lab': True, 'jupyterlab': False}",
        "--MajlisLab.watch_seconds=0.2",
        "--MajlisLab.heartbeat_seconds=1",
        "--MajlisLab.schedule_seconds=0.2",
        "--MajlisLab.stop_runs_at_shutdown=True",
    ]
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", *options]
    with (base / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environ, cwd=home, stdout=log, stderr=subprocess.STDOUT)
    try:
        info = wait_for(lambda: list((base / "runtime").glob("jpserver-*.json")), "the server's start")[0]
        url = wait_for(
            lambda: info.read_text() and json.loads(info.read_text())["url"], "the server's address"
        )
        started = Server(f"{url}majlis/", home, control, process)
        wait_for(lambda: answers(started), "the server's first answer")
        yield started
    finally:
        process.terminate()
        process.wait(30)
        control.shutdown()
        control.server_close()


def answers(server: Server) -> bool:
    """Whether the extension answers."""
    try:
        return server.get("runs").status_code == 200
    except httpx.TransportError:
        return False


ADDRESSES = [
    "runs",
    "pipelines",
    "schedules",
    "notebook/parameters?path=a.ipynb",
    "events",
    "api/models",
    "anything",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_nobody_reads_without_a_token(server: Server, address: str) -> None:
    answer = httpx.get(server.url + address)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["remedy"]


ACTIONS = ["runs", "runs/20260101-000000-abcdef/cancel", "schedules", "api/deployments/x"]


@pytest.mark.parametrize("address", ACTIONS)
def test_nobody_acts_without_a_token(server: Server, address: str) -> None:
    before = len(server.control.asked)
    assert httpx.post(server.url + address, json={}).status_code == 403
    assert len([one for one in server.control.asked[before:] if one[0] == "POST"]) == 0


def test_parameters_become_fields(server: Server) -> None:
    notebook(
        server.home / "typed.ipynb",
        parameters="months = [1, 2]  # which\nrate: float = 0.5\nversion: int | None = None  # None: latest",
    )
    form = server.get("notebook/parameters", params={"path": "typed.ipynb"}).json()
    assert form["path"] == "typed.ipynb"
    assert form["fields"] == [
        {"name": "months", "type": "list", "optional": False, "default": [1, 2], "help": "which"},
        {"name": "rate", "type": "float", "optional": False, "default": 0.5, "help": ""},
        {"name": "version", "type": "int", "optional": True, "default": None, "help": "None: latest"},
    ]


def test_a_notebook_without_parameters_has_no_fields(server: Server) -> None:
    notebook(server.home / "plain.ipynb", "1 + 1")
    assert server.get("notebook/parameters", params={"path": "plain.ipynb"}).json()["fields"] == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("../secret.ipynb", 403),
        ("notebooks/../../secret.ipynb", 403),
        ("link/secret.ipynb", 403),
        ("missing.ipynb", 404),
        ("notebooks", 422),
        ("broken.ipynb", 422),
        ("", 422),
    ],
)
def test_only_notebooks_of_the_own_folder_are_read(server: Server, path: str, status: int) -> None:
    (server.home / "broken.ipynb").write_text("not json")
    if not (server.home / "link").exists():
        (server.home / "link").symlink_to(server.home.parent)
    answer = server.get("notebook/parameters", params={"path": path})
    assert answer.status_code == status
    assert answer.json()["remedy"]
    assert "Traceback" not in answer.text


def test_pipelines_are_found_and_a_faulty_one_says_why(server: Server) -> None:
    faulty = server.home / "notebooks" / "faulty"
    faulty.mkdir(exist_ok=True)
    (faulty / "pipeline.yaml").write_text("name: faulty\nsteps: []\n")
    found = {form["name"]: form for form in server.get("pipelines").json()}
    assert found["counting"]["path"] == "notebooks/counting"
    assert [field["name"] for field in found["counting"]["fields"]] == ["until"]
    assert found["counting"]["steps"] == [{"name": "count", "notebook": "count.ipynb"}]
    assert "steps" in found["faulty"]["problem"]["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ([], 422),
        ({"pipeline": "counting", "notebook": "plain.ipynb"}, 422),
        ({"pipeline": "counting", "parameters": [1]}, 422),
        ({"pipeline": "counting", "parameters": {"until": "seven"}}, 422),
        ({"pipeline": "counting", "parameters": {"untill": 7}}, 422),
        ({"pipeline": "counting", "command": "rm"}, 422),
        ({"pipeline": "nothing"}, 404),
        ({"pipeline": "../../etc"}, 403),
        ({"notebook": "../secret.ipynb"}, 403),
        ({"notebook": "a\0b.ipynb"}, 422),
    ],
)
def test_what_cannot_run_is_refused_before_it_starts(server: Server, body: Any, status: int) -> None:
    before = server.get("runs").json()
    answer = server.post("runs", body)
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"] and answer.json()["remedy"]
    assert server.get("runs").json() == before


def test_a_pipeline_runs_and_leaves_its_notebook(server: Server) -> None:
    answer = server.post("runs", {"pipeline": "counting", "parameters": {"until": 5}})
    assert answer.status_code == 201, answer.text
    run_id = answer.json()["id"]
    assert answer.headers["location"].endswith(f"/majlis/runs/{run_id}")
    run = wait_for(lambda: server.state(run_id, "done", "failed"), "the run's end")
    assert run["state"] == "done", run
    assert run["parameters"] == {"until": 5}
    assert run["steps"][0]["outputs"] == {"total": 10}
    assert run["folder"] == f"runs/counting/{run_id}"
    assert (server.home / run["folder"] / run["steps"][0]["executed"]).is_file()
    assert run_id in [one["id"] for one in server.get("runs").json()]


def test_a_run_is_cancelled_and_resumed(server: Server) -> None:
    run_id = server.post("runs", {"pipeline": "waiting"}).json()["id"]
    wait_for(lambda: step_state(server, run_id, "second") == "running", "the second step")
    assert server.post(f"runs/{run_id}/resume").status_code == 409
    cancelled = server.post(f"runs/{run_id}/cancel").json()
    assert cancelled["state"] == "interrupted"
    assert server.post(f"runs/{run_id}/cancel").status_code == 409
    (server.home / "notebooks" / "waiting" / "go").touch()
    assert server.post(f"runs/{run_id}/resume").status_code == 200
    run = wait_for(lambda: server.state(run_id, "done", "failed"), "the resumed run's end")
    assert [step["state"] for step in run["steps"]] == ["done", "done"]
    assert server.post(f"runs/{run_id}/resume").status_code == 409


def test_a_pipeline_is_scheduled_listed_and_forgotten(server: Server) -> None:
    wanted = {"name": "nightly", "source": "counting", "cron": "0 3 * * *", "parameters": {"until": 6}}
    added = server.post("schedules", wanted)
    assert added.status_code == 201, added.text
    assert added.json()["next"].endswith("T03:00:00.000000Z")
    assert added.json()["source"] == "notebooks/counting"
    assert [one["name"] for one in server.get("schedules").json()] == ["nightly"]
    assert server.post("schedules", wanted).status_code == 409
    with server.client as client:
        assert client.delete("schedules/nightly").status_code == 204
        assert client.delete("schedules/nightly").status_code == 404
    assert server.get("schedules").json() == []


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"cron": "often"}, 422),
        ({"cron": None}, 422),
        ({"name": "With Spaces"}, 422),
        ({"source": "nothing"}, 404),
        ({"source": "../secret.ipynb"}, 403),
        ({"parameters": {"until": "many"}}, 422),
        ({"parameters": {"unknown": 1}}, 422),
        ({"command": "rm"}, 422),
    ],
)
def test_a_schedule_that_could_not_run_is_refused(
    server: Server, change: dict[str, Any], status: int
) -> None:
    answer = server.post("schedules", {"name": "faulty", "source": "counting", "cron": "0 3 * * *"} | change)
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"] and answer.json()["remedy"]
    assert server.get("schedules").json() == []


def test_what_was_missed_while_the_server_was_down_is_made_up_for(server: Server) -> None:
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)  # nobody has looked since
    folder = server.home / "notebooks" / "counting"
    missed = Schedule(
        name="missed", source=str(folder), pipeline="counting", cron="0 3 1 1 *", settled=long_ago
    )
    Schedules(server.home / "runs").add(missed)
    started = wait_for(lambda: scheduled(server, "missed")["last_run"], "the run that was missed")
    run = wait_for(lambda: ended(server, started), "its end")
    assert (run["pipeline"], run["state"]) == ("counting", "done")
    with server.client as client:
        client.delete("schedules/missed")


def scheduled(server: Server, name: str) -> dict[str, Any]:
    """A schedule, as it stands."""
    found: dict[str, Any] = next(one for one in server.get("schedules").json() if one["name"] == name)
    return found


def ended(server: Server, run_id: str) -> dict[str, Any] | None:
    """A run that another process began, once it is over."""
    found = [one for one in server.get("runs").json() if one["id"] == run_id]
    return next((one for one in found if one["state"] in ("done", "failed")), None)


def step_state(server: Server, run_id: str, name: str) -> str | None:
    """How far a step is."""
    steps = server.get(f"runs/{run_id}").json()["steps"]
    return next((step["state"] for step in steps if step["name"] == name), None)


@pytest.mark.parametrize(
    ("run_id", "status"), [("20260101-000000-abcdef", 404), ("..%2F..%2Fetc", 422), ("*", 422)]
)
def test_only_runs_are_read(server: Server, run_id: str, status: int) -> None:
    assert server.get(f"runs/{run_id}").status_code == status
    assert server.post(f"runs/{run_id}/cancel").status_code == status


def test_the_control_plane_is_asked_with_the_servers_token(server: Server) -> None:
    server.control.table["models?search=delay"] = (200, "application/json", b'[{"name": "flight_delay"}]')
    answer = server.get("api/models?search=delay", cookies={"of": "the browser"})
    assert answer.json() == [{"name": "flight_delay"}]
    assert "of-the-control-plane" not in answer.headers.get("set-cookie", "")
    asked = [one for one in server.control.asked if one[1] == "models?search=delay"][-1]
    assert asked[2]["authorization"] == f"Bearer {HUB_TOKEN}"
    assert "cookie" not in asked[2]
    assert HUB_TOKEN not in answer.text + str(answer.headers)


def test_bodies_and_refusals_pass_unchanged(server: Server) -> None:
    problem = json.dumps({"title": "Not allowed", "status": 403, "detail": "d", "remedy": "r"}).encode()
    server.control.table["deployments/x/rollback"] = (403, "application/problem+json", problem)
    answer = server.post("api/deployments/x/rollback", {"reason": "late"})
    assert (answer.status_code, answer.content) == (403, problem)
    assert server.control.asked[-1][3] == b'{"reason":"late"}' or any(
        one[3] == b'{"reason":"late"}' for one in server.control.asked
    )


def test_pages_and_conditions_go_through(server: Server) -> None:
    link, etag = '<?limit=1&cursor=abc>; rel="next"', '"state.bytes"'
    server.control.headers = {"Link": link, "ETag": etag}
    try:
        answer = server.get("api/models?limit=1", headers={"If-None-Match": etag, "If-Match": etag})
    finally:
        server.control.headers = {}
    assert (answer.headers["link"], answer.headers["etag"]) == (link, etag)
    sent = [one for one in server.control.asked if one[1] == "models?limit=1"][-1][2]
    assert (sent["if-none-match"], sent["if-match"]) == (etag, etag)


def test_html_of_the_control_plane_cannot_act_here(server: Server) -> None:
    card = "models/a/versions/1/card"
    server.control.table[card] = (200, "text/html", b"<script>alert(1)</script>")
    answer = server.get(f"api/{card}")
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["../../hub/api/user", "%2e%2e/%2e%2e/hub", "models/..%2f..", "", "a//b"])
def test_the_proxy_leads_nowhere_else(server: Server, path: str) -> None:
    asked = len(server.control.asked)
    request = httpx.Request("GET", server.url, headers={"Authorization": f"token {TOKEN}"})
    request.url = request.url.copy_with(raw_path=f"/user/scientist/majlis/api/{path}".encode())
    with httpx.Client() as client:
        assert client.send(request).status_code in (403, 404, 422)
    assert not [one for one in server.control.asked[asked:] if "hub" in one[1] or ".." in one[1]]


def test_a_control_plane_that_is_down_is_a_problem(server: Server) -> None:
    server.control.table["down"] = (503, "text/html", b"<h1>Service Unavailable</h1>")
    answer = server.get("api/down")
    assert answer.status_code == 503
    assert answer.json()["detail"] == "the control plane is not running"


def logged(server: Server, *models: tuple[str, str, str]) -> None:
    """MLflow knows these models: id, whose run logged it, and in which state it is."""
    mlflow = "/services/mlflow/api/2.0/mlflow/"

    def answers_with(path: str, content: Any) -> None:
        server.control.table[mlflow + path] = (200, "application/json", json.dumps(content).encode())

    answers_with("experiments/search", {"experiments": [{"experiment_id": "1", "name": "delays"}]})
    infos = [
        {"model_id": id, "experiment_id": "1", "source_run_id": f"run-{id}", "status": status}
        | {"creation_timestamp_ms": 1000}
        for id, _, status in models
    ]
    answers_with("logged-models/search", {"models": [{"info": info} for info in infos]})
    table = {"source_type": "majlis.lake", "source": '{"table": "gold.flights", "version": 3}'}
    for id, user, _ in models:
        run = {
            "info": {"run_id": f"run-{id}", "run_name": "trees"},
            "data": {
                "tags": [{"key": "mlflow.user", "value": user}],
                "metrics": [{"key": "test/pr_auc", "value": 0.5}],
            },
            "inputs": {"dataset_inputs": [{"dataset": table}, {"dataset": {"source_type": "http"}}]},
        }
        answers_with(f"runs/get?run_id=run-{id}", {"run": run})


def test_own_finished_models_may_be_registered(server: Server) -> None:
    ready = "LOGGED_MODEL_READY"
    logged(
        server,
        ("m-1", "scientist", ready),
        ("m-2", "engineer", ready),
        ("m-3", "scientist", "LOGGED_MODEL_PENDING"),
    )
    assert server.get("trained").json() == [
        {
            "model_uri": "models:/m-1",
            "run_id": "run-m-1",
            "run_name": "trees",
            "experiment": "delays",
            "logged_at": 1000,
            "metrics": {"test/pr_auc": 0.5},
            "tables": [{"name": "gold.flights", "version": 3}],
            "here": False,
        }
    ]


@pytest.mark.parametrize(
    ("asked", "tag", "value"),
    [
        ({"path": "delays/it's late.ipynb"}, "majlis.notebook", "delays/it's late.ipynb"),
        ({"path": "renamed.ipynb", "kernel": "k-1"}, "majlis.kernel", "k-1"),
    ],
)
def test_what_the_open_notebook_logged_comes_first(
    server: Server, asked: dict[str, str], tag: str, value: str
) -> None:
    ready, mlflow = "LOGGED_MODEL_READY", "/services/mlflow/api/2.0/mlflow/"
    logged(server, ("m-9", "scientist", ready))
    ran = json.loads(server.control.table[f"{mlflow}runs/get?run_id=run-m-9"][2])
    ran["run"]["data"]["tags"].append({"key": tag, "value": value})
    info = {"model_id": "m-9", "experiment_id": "1", "source_run_id": "run-m-9", "status": ready}
    found = {"runs": [{"outputs": {"model_outputs": [{"model_id": "m-9", "step": "0"}]}}]}
    logged(server, ("m-1", "scientist", ready))  # later, and all that the newest models are
    for path, content in {
        "runs/get?run_id=run-m-9": ran,
        "logged-models/m-9": {"model": {"info": info | {"creation_timestamp_ms": 1}}},
        "runs/search": found,
    }.items():
        server.control.table[mlflow + path] = (200, "application/json", json.dumps(content).encode())
    answer = server.get("trained", params=asked).json()
    assert [(one["model_uri"], one["here"]) for one in answer] == [
        ("models:/m-9", True),
        ("models:/m-1", False),
    ]
    bodies = [json.loads(one[3]) for one in server.control.asked if one[1] == f"{mlflow}runs/search"]
    quoted = value.replace("'", "\\'")
    assert f"tags.`{tag}` = '{quoted}'" in [body["filter"] for body in bodies]


def test_a_single_notebook_runs(server: Server) -> None:
    notebook(server.home / "alone.ipynb", "assert months == [3]", parameters="months = [1, 2]")
    run_id = server.post("runs", {"notebook": "alone.ipynb", "parameters": {"months": [3]}}).json()["id"]
    run = wait_for(lambda: server.state(run_id, "done", "failed"), "the run's end")
    assert run["state"] == "done", run
    assert run["source"] == "alone.ipynb"


def test_a_run_whose_process_cannot_start_says_why(server: Server) -> None:
    notebook(server.home / "gone" / "gone.ipynb", "1 + 1")
    (server.home / "gone" / "pipeline.yaml").write_text(
        "name: gone\nsteps: [{name: a, notebook: gone.ipynb}]\n"
    )
    run_id = server.post("runs", {"pipeline": "gone"}).json()["id"]
    (server.home / "gone" / "pipeline.yaml").write_text("name: gone\n")
    run = wait_for(lambda: server.state(run_id, "failed"), "the run's end")
    assert "steps" in run["reason"]


def test_changes_arrive_within_two_seconds(server: Server) -> None:
    with server.client as client, client.stream("GET", "events") as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        events = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: "))
        first = next(event for event in events if "models" in event["digests"])
        questions = [one[1] for one in server.control.asked if one[1].startswith("audit")]
        assert len(questions) < 50, "it reads the whole trail to find its end"
        began = time.monotonic()
        server.control.records += 1
        changed = next(event for event in events if event["digests"]["models"] != first["digests"]["models"])
        assert time.monotonic() - began < 2
        assert changed["digests"]["deployments"] == first["digests"]["deployments"]
        run_id = server.post("runs", {"pipeline": "counting"}).json()["id"]
        next(event for event in events if event["digests"]["runs"] != changed["digests"]["runs"])
    wait_for(lambda: server.state(run_id, "done"), "the run's end")


def test_a_page_hears_that_the_control_plane_is_gone(server: Server) -> None:
    server.control.table["deployments"] = (500, "text/plain", b"oops")
    with server.client as client, client.stream("GET", "events") as stream:
        events = (json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: "))
        assert next(event for event in events if event["problem"])["problem"]["remedy"]
        del server.control.table["deployments"]
        assert next(event for event in events if event["problem"] is None)
