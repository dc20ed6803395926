"""A Kubernetes API server in memory: as much of one as a spawner and a kubelet use.

Objects are checked against Kubernetes' strict schemas and kept with a resourceVersion; lists and watches take
selectors; a watch from too old a version ends with 410 Gone; a pod on a node is deleted by its kubelet only.
Nobody is authenticated, and nothing is enforced that a cluster's network, volumes or security contexts would.
"""

import asyncio
import json
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import kubernetes_validate
from aiohttp import web

DEFAULT = "kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"  # what tests point elsewhere
VERSION = "1.37"  # the Kubernetes whose schemas new objects are held against
NAMESPACE = "majlis"
KINDS = {
    "pods": "Pod",
    "events": "Event",
    "services": "Service",
    "secrets": "Secret",
    "configmaps": "ConfigMap",
    "persistentvolumeclaims": "PersistentVolumeClaim",
}
SERVER_GRACE_SECONDS = 0.1  # what open connections get when the API goes away
REASONS = {400: "BadRequest", 404: "NotFound", 409: "Conflict", 410: "Expired"}

Thing = dict[str, Any]  # a Kubernetes object


def write_config(folder: Path, server: str = "http://127.0.0.1:9") -> str:
    """A kubeconfig for a server, by default one that nobody is."""
    cluster, user = {"name": "here", "cluster": {"server": server}}, {"name": "nobody", "user": {}}
    context = {"name": "here", "context": {"cluster": "here", "user": "nobody"}}
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "here"}
    place = folder / "kubeconfig"
    place.write_text(json.dumps(config | {"clusters": [cluster], "users": [user], "contexts": [context]}))
    return str(place)


class Refused(Exception):
    """What the API answers when it refuses."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def status(self) -> Thing:
        """The answer's body."""
        said = {"code": self.code, "reason": REASONS[self.code], "message": str(self)}
        return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "metadata": {}} | said


class Key(NamedTuple):
    """Where an object is kept."""

    plural: str
    namespace: str
    name: str


class Change(NamedTuple):
    """One entry of the history that watches are served from."""

    version: int
    kind: str  # ADDED, MODIFIED or DELETED
    plural: str
    thing: Thing


class Store:
    """The objects of one namespace and the history of their changes."""

    def __init__(self, history: int = 1000, namespace: str = NAMESPACE) -> None:
        self.namespace = namespace
        self.version = 1
        self.things: dict[Key, Thing] = {}
        self.history: deque[Change] = deque(maxlen=history)
        self.listeners: list[Callable[[], None]] = []  # told after every change

    def every(self, plural: str) -> list[Thing]:
        """Everything of a kind."""
        return [thing for key, thing in self.things.items() if key.plural == plural]

    def read(self, plural: str, name: str) -> Thing:
        """One object."""
        try:
            return self.things[Key(plural, self.namespace, name)]
        except KeyError:
            raise Refused(404, f'{plural} "{name}" not found') from None

    def create(self, plural: str, thing: Thing) -> Thing:
        """Keep a new object; it must be one that a cluster accepts."""
        new: Thing = {"apiVersion": "v1", "kind": KINDS[plural]} | deepcopy(thing)
        try:
            kubernetes_validate.validate(new, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            raise Refused(400, f"{KINDS[plural]} cannot be handled: {error.message}") from error
        name = new["metadata"]["name"]
        if Key(plural, self.namespace, name) in self.things:
            raise Refused(409, f'{plural} "{name}" already exists')
        new["metadata"] |= {"uid": str(uuid.uuid4()), "namespace": self.namespace, "creationTimestamp": now()}
        if plural == "pods":
            new["status"] = {"phase": "Pending"}
        return self.keep("ADDED", plural, new)

    def change(self, plural: str, name: str, **parts: Any) -> Thing:
        """Replace some parts of an object: its spec, its status, its metadata."""
        return self.keep("MODIFIED", plural, deepcopy(self.read(plural, name)) | parts)

    def delete(self, plural: str, name: str, grace_seconds: int | None = None) -> Thing:
        """Remove an object; a pod on a node is only marked, until its kubelet says that it ended."""
        thing = deepcopy(self.read(plural, name))
        if plural == "pods" and thing["spec"].get("nodeName") and grace_seconds != 0:
            grace = thing["spec"].get("terminationGracePeriodSeconds", 30)
            given = grace if grace_seconds is None else grace_seconds
            thing["metadata"] |= {"deletionTimestamp": now(), "deletionGracePeriodSeconds": given}
            return self.keep("MODIFIED", plural, thing)
        return self.keep("DELETED", plural, thing)

    def keep(self, kind: str, plural: str, thing: Thing) -> Thing:
        """Write down a change, and tell everybody."""
        self.version += 1
        thing["metadata"]["resourceVersion"] = str(self.version)
        key = Key(plural, self.namespace, thing["metadata"]["name"])
        if kind == "DELETED":
            del self.things[key]
        else:
            self.things[key] = thing
        self.history.append(Change(self.version, kind, plural, thing))
        for listener in list(self.listeners):
            listener()
        return thing

    def since(self, version: int, plural: str) -> list[Change]:
        """The changes after a version; 410 where the history does not reach back so far."""
        if self.history and version + 1 < self.history[0].version:
            raise Refused(410, f"too old resource version: {version} ({self.history[0].version})")
        return [change for change in self.history if change.version > version and change.plural == plural]

    def event(self, pod: Thing, reason: str, message: str, kind: str = "Normal") -> None:
        """Write down what happened to a pod, for people to read."""
        about = {key: pod["metadata"][key] for key in ("name", "namespace", "uid")}
        event = {
            "metadata": {"name": f"{about['name']}.{uuid.uuid4().hex[:16]}", "namespace": self.namespace},
            "involvedObject": {"kind": "Pod", "apiVersion": "v1"} | about,
            "type": kind,
            "reason": reason,
            "message": message,
            "firstTimestamp": now(),
            "lastTimestamp": now(),
        }
        self.create("events", event)


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def selected(things: Iterable[Thing], query: Any) -> list[Thing]:
    """Those that the label and field selectors of a request name; only `key=value` is understood."""
    wanted: list[tuple[tuple[str, ...], str]] = [
        (("metadata", "labels", key), value) for key, value in pairs(query.get("labelSelector", ""))
    ]
    wanted += [(tuple(key.split(".")), value) for key, value in pairs(query.get("fieldSelector", ""))]
    return [thing for thing in things if all(inside(thing, path) == value for path, value in wanted)]


def pairs(selector: str) -> list[tuple[str, str]]:
    """The `key=value` of a selector."""
    parts = [part.partition("=") for part in selector.split(",") if part]
    if unknown := [key for key, equals, _ in parts if not equals or key.endswith("!")]:
        raise Refused(400, f"only key=value selects here, not {unknown}")
    return [(key, value) for key, _, value in parts]


def inside(thing: Thing, path: tuple[str, ...]) -> Any:
    """What lies at a path; None where nothing does."""
    found: Any = thing
    for key in path:
        found = (found or {}).get(key)
    return found


class ApiServer:
    """The store over HTTP, which can be away."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.port = 0  # chosen at the first start, and kept
        self.runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    async def come(self) -> None:
        """Answer, at the same address as before."""
        app = web.Application(middlewares=[answered])
        one, all_of_them = (
            "/api/v1/namespaces/{namespace}/{plural}/{name}",
            "/api/v1/namespaces/{namespace}/{plural}",
        )
        app.router.add_get(all_of_them, self.listed)
        app.router.add_post(all_of_them, self.created)
        app.router.add_get(one, self.one)
        app.router.add_delete(one, self.deleted)
        self.runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=SERVER_GRACE_SECONDS)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()
        self.port = self.runner.addresses[0][1]

    async def leave(self) -> None:
        """Answer nobody any more: what is connected is cut off, who connects is refused."""
        if self.runner:
            await self.runner.cleanup()
            self.runner = None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Its address while it answers."""
        await self.come()
        try:
            yield self.url
        finally:
            await self.leave()

    async def listed(self, request: web.Request) -> web.StreamResponse:
        """A list, or a watch."""
        plural = self.plural(request)
        if request.query.get("watch"):
            return await self.watched(request, plural)
        items = selected(self.store.every(plural), request.query)
        kind = {"apiVersion": "v1", "kind": f"{KINDS[plural]}List"}
        return web.json_response(
            kind | {"metadata": {"resourceVersion": str(self.store.version)}, "items": items}
        )

    async def watched(self, request: web.Request, plural: str) -> web.StreamResponse:
        """Every change from a version on, until the time that was asked for is over."""
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(request)
        last = int(request.query["resourceVersion"])
        changed = asyncio.Event()
        self.store.listeners.append(changed.set)
        try:
            async with asyncio.timeout(float(request.query.get("timeoutSeconds", "3600"))):
                while True:
                    changed.clear()
                    newest = self.store.version  # more may change while these are sent
                    for change in self.store.since(last, plural):
                        if change.version <= newest and selected([change.thing], request.query):
                            await send(stream, change.kind, change.thing)
                    last = newest
                    await changed.wait()
        except Refused as refused:
            await send(stream, "ERROR", refused.status)
        except TimeoutError:
            await stream.write_eof()
        finally:
            self.store.listeners.remove(changed.set)
        return stream

    async def created(self, request: web.Request) -> web.Response:
        """A new object."""
        return web.json_response(self.store.create(self.plural(request), await request.json()), status=201)

    async def one(self, request: web.Request) -> web.Response:
        """One object."""
        return web.json_response(self.store.read(self.plural(request), request.match_info["name"]))

    async def deleted(self, request: web.Request) -> web.Response:
        """An object that goes, at once or with time to end."""
        options = await request.json() if request.can_read_body else {}
        grace = options.get("gracePeriodSeconds", request.query.get("gracePeriodSeconds"))
        plural, name = self.plural(request), request.match_info["name"]
        return web.json_response(self.store.delete(plural, name, None if grace is None else int(grace)))

    def plural(self, request: web.Request) -> str:
        """The kind that a request is about; only our namespace and these kinds exist."""
        plural, namespace = request.match_info["plural"], request.match_info["namespace"]
        if plural not in KINDS or namespace != self.store.namespace:
            raise Refused(404, f"the server could not find {plural} in {namespace}")
        return plural


@web.middleware
async def answered(request: web.Request, handler: Any) -> web.StreamResponse:
    """Refusals as Kubernetes words them."""
    try:
        response: web.StreamResponse = await handler(request)
    except Refused as refused:
        return web.json_response(refused.status, status=refused.code)
    return response


async def send(stream: web.StreamResponse, kind: str, thing: Thing) -> None:
    """One line of a watch."""
    await stream.write(json.dumps({"type": kind, "object": thing}).encode() + b"\n")
