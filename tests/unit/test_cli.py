"""The command line: what it says, and how it ends."""

import json
import os
import resource
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from majlis import __version__, cli, cli_models, cli_records
from majlis.client import Workbench, connect
from majlis.errors import Unavailable
from majlis.settings import load

PORTS = {
    "hub": "MAJLIS_WORKBENCH_HUB_API_PORT",
    "proxy": "MAJLIS_WORKBENCH_PORT",
    "control plane": "MAJLIS_WORKBENCH_CONTROL_PORT",
    "MLflow": "MAJLIS_WORKBENCH_MLFLOW_PORT",
    "gateway": "MAJLIS_GATEWAY_PORT",
}


class Component(ThreadingHTTPServer):
    """Something that listens, and answers every path alike."""

    def __init__(self, status: int = 200, body: str = "") -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()  # ends as soon

    @property
    def port(self) -> int:
        return self.server_address[1]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub, and a workbench of our own."""
    for name in list(os.environ):
        if name.startswith("MAJLIS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MAJLIS_WORKBENCH_HOME", str(tmp_path / "var"))


@pytest.fixture
def components(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Component]]:
    """One server for each component, on ports that the settings know; the control plane is confused."""
    found = {name: Component(500 if name == "control plane" else 200) for name in PORTS}
    for name, component in found.items():
        monkeypatch.setenv(PORTS[name], str(component.port))
    yield found
    for component in found.values():
        component.shutdown()
        component.server_close()


def call(*arguments: str) -> int:
    """The exit status of `majlis ARGUMENTS`."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    return int(end.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "nowhere"], "there is no pipeline.yaml in nowhere"),
        (["runs", "--runs", "nowhere"], ""),
        (["audit", "verify"], "there is no audit trail at"),
        (["release", "verify", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_what_to_do(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = call(*arguments)
    out, err = capsys.readouterr()
    assert status == (1 if told else 0)
    assert told in err and "Traceback" not in err + out


def test_settings_are_checked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("settings", "check") == 0
    assert "[workbench] home comes from MAJLIS_WORKBENCH_HOME" in capsys.readouterr().out
    monkeypatch.setenv("MAJLIS_GATEWAY_PORT", "many")
    assert call("settings", "check") == 1
    assert "MAJLIS_GATEWAY_PORT" in capsys.readouterr().err


def test_unknown_commands_and_options_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("fly") == 2
    assert call("runs", "--limit", "0") == 2


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out.strip() == __version__


def test_status_asks_the_control_plane(
    components: dict[str, Component], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = {"name": "gateway", "status": "down", "reason": "no disk", "since": "2026-01-31T09:30:00Z"}
    control = Component(200, json.dumps({"status": "down", "components": [gateway]}))
    monkeypatch.setenv(PORTS["control plane"], str(control.port))
    assert call("status", "--json") == 1
    assert json.loads(capsys.readouterr().out)["components"] == [gateway]
    assert call("status") == 1
    assert "no disk" in capsys.readouterr().out
    control.shutdown()
    control.server_close()


def test_status_knocks_at_every_door_when_the_control_plane_is_the_one_that_is_down(
    components: dict[str, Component], capsys: pytest.CaptureFixture[str]
) -> None:
    components["gateway"].shutdown()
    components["gateway"].server_close()
    assert call("status", "--json") == 1
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)["components"]}
    assert {name: row["status"] for name, row in found.items()} == {
        "hub": "ok",
        "proxy": "ok",
        "control plane": "down",
        "MLflow": "ok",
        "gateway": "down",
    }
    assert "answers 500" in found["control plane"]["reason"]
    assert "nothing answers" in found["gateway"]["reason"]


def test_a_control_plane_that_talks_nonsense_counts_as_not_reached(
    components: dict[str, Component], monkeypatch: pytest.MonkeyPatch
) -> None:
    control = Component(200, "<html>")
    monkeypatch.setenv(PORTS["control plane"], str(control.port))
    assert cli_records.health(load()).status == "ok"
    control.shutdown()
    control.server_close()


def test_help_is_quick() -> None:
    """Under a second of processor time: nothing heavy is imported before a command needs it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "majlis.cli", "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1
    code = "import majlis.cli, sys; print(*sorted(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not {"papermill", "mlflow", "pandas", "polars", "sqlalchemy", "httpx", "pydantic"} & set(loaded)


def test_audit_verify_reads_the_chain(capsys: pytest.CaptureFixture[str]) -> None:
    from majlis.audit import append
    from majlis.store import Store

    store = Store(load().store.url)
    store.migrate()
    with store.session() as session:
        append(session, "sami", "version.registered", "churn/1", {})
    store.close()
    assert call("audit", "verify") == 0
    assert "records: 1;" in capsys.readouterr().out
    assert call("audit", "verify", "--json") == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_a_disk_that_takes_nothing_is_told_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    nbformat.write(new_notebook(cells=[new_code_cell("1")]), tmp_path / "one.ipynb")
    (tmp_path / "runs").touch()  # a file where a folder has to be
    assert call("run", str(tmp_path / "one.ipynb"), "--runs", str(tmp_path / "runs")) == 1
    err = capsys.readouterr().err
    assert str(tmp_path / "runs") in err and "Traceback" not in err
    assert "you may write there" in err


def decided(subject: str, tier: str, **facts: object) -> None:
    """A version that was decided on in the past, with the chairs that the shipped policy asked for."""
    from majlis.registry import versions
    from majlis.store import Store

    chairs = {"low": [], "medium": ["review"], "high": ["review", "own", "comply"]}
    told = {"purpose": "Warn planners early.", "personal_data": False, "affected_people": "none"}
    name, _, number = subject.partition("/")
    store = Store(load().store.url)
    store.migrate()
    with store.session() as session:
        versions.add(
            session,
            name,
            int(number),
            "amira",
            makers=["amira"],
            model_uri="models:/m-1",
            run_id="",
            digest="0" * 64,
            digests={},
            signature={"inputs": [], "outputs": []},
            flavours=[],
            facts=told | {"autonomy": "advises"} | facts,
            lineage={"tables": [], "feature_views": [], "personal_columns": []},
            evaluation={},
            claimed={},
            tier=tier,
            required=chairs[tier],
            state="released",
        )
    store.close()


@pytest.mark.timeout(120)
def test_policy_test_tells_which_past_decisions_another_policy_would_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decided("delays/1", "low")
    decided("loans/4", "medium", autonomy="decides")
    shipped = Path("hub_config/policy.yaml").read_text()
    assert call("policy", "test", "hub_config/policy.yaml") == 0
    assert "none of 2 past decisions would change" in capsys.readouterr().out

    careful, new = yaml.safe_load(shipped), tmp_path / "new.yaml"
    careful["rules"].append({"tier": "high", "when": {"autonomy": "decides"}, "because": "nobody looks"})
    careful["tiers"]["low"]["approvals"] = ["review"]
    new.write_text(yaml.safe_dump(careful, sort_keys=False))
    assert call("policy", "test", str(new)) == 1
    first, heads, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("2 of 2 past decisions would change (")
    assert "medium → high: 1" in first and "low, with other approvals: 1" in first
    assert heads.split() == ["subject", "tier", "approvals", "because"] and len(lines) == 2
    assert "delays/1" in lines[0] and "low → low" in lines[0] and "nobody → review" in lines[0]
    assert "loans/4" in lines[1] and "medium → high" in lines[1] and "nobody looks" in lines[1]
    assert "review → review, own, comply" in lines[1]
    assert call("policy", "test", str(new), "--json") == 1
    told = json.loads(capsys.readouterr().out)
    found = [(row["subject"], row["tier_after"]) for row in told["changes"]]
    assert found == [("delays/1", "low"), ("loans/4", "high")] and told["summary"]["changed"] == 2
    assert call("policy", "test", str(new), "--most", "1") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "… and 1 more; --most shows more of them"


@pytest.mark.timeout(120)
def test_policy_test_says_what_is_wrong_with_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(Path("hub_config/policy.yaml").read_text().replace("autonomy: decides", "mood: good"))
    assert call("policy", "test", str(wrong)) == 1
    assert "`when` names 'mood'; allowed is" in capsys.readouterr().err
    assert call("policy", "test", str(tmp_path / "nowhere.yaml")) == 1
    assert "nowhere.yaml" in capsys.readouterr().err


@pytest.mark.timeout(120)
def test_audit_story_tells_it_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    decided("delays/1", "low")
    assert call("audit", "story", "delays/1") == 0
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert head == "version delays/1: the story of delays/1"
    assert [line.split()[0] for line in lines] == ["training", "version"]
    assert call("audit", "story", "delays/1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["chapters"][1]["by"] == "amira"
    assert call("audit", "story", "delays/2") == 1
    assert "Nothing is known as 'delays/2'" in capsys.readouterr().err


PAGE = "<html><body>503 : Service Unavailable</body></html>"  # what the hub's proxy answers for whom it asks


@contextmanager
def proxy(status: int = 503) -> Iterator[str]:
    """The address of somebody who answers in another's place."""
    component = Component(status, PAGE)
    try:
        yield f"http://127.0.0.1:{component.port}"
    finally:
        component.shutdown()
        component.server_close()


def nobody() -> str:
    """An address where nobody listens any more."""
    with proxy() as url:
        return url


@pytest.mark.parametrize("status", [502, 503, 504])
@pytest.mark.parametrize("arguments", [["models"], ["deployments", "--json"], ["audit", "verify"]])
def test_a_proxy_that_answers_for_the_control_plane_is_a_problem_with_a_remedy(
    status: int, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "a token")
    with proxy(status) as url:
        monkeypatch.setenv("MAJLIS_URL", f"{url}/services/majlis")
        assert call(*arguments) == 1
    out, err = capsys.readouterr()
    assert "The control plane does not answer" in err and "majlis status" in err
    assert "<html>" not in err and not out


def test_nobody_at_the_control_planes_address_is_the_same_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "a token")
    monkeypatch.setenv("MAJLIS_URL", f"{nobody()}/services/majlis")
    assert call("models") == 1
    err = capsys.readouterr().err
    assert "does not answer" in err and "majlis status" in err


def test_a_gateway_that_is_down_is_a_problem_with_a_remedy() -> None:
    with connect(load()) as wb, proxy() as answering:
        for url in (answering, nobody()):
            with pytest.raises(Unavailable, match="The gateway does not answer") as found:
                wb.ask_gateway(f"{url}/v2/models/iris/infer", {"inputs": []}, {})
            assert "majlis status" in found.value.remedy


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    """A workbench in which nothing ever happened."""
    with connect(load(environ={"MAJLIS_WORKBENCH_HOME": str(tmp_path_factory.mktemp("empty"))})) as wb:
        yield wb


@pytest.fixture
def workbench(empty: Workbench, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    """The same, for the commands."""
    monkeypatch.setattr(cli_models, "workbench", lambda: empty)
    return empty


def commands(group: Any, context: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below a group, with its path."""
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if hasattr(found, "list_commands"):
            yield from commands(found, context, *path, name)
        else:
            yield (*path, name), found


ROOT = get_command(cli.app)
COMMANDS = dict(commands(ROOT, ROOT.make_context("majlis", [], resilient_parsing=True)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_help_of_every_command_has_an_example_that_is_understood(path: tuple[str, ...]) -> None:
    found = COMMANDS[path]
    said, _, example = str(found.epilog).partition("Example: majlis ")
    words = shlex.split(example)
    assert not said and tuple(words[: len(path)]) == path
    found.make_context(" ".join(path), words[len(path) :])  # a usage error where it is none of ours


@pytest.mark.parametrize(
    ("arguments", "next_step"),
    [
        (["runs"], "majlis run"),
        (["schedule", "list"], "majlis schedule add"),
        (["models"], "majlis run"),
        (["models", "nobody"], "majlis models"),
        (["reviews"], "registered"),
        (["deployments"], "wb.deploy"),
        (["costs"], "counted"),
    ],
    ids=str,
)
def test_an_empty_list_says_so_and_what_to_do(
    arguments: list[str], next_step: str, workbench: Workbench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments) == 0
    out = capsys.readouterr().out
    assert next_step in out and len(out.splitlines()) == 1
    assert call(*arguments, "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["keys", "list", "fligth-delay"],
        ["keys", "withdraw", "fligth-delay", "k-1", "--reason", "it leaked"],
        ["rollout", "status", "fligth-delay"],
        ["rollout", "promote", "fligth-delay", "--reason", "now"],
        ["rollout", "abort", "fligth-delay", "--reason", "complaints"],
    ],
    ids=" ".join,
)
def test_a_name_that_is_not_there_brings_those_that_come_near(
    arguments: list[str],
    workbench: Workbench,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    there = [{"name": "flight-delay"}, {"name": "loan-review"}]
    monkeypatch.setattr(workbench, "deployments", lambda: there)
    assert call(*arguments) == 1
    err = capsys.readouterr().err
    assert "Did you mean flight-delay?" in err and "loan-review" not in err


def test_a_schedule_that_is_not_there_brings_those_that_come_near(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import nbformat
    from nbformat.v4 import new_code_cell, new_notebook

    nbformat.write(new_notebook(cells=[new_code_cell("1")]), tmp_path / "one.ipynb")
    assert call("schedule", "add", "nightly", str(tmp_path / "one.ipynb"), "--cron", "0 2 * * *") == 0
    assert call("schedule", "remove", "nigthly") == 1
    assert "Did you mean nightly?" in capsys.readouterr().err


def test_settings_and_started_schedules_are_lists_for_programs_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("settings", "check", "--json") == 0
    found = json.loads(capsys.readouterr().out)["overrides"]
    assert {"section": "workbench", "key": "home", "variable": "MAJLIS_WORKBENCH_HOME"} in found
    assert call("schedule", "tick", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_what_is_no_release_is_told_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.zip").touch()
    for given in ("nowhere", str(tmp_path / "a.zip"), str(tmp_path)):
        assert call("release", "verify", given) == 1
        assert "releases/" in capsys.readouterr().err.splitlines()[1]
