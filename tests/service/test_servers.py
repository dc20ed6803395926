"""People's servers: an idle one is stopped, with a warning, never while a cell runs; and who has a budget."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import websockets

from hub_config.workbench import kernel
from tests.conftest import open_folder
from tests.support.kube_hub import KubeHub
from tests.support.people import Person, spend
from tests.support.waiting import PATIENCE_SECONDS, eventually
from tests.support.workbench import Workbench

IDLE = {"MAJLIS_WORKBENCH_IDLE_SECONDS": "10", "MAJLIS_WORKBENCH_IDLE_WARNING_SECONDS": "7"}
QUIET = "import time; time.sleep(15); print('still here')"  # longer than a server may be idle
EVENT = "urn:majlis:events:idle"


@pytest.fixture(scope="module")
def local() -> Iterator[Workbench]:
    """A workbench whose servers may be idle for a few seconds."""
    with open_folder() as folder:
        running = Workbench(folder, IDLE).start()
        yield running
        running.stop()


@pytest.fixture(scope="module")
def pods() -> Iterator[KubeHub]:
    """The same, with pods."""
    with open_folder() as folder:
        running = KubeHub(folder, overrides=IDLE)
        try:
            yield running.start()
        finally:
            running.stop()


def runs(person: Person) -> bool:
    """Does the hub think that the person's server runs?"""
    return bool(person.hub("GET", f"/users/{person.name}").json()["server"])


@asynccontextmanager
async def listening(server: str, token: str) -> AsyncIterator[Callable[[], Any]]:
    """What an open page is told about being idle: a function that waits for the next warning."""
    url = f"{server.replace('http', 'ws', 1)}api/events/subscribe"
    headers = {"Authorization": f"token {token}"}
    async with websockets.connect(url, additional_headers=headers, proxy=None) as socket:

        async def told() -> float:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (event := json.loads(await socket.recv()))["schema_id"] != EVENT:
                    pass
            return float(event["stops_in_seconds"])

        yield told


def test_a_cell_runs_to_its_end_then_the_person_is_warned_and_the_server_stops(local: Workbench) -> None:
    scientist = local.person("scientist")
    server, token = scientist.start_server(), scientist.full_token

    async def story() -> None:
        assert await kernel.execute(server, token, QUIET, PATIENCE_SECONDS) == "still here\n"
        async with listening(server, token) as told:
            assert 0 < await told() <= 7

    asyncio.run(story())
    eventually(lambda: not runs(scientist), "the idle server was not stopped")
    assert "it stops" in (local.settings.home / "logs" / "hub.log").read_text()


def test_who_says_so_keeps_the_server(local: Workbench) -> None:
    owner = local.person("owner")
    server, token = owner.start_server(), owner.full_token

    async def story() -> None:
        async with listening(server, token) as told:
            assert await told() > 0
            async with httpx.AsyncClient(
                headers={"Authorization": f"token {token}"}, trust_env=False
            ) as page:
                kept = await page.post(f"{server}majlis/idle")
            assert kept.json()["stops_in_seconds"] > 7, kept.text
            assert await told() == 0, "the warning is taken back"
            assert await told() > 0, "nobody is warned a second time"

    asyncio.run(story())


def test_who_has_something_left_reads_how_much_and_who_has_not_is_refused(local: Workbench) -> None:
    engineer = local.person("engineer")
    headers = {"X-XSRFToken": engineer.xsrf}

    def ask() -> httpx.Response:
        return engineer.browser.post("/hub/api/users/engineer/server", headers=headers)

    told = "500.00 of 500.00 USD are left of this month's budget."
    with ThreadPoolExecutor(1) as apart:
        started = apart.submit(ask)
        other = local.person("engineer")  # another page of theirs, on which they wait
        eventually(lambda: told in other.page("/hub/api/users/engineer/server/progress").text, "not told")
        assert started.result().status_code in (201, 202)
    eventually(lambda: runs(engineer), "the server did not start")
    engineer.hub("DELETE", "/users/engineer/server")
    eventually(lambda: not runs(engineer), "the server did not stop")
    spend(local.decisions_url, engineer)
    refused = ask()
    assert refused.status_code == 403
    assert "and 0.00 are left" in refused.json()["message"]


def test_a_pods_cell_runs_to_its_end_then_the_pod_goes(pods: KubeHub) -> None:
    scientist = pods.person("scientist")
    server, token = scientist.start_server(profile="cpu-small"), scientist.full_token
    assert asyncio.run(kernel.execute(server, token, QUIET, PATIENCE_SECONDS)) == "still here\n"
    uid = (pods.cluster.pod("scientist") or {})["metadata"]["uid"]
    eventually(lambda: pods.cluster.pod("scientist") is None, "the idle server's pod stayed")
    phases = {
        change.thing["status"]["phase"]
        for change in pods.cluster.store.history
        if change.plural == "pods" and change.thing["metadata"]["uid"] == uid
    }
    assert "Succeeded" in phases, "a server that fails would be started again by its kubelet"
    assert not runs(scientist)
