"""The spawner against an API server that goes away, and with images that cannot be pulled."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tornado import web
from traitlets.config import Config

from majlis.settings import load
from spawner import kube
from spawner.kube_spawner import PULL_FAILURES, WatchfulKubeSpawner, has_ended, pull_failure
from tests.support.kube import DEFAULT, Cluster, write_config

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
async def beside(cluster: Cluster, folder: Path, patch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    """A scientist's spawner that speaks with this cluster."""
    config = Config()
    kube.configure(config, load(environ={}))
    async with cluster.serving() as server:
        patch.setattr(DEFAULT, write_config(folder))
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
    """A small pod."""
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "notebook", "image": "i:1"}]}}


def test_a_watch_that_gave_up_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        cluster = Cluster()
        async with beside(cluster, tmp_path, monkeypatch) as spawner:
            cluster.keep(pod(spawner.pod_name))
            assert await spawner.poll() is None
            first = spawner.pod_reflector
            cluster.leave()
            await eventually(lambda: has_ended(first))
            assert await spawner.poll() is None  # still away: what was known stays known
            assert spawner.pod_reflector is first
            cluster.come_back()
            cluster.pods.clear()
            assert await spawner.poll() == 1  # seen anew: the pod is gone
            assert spawner.pod_reflector is not first
            assert not has_ended(spawner.pod_reflector)

    asyncio.run(story())


def test_a_watch_that_never_began_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        cluster = Cluster()
        async with beside(cluster, tmp_path, monkeypatch) as spawner:
            cluster.away = True
            with pytest.raises(Exception, match="503"):
                await spawner._start_watching_pods()
            cluster.come_back()
            cluster.keep(pod(spawner.pod_name))
            assert await spawner.poll() is None

    asyncio.run(story())


def test_a_start_ends_with_the_reason_when_the_image_cannot_be_pulled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        cluster = Cluster()
        cluster.waiting = {"reason": "ErrImagePull", "message": "manifest unknown"}
        async with beside(cluster, tmp_path, monkeypatch) as spawner:
            with pytest.raises(web.HTTPError) as refused:
                await asyncio.wait_for(spawner.start(), PATIENCE_SECONDS)
            told = refused.value.jupyterhub_message  # type: ignore[attr-defined]
            assert refused.value.status_code == 503
            assert f"{spawner.image}, ErrImagePull: manifest unknown" in told
            assert await spawner.poll() is None  # only a start ends by it

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
