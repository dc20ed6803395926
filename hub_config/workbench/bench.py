"""Everything together: what is started, in which order, and how it ends."""

import asyncio
import ctypes
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from hub_config.roles import CONTROL, CULLER, SERVER, TRACKING
from hub_config.services import decisions_origin, marks, tracking_uri
from hub_config.workbench.component import Component, Ready, Say
from hub_config.workbench.leftovers import find, sweep
from majlis.errors import Unavailable
from majlis.settings import Settings

PROJECT = Path(__file__).resolve().parent.parent.parent
PROXY = PROJECT / "node_modules" / ".bin" / "configurable-http-proxy"
PR_SET_CHILD_SUBREAPER = 36
REAP_SECONDS = 1.0
PROBE_SECONDS = 5.0


def adopt_orphans() -> None:
    """Make grandchildren whose parent dies children of this process, which waits for them (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@dataclass
class Bench:
    """The running workbench."""

    settings: Settings
    say: Say
    token: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    components: list[Component] = field(default_factory=list)
    watchers: list[asyncio.Task[None]] = field(default_factory=list)

    not_ours: set[int] = field(default_factory=set)  # children that somebody else waits for

    def __post_init__(self) -> None:
        self.proxy_token = secrets.token_hex(32)
        bench = self.settings.workbench
        self.proxy_api = f"http://{bench.host}:{bench.proxy_api_port}/api/routes"
        self.probe = httpx.AsyncClient(timeout=PROBE_SECONDS, trust_env=False)

    async def start(self) -> None:
        """Start the components and wait until each answers; whatever fails, stop what was started."""
        adopt_orphans()
        self.components = [self.proxy(), self.hub(), self.gateway()]
        for component in self.components:
            await component.start()
        for component in self.components:
            await component.wait_ready(self.settings.workbench.start_timeout_seconds)
            self.say(f"{component.name} answers")
        for name, url in self.services().items():
            await self.wait_service(name, url)
            self.say(f"{name} answers")
        seconds = self.settings.workbench.start_timeout_seconds
        self.watchers = [asyncio.create_task(one.watch(self.say, seconds)) for one in self.components]
        self.watchers.append(asyncio.create_task(reap(self.own_children)))

    async def stop(self) -> int:
        """Stop everything, in order; how many processes had to be looked for."""
        seconds = self.settings.workbench.stop_timeout_seconds
        for component in self.components:
            component.stopping = True
        await asyncio.to_thread(self.hurry)
        gateway = [one for one in self.components if one.name == "gateway"]
        rest = [one for one in reversed(self.components) if one.name != "gateway"]
        await asyncio.gather(*(one.stop(seconds) for one in gateway), self.stop_in_order(rest, seconds))
        for watcher in self.watchers:
            watcher.cancel()
        await asyncio.gather(*self.watchers, return_exceptions=True)
        await self.probe.aclose()
        return await asyncio.to_thread(sweep, self.settings.home, seconds)

    def hurry(self) -> None:
        """Ask all that the hub started to end at once; the hub alone would wait for one after the other."""
        for process in find(self.settings.home, {CONTROL, TRACKING, CULLER, SERVER}):
            with suppress(psutil.Error, OSError):
                if os.getsid(process.pid) == process.pid:
                    process.terminate()

    async def stop_in_order(self, components: list[Component], seconds: float) -> None:
        """The hub ends its servers and services; then the proxy may go."""
        for component in components:
            await component.stop(seconds)

    def services(self) -> dict[str, str]:
        """Where the services that the hub starts tell that they live."""
        base = self.settings.workbench.base_url
        control = f"{decisions_origin(self.settings)}{base}services/{CONTROL}/health"
        return {"control plane": control, "MLflow": f"{tracking_uri(self.settings)}/health"}

    async def wait_service(self, name: str, url: str) -> None:
        """Wait for a service of the hub's."""
        loop, seconds = asyncio.get_running_loop(), self.settings.workbench.start_timeout_seconds
        deadline = loop.time() + seconds
        while not await self.answers(url):
            if loop.time() > deadline:
                raise self.component("hub").failure(
                    f"runs, but its {name} did not answer within {seconds:g} s"
                )
            await asyncio.sleep(REAP_SECONDS / 4)

    def own_children(self) -> set[int]:
        """The processes that asyncio or the sentinel's keeper wait for."""
        return {one.process.pid for one in self.components if one.process} | self.not_ours

    def component(self, name: str) -> Component:
        """The component called `name`."""
        return next(one for one in self.components if one.name == name)

    async def answers(self, url: str) -> bool:
        """Does a server answer there, with anything but an error of its own?"""
        try:
            return (await self.probe.get(url)).status_code < httpx.codes.INTERNAL_SERVER_ERROR
        except httpx.HTTPError:
            return False

    def proxy(self) -> Component:
        """configurable-http-proxy: websockets, uploads and spawn progress pass through it unbuffered."""
        bench = self.settings.workbench
        arguments = [
            f"--ip={bench.host}",
            f"--port={bench.port}",
            f"--api-ip={bench.host}",
            f"--api-port={bench.proxy_api_port}",
            f"--error-target=http://{bench.host}:{bench.hub_api_port}{bench.base_url}hub/error",
            "--log-level=warn",
        ]
        token = {"CONFIGPROXY_AUTH_TOKEN": self.proxy_token}
        command = [node(), str(PROXY), *arguments]
        component = self.make("proxy", command, lambda: self.answers(self.proxy_api), token)
        component.after = self.route_again
        return component

    async def route_again(self) -> None:
        """A new proxy knows no way; have the hub tell it. A hub that is away tells it when it comes back."""
        bench = self.settings.workbench
        url = f"http://{bench.host}:{bench.hub_api_port}{bench.base_url}hub/api/proxy"
        with suppress(httpx.HTTPError):
            await self.probe.post(url, headers={"Authorization": f"token {self.token}"})

    def hub(self) -> Component:
        """JupyterHub, with the services it starts."""
        bench = self.settings.workbench
        config = str(PROJECT / "hub_config" / "jupyterhub_config.py")
        command = [sys.executable, "-m", "jupyterhub", "-f", config]
        secret = {"CONFIGPROXY_AUTH_TOKEN": self.proxy_token, "MAJLIS_SUPERVISOR_TOKEN": self.token}
        direct = f"http://{bench.host}:{bench.hub_api_port}{bench.base_url}hub/health"

        async def ready() -> bool:
            return await self.healthy(direct) and await self.routed()

        return self.make("hub", command, ready, secret, self.clear_services)

    def gateway(self) -> Component:
        """The gateway, which needs none of the others."""
        live = f"{self.settings.gateway.url}/v2/health/live"
        command = [sys.executable, "-m", "majlis.serving.gateway"]
        return self.make("gateway", command, lambda: self.healthy(live), {})

    async def routed(self) -> bool:
        """Does the proxy know the way to the hub, and so to everything behind it?"""
        headers = {"Authorization": f"token {self.proxy_token}"}
        try:
            routes = (await self.probe.get(self.proxy_api, headers=headers)).json()
        except (httpx.HTTPError, ValueError):
            return False
        return self.settings.workbench.base_url in routes

    async def healthy(self, url: str) -> bool:
        """Does it answer that all is well?"""
        try:
            return (await self.probe.get(url)).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def clear_services(self) -> None:
        """A killed hub leaves its services behind; the next one starts its own. People's servers stay."""
        sweep(self.settings.home, self.settings.workbench.stop_timeout_seconds, {CONTROL, TRACKING, CULLER})

    def make(
        self,
        name: str,
        command: list[str],
        ready: Ready,
        extra: Mapping[str, str],
        before: Callable[[], None] = lambda: None,
    ) -> Component:
        """A component with the environment that all have."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        inherited = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        settings = {"MAJLIS_SETTINGS": str(self.settings.source), "PATH": path}
        environment = inherited | settings | marks(self.settings, name) | dict(extra)
        log = self.settings.home / "logs" / f"{name}.log"
        return Component(name, command, PROJECT, environment, log, ready, before)


def node() -> str:
    """The node program; `Unavailable` where set-up has not brought one."""
    beside = Path(sys.executable).parent / "node"
    found = str(beside) if beside.exists() else shutil.which("node")
    if not found or not PROXY.exists():
        raise Unavailable(
            "The proxy is not installed", remedy="Run make setup; it installs it into node_modules/."
        )
    return found


async def reap(own: Callable[[], set[int]]) -> None:
    """Collect adopted processes that ended, so that nobody takes them for alive; not those in `own`."""
    while True:
        await asyncio.sleep(REAP_SECONDS)
        for child in psutil.Process().children():
            with suppress(psutil.Error, ChildProcessError):
                if child.pid not in own() and child.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(child.pid, os.WNOHANG)
