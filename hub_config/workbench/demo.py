"""The demos: a pipeline, run in the scientist's own server as the scientist would run it."""

import asyncio
from typing import Any

import httpx

from hub_config.services import origin
from hub_config.workbench.bench import Bench
from hub_config.workbench.screen import Screen
from majlis.access import Role
from majlis.errors import PipelineError, Unavailable

PIPELINES = {"up": "flight_delay", "demo": "flight_delay", "demo-review": "loan_review"}  # by purpose
POLL_SECONDS = 0.5
UNFINISHED = {"pending", "running"}
FINISHED = {"done", "reused"}


class Scientist:
    """The scientist's server, reached through the hub with the supervisor's token."""

    name = Role.SCIENTIST.value

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        base = f"{origin(bench.settings)}{bench.settings.workbench.base_url}"
        self.hub, self.server = f"{base}hub/api", f"{base}user/{self.name}/"
        self.services = f"{base}services/"
        self.seconds = bench.settings.workbench.start_timeout_seconds
        headers = {"Authorization": f"token {bench.token}"}
        self.client = httpx.AsyncClient(headers=headers, timeout=self.seconds, trust_env=False)

    async def ask(self, method: str, url: str, **content: Any) -> Any:
        """What a server answers; `Unavailable` with its own words when it refuses."""
        try:
            answer = await self.client.request(method, url, **content)
        except httpx.HTTPError as error:
            raise Unavailable(f"{method} {url}: {type(error).__name__} {error}") from error
        if answer.is_error:
            raise Unavailable(f"{method} {url} was answered {answer.status_code}: {answer.text[:500]}")
        return answer.json() if answer.content else None

    async def start_server(self) -> None:
        """Start the server unless it runs, and wait until it answers."""
        user = await self.ask("GET", f"{self.hub}/users/{self.name}")
        if not user.get("server"):
            await self.ask("POST", f"{self.hub}/users/{self.name}/server", json={})
        deadline = asyncio.get_running_loop().time() + self.seconds
        while not (user := await self.ask("GET", f"{self.hub}/users/{self.name}")).get("server"):
            if not user.get("pending"):
                raise Unavailable(
                    "The scientist's server did not start",
                    remedy=f"Read {self.bench.settings.home / 'logs' / 'hub.log'}.",
                )
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable(f"The scientist's server did not start within {self.seconds:g} s")
            await asyncio.sleep(POLL_SECONDS)

    async def run_pipeline(self, pipeline: str, screen: Screen) -> dict[str, Any]:
        """Run a pipeline and show how it goes; its record, or `PipelineError` with the step that failed."""
        await self.start_server()
        screen.say("the scientist's server answers")
        begun = await self.ask(
            "POST", f"{self.server}majlis/runs", json={"pipeline": pipeline, "parameters": {}}
        )
        url = f"{self.server}majlis/runs/{begun['id']}"
        screen.say(f"pipeline {pipeline}, run {begun['id']}")
        with screen.steps() as progress:
            while (run := await self.ask("GET", url))["state"] in UNFINISHED:
                progress.show(run)
                await asyncio.sleep(POLL_SECONDS)
            progress.show(run)
        if run["state"] not in FINISHED:
            raise failure(run)
        reused = [step["name"] for step in run["steps"] if step["state"] == "reused"]
        if reused:
            screen.say(f"unchanged since an earlier run, so reused: {', '.join(reused)}")
        finished: dict[str, Any] = run
        return finished


def failure(run: dict[str, Any]) -> PipelineError:
    """Which step failed, in which cell, and why."""
    failed = [step for step in run["steps"] if step.get("failure")]
    if not failed:
        return PipelineError(
            f"The run {run['id']} is {run['state']}: {run.get('reason') or 'no reason given'}"
        )
    step, why = failed[0], failed[0]["failure"]
    return PipelineError(
        f"Step {step['name']} failed in cell {why.get('cell')}: {why['error']}: {why['message']}",
        remedy=f"Open ~/runs/{run['pipeline']}/{run['id']}/{step['executed']} in the scientist's server.",
    )
