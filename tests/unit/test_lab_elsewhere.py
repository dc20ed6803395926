"""Runs on servers of their own, seen from another machine: only the hub tells whether they go on."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from majlis import clock
from majlis.errors import Conflict, Forbidden, MajlisError, Unavailable
from majlis.pipelines import runs as records
from majlis.pipelines.runs import Process, Run, State, StepRun

pytest.importorskip("majlis_lab")

from majlis_lab.elsewhere import Elsewhere
from majlis_lab.hub import Hub, Standing
from majlis_lab.runs import Launch, Runs, run_of, server_of

POD = Process(host="a-pod-of-its-own", pid=1, started=0.0)
PROFILES = [{"name": "large", "title": "Large", "size": "16 cores", "description": ""}]


def elsewhere(runs: Runs, state: State, process: Process | None) -> str:
    """A run that was left to a server with the profile `large`, as that server recorded it."""
    step = StepRun(name="a", notebook="a.ipynb", executed="a.ipynb", state=state)
    run = Run(
        id=records.new_id(),
        pipeline="p",
        title="P",
        source="p",
        parameters={},
        state=state,
        process=process,
        started_at=clock.now(),
        steps=[step],
    )
    records.create(runs.folder, run)
    runs.write_note(run.id, Launch(process=process, profile="large"))
    return run.id


@pytest.mark.parametrize(
    ("state", "process", "up", "shown"),
    [
        (State.PENDING, None, None, "pending"),  # the hub was not asked yet
        (State.PENDING, None, True, "pending"),
        (State.PENDING, None, False, "failed"),
        (State.RUNNING, POD, None, "running"),
        (State.RUNNING, POD, True, "running"),
        (State.RUNNING, POD, False, "interrupted"),
        (State.DONE, POD, False, "done"),
        (State.FAILED, POD, False, "failed"),
    ],
)
def test_the_hub_tells_whether_a_run_out_of_sight_goes_on(
    tmp_path: Path, state: State, process: Process | None, up: bool | None, shown: str
) -> None:
    runs = Runs(tmp_path, ["false"], tmp_path)
    run_id = elsewhere(runs, state, process)
    runs.servers = None if up is None else {server_of(run_id)} if up else set()
    found = runs.get(run_id)
    assert (found["state"], found["profile"]) == (shown, "large")
    if shown == "failed" and state is State.PENDING:
        assert "no server with the profile large came up" in found["reason"]
    if shown == "interrupted":
        assert "is gone" in found["reason"]
    going = shown in ("pending", "running")
    assert runs.any_elsewhere() is going
    assert not runs.any_alive(), "what others carry out does not keep this server"
    its_own = Runs(tmp_path, ["false"], tmp_path, server=server_of(run_id))
    assert its_own.any_alive() is (shown != "done")


def test_only_names_of_runs_are_servers_of_runs() -> None:
    run_id = records.new_id()
    assert run_of(server_of(run_id)) == run_id
    assert [run_of(name) for name in ("", "run-", "gpu", run_id, "run-../../etc")] == [""] * 5


def hub(answer: Callable[[httpx.Request], httpx.Response]) -> Hub:
    """A hub that answers so."""
    found = Hub("http://hub/hub/api", "token", "ana", 5)
    found.client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return found


@pytest.mark.parametrize(
    ("status", "said", "error", "told", "remedy"),
    [
        (403, {"message": "0.00 are left\nWait for the next month."}, Forbidden, "are left", "Wait"),
        (400, {"message": "ana already has the maximum of 3 named servers."}, Conflict, "maximum", "Try"),
        (500, {"message": "Internal Server Error"}, Unavailable, "Internal", "Try again"),
        (502, None, Unavailable, "the hub answered 502", "Try again"),
    ],
)
def test_a_refusal_of_the_hub_keeps_its_words_and_leaves_no_name(
    status: int, said: dict[str, str] | None, error: type[MajlisError], told: str, remedy: str
) -> None:
    asked: list[tuple[str, str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path, json.loads(request.content)))
        if request.method == "DELETE":
            return httpx.Response(404)
        return httpx.Response(status, json=said) if said else httpx.Response(status, text="<h1>Bad</h1>")

    with pytest.raises(error, match=told) as refused:
        asyncio.run(hub(answer).start("run-1", "large", "P on Large"))
    assert refused.value.remedy.startswith(remedy)
    place = "/hub/api/users/ana/servers/run-1"
    options = {"display_name": "P on Large", "user_options": {"profile": "large"}}
    assert asked == [("POST", place, options), ("DELETE", place, {"remove": True})]


def test_names_of_servers_that_are_gone_are_given_back(tmp_path: Path) -> None:
    ours, starting = (server_of(records.new_id()) for _ in range(2))
    servers = {
        "": {"ready": True, "pending": None},
        "somebody's own": {"ready": False, "pending": None},
        ours: {"ready": False, "pending": None},
        starting: {"ready": False, "pending": "spawn"},
    }
    removed = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"name": "ana", "servers": servers})
        removed.append(request.url.path.rpartition("/")[2])
        return httpx.Response(204)

    runs = Runs(tmp_path, ["false"], tmp_path)
    place = hub(answer)
    asyncio.run(Elsewhere(runs, place, PROFILES, 1.0).ask())
    assert removed == [ours]
    assert runs.servers == {starting}
    place = hub(answer)
    assert asyncio.run(place.servers())[starting] is Standing.STARTING


def test_a_hub_that_is_away_changes_nothing(tmp_path: Path) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody is there")

    runs = Runs(tmp_path, ["false"], tmp_path)
    runs.servers = {"run-1"}
    asyncio.run(Elsewhere(runs, hub(answer), PROFILES, 1.0).ask())
    assert runs.servers == {"run-1"}
