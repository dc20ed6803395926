"""As much of a Kubernetes API as KubeSpawner needs: pods are kept and watched, and it can be away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

DEFAULT = "kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"  # what tests point elsewhere
CONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: here, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: nobody, user: {}}]
contexts: [{name: here, context: {cluster: here, user: nobody}}]
current-context: here
"""


def write_config(folder: Path) -> str:
    """A kubeconfig whose API server nobody is; KubeSpawner wants one even where it is told the address."""
    place = folder / "kubeconfig"
    place.write_text(CONFIG)
    return str(place)


class Cluster:
    """The API: what it holds, whether it answers, and what becomes of a new pod's container."""

    def __init__(self) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.away = False
        self.waiting: dict[str, str] = {"reason": "ContainerCreating"}
        self.changed = asyncio.Event()

    def leave(self) -> None:
        """Answer nothing any more, and end every watch."""
        self.away = True
        self.changed.set()

    def come_back(self) -> None:
        """Answer again."""
        self.away = False

    async def listed(self, request: web.Request) -> web.StreamResponse:
        """A list; a watch that says nothing until something changed, after which the client lists again."""
        if self.away:
            return web.json_response({"message": "the API is away"}, status=503)
        if request.query.get("watch"):
            self.changed.clear()
            await self.changed.wait()
            return web.json_response({"message": "the watch ended", "code": 500}, status=200)
        items = list(self.pods.values()) if request.path.endswith("/pods") else []
        return web.json_response({"items": items, "metadata": {"resourceVersion": "1"}})

    async def created(self, request: web.Request) -> web.Response:
        """A new pod waits for its image; other things are simply taken."""
        thing = await request.json()
        if self.away:
            return web.json_response({"message": "the API is away"}, status=503)
        if request.path.endswith("/pods"):
            self.keep(thing)
        return web.json_response(thing, status=201)

    def keep(self, pod: dict[str, Any]) -> None:
        """Hold a pod as a cluster does, with a status."""
        (container,) = pod["spec"]["containers"]
        state = {"name": container["name"], "image": container["image"], "imageID": ""}
        state |= {"ready": False, "restartCount": 0, "state": {"waiting": self.waiting}}
        pod["metadata"] |= {"uid": "1", "namespace": "majlis", "resourceVersion": "1"}
        pod["status"] = {"phase": "Pending", "containerStatuses": [state]}
        self.pods[pod["metadata"]["name"]] = pod
        self.changed.set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """The API's address while it is served."""
        app = web.Application()
        app.router.add_get("/{path:.*}", self.listed)
        app.router.add_post("/{path:.*}", self.created)
        server = TestServer(app)
        await server.start_server()
        try:
            yield f"http://{server.host}:{server.port}"
        finally:
            self.leave()
            await server.close()
