"""The spawner against an API server that goes away, and with images that cannot be pulled."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientSession
from tornado import web
from traitlets.config import Config

from majlis.settings import load
from spawner import kube
from spawner.kube_spawner import PULL_FAILURES, WatchfulKubeSpawner, has_ended, pull_failure
from tests.support.kube import DEFAULT, NAMESPACE, ApiServer, Store, write_config
from tests.support.kube_nodes import Node, Nodes

PATIENCE_SECONDS = 20.0


class Hurried:
    """asyncio for the watches alone: what they sleep is over at once, so that an outage's minute is short."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, _seconds: float) -> None:
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watches retry without waiting; none and no client is left from another test."""
    monkeypatch.setattr("kubespawner.clients._client_cache", {})
    monkeypatch.setattr("kubespawner.reflector.asyncio", Hurried())
    monkeypatch.setattr(WatchfulKubeSpawner, "reflectors", {})


@asynccontextmanager
async def beside(api: ApiServer, folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """A scientist's spawner that speaks with this cluster."""
    config = Config()
    kube.configure(config, load(environ={}), "http://127.0.0.1:9")  # there is no control plane
    async with api.serving() as server:
        patch.setattr(DEFAULT, write_config(folder, server))
        config.KubeSpawner.k8s_api_host = server
        spawner = WatchfulKubeSpawner(_mock=True, config=config)
        spawner.user.groups = [SimpleNamespace(name="scientist")]
        spawner.hub.api_url = spawner.hub.url = "http://hub:8081/hub/api"
        spawner.get_env = lambda: {}
        try:
            yield spawner
        finally:
            await WatchfulKubeSpawner._stop_all_reflectors()
            await spawner.api.api_client.close()


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def pod(name: str) -> dict[str, Any]:
    """A small pod of a person's."""
    container = {"name": "notebook", "image": "registry.example.org/x:1"}
    metadata = {"name": name, "labels": {"component": "singleuser-server"}}
    return {"metadata": metadata, "spec": {"containers": [container]}}


def test_a_watch_that_gave_up_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        store = Store()
        api = ApiServer(store)
        async with beside(api, tmp_path, monkeypatch) as spawner:
            store.create("pods", pod(spawner.pod_name))
            assert await spawner.poll() is None
            first = spawner.pod_reflector
            await api.leave()
            await eventually(lambda: has_ended(first))
            assert await spawner.poll() is None  # still away: what was known stays known
            assert spawner.pod_reflector is first
            store.delete("pods", spawner.pod_name)
            await api.come()
            assert await spawner.poll() == 1  # seen anew: the pod is gone
            assert spawner.pod_reflector is not first
            assert not has_ended(spawner.pod_reflector)

    asyncio.run(story())


def test_a_watch_that_never_began_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        store = Store()
        api = ApiServer(store)
        async with beside(api, tmp_path, monkeypatch) as spawner:
            await api.leave()
            with pytest.raises(ClientConnectionError):
                await spawner._start_watching_pods()
            await api.come()
            store.create("pods", pod(spawner.pod_name))
            assert await spawner.poll() is None

    asyncio.run(story())


def test_a_start_ends_with_the_reason_when_the_image_cannot_be_pulled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        store = Store()
        async with beside(ApiServer(store), tmp_path, monkeypatch) as spawner:
            nodes = Nodes(store, [Node("cpu", {"majlis/pool": "cpu"})], tmp_path, frozenset({spawner.image}))
            with pytest.raises(web.HTTPError) as refused:
                await asyncio.wait_for(spawner.start(), PATIENCE_SECONDS)
            told = refused.value.jupyterhub_message  # type: ignore[attr-defined]
            assert refused.value.status_code == 503
            assert f"{spawner.image}, ErrImagePull: {spawner.image}: manifest unknown" in told
            assert await spawner.poll() is None  # only a start ends by it
            await nodes.close()

    asyncio.run(story())


def test_a_watch_from_too_old_a_version_ends_with_410_and_a_list_begins_anew(tmp_path: Path) -> None:
    async def story() -> None:
        store = Store(history=2)
        for number in range(4):
            store.create("pods", pod(f"pod-{number}"))
        async with ApiServer(store).serving() as server, ClientSession(server) as session:
            pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
            watch = {"watch": "true", "resourceVersion": "1", "timeoutSeconds": "1"}
            async with session.get(pods, params=watch) as answer:
                ended = json.loads(await answer.content.readline())
            assert (ended["type"], ended["object"]["code"]) == ("ERROR", 410)
            async with session.get(pods) as answer:
                listed = await answer.json()
            assert len(listed["items"]) == 4
            watch["resourceVersion"] = listed["metadata"]["resourceVersion"]
            async with session.get(pods, params=watch) as answer:
                store.create("pods", pod("later"))
                seen = json.loads(await answer.content.readline())
            assert (seen["type"], seen["object"]["metadata"]["name"]) == ("ADDED", "later")

    asyncio.run(story())


@pytest.mark.parametrize("reason", sorted(PULL_FAILURES))
@pytest.mark.parametrize("kind", ["initContainerStatuses", "containerStatuses"])
def test_every_reason_is_told(reason: str, kind: str) -> None:
    waiting = {"image": "registry.example.org/x:1", "state": {"waiting": {"reason": reason}}}
    assert pull_failure({"status": {kind: [waiting]}}) == f"registry.example.org/x:1, {reason}"


@pytest.mark.parametrize(
    "pod",
    [
        None,
        {"status": {"phase": "Pending"}},
        {"status": {"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}},
        {"status": {"containerStatuses": [{"state": {"running": {"startedAt": "now"}}}]}},
    ],
)
def test_a_pod_that_may_yet_come_is_waited_for(pod: dict[str, Any] | None) -> None:
    assert pull_failure(pod) is None
