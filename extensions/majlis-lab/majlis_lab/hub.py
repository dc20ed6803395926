"""The hub, asked about the servers of the person whose server this is, with this server's own token."""

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx

from majlis.errors import Conflict, Forbidden, Invalid, MajlisError, Unavailable

REMEDY = "Try again in a minute; `majlis status` tells which component is down."
REFUSALS: Mapping[int, type[MajlisError]] = {
    HTTPStatus.BAD_REQUEST: Conflict,  # too many servers, or one that is still stopping
    HTTPStatus.FORBIDDEN: Forbidden,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.UNPROCESSABLE_ENTITY: Invalid,
    HTTPStatus.TOO_MANY_REQUESTS: Unavailable,
}
POLL_SECONDS = 0.5
STARTED = (HTTPStatus.CREATED, HTTPStatus.ACCEPTED)
STOPPED = (HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND)


class Standing(StrEnum):
    """How far a server is."""

    STARTING = "starting"
    UP = "up"  # or about to go
    GONE = "gone"  # only its name is left


class Hub:
    """Starts, lists and stops servers of one person; every name is that of a server beside the usual one."""

    def __init__(
        self,
        url: str,  # of the hub's API, such as http://127.0.0.1:8081/hub/api; empty outside a hub
        token: str,  # of this server
        user: str,
        timeout_seconds: float,
    ) -> None:
        self.url = url.rstrip("/")
        self.user = user
        headers = {"authorization": f"token {token}"}
        self.client = httpx.AsyncClient(headers=headers, timeout=timeout_seconds, trust_env=False)

    def __repr__(self) -> str:
        return f"Hub({self.url!r}, user={self.user!r})"

    async def start(
        self,
        name: str,
        profile: str,
        title: str,  # what people read as its name
    ) -> None:
        """Start a server, or leave one alone that is starting; the hub's refusal keeps its own words."""
        body = {"display_name": title, "user_options": {"profile": profile}}
        answer = await self.ask("POST", f"servers/{quote(name)}", json=body)
        if answer.status_code not in STARTED:
            await self.stop(name)  # a start that failed leaves a name behind, and names are counted
            raise refusal(answer)

    async def stop(self, name: str) -> None:
        """Stop a server and forget it; nothing where it is gone."""
        answer = await self.ask("DELETE", f"servers/{quote(name)}", json={"remove": True})
        if answer.status_code not in STOPPED:
            raise refusal(answer)

    async def servers(self) -> dict[str, Standing]:
        """The servers that the hub knows by name, and how each stands."""
        answer = await self.ask("GET", "", params={"include_stopped_servers": "1"})
        if answer.status_code != HTTPStatus.OK:
            raise refusal(answer)
        found = answer.json().get("servers", {})
        return {name: standing(one) for name, one in found.items() if name}

    async def started(self, name: str) -> None:
        """Come back when the hub has finished starting a server: stopped before, it looks like a failure."""
        while (await self.servers()).get(name) is Standing.STARTING:
            await asyncio.sleep(POLL_SECONDS)

    async def ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        """One request about the person; Unavailable where nobody answers."""
        if not self.url:
            raise Unavailable(
                "this notebook server belongs to no hub",
                remedy="Run it here, or open JupyterLab from the hub.",
            )
        address = f"{self.url}/users/{quote(self.user)}" + (f"/{path}" if path else "")
        try:
            return await self.client.request(method, address, **content)
        except httpx.HTTPError as error:
            raise Unavailable(f"the hub does not answer at {self.url}", remedy=REMEDY) from error

    async def close(self) -> None:
        """Let go of the connections."""
        await self.client.aclose()


def standing(server: Mapping[str, Any]) -> Standing:
    """How a server stands, as the hub describes it."""
    if server["pending"] == "spawn":
        return Standing.STARTING
    return Standing.UP if server["ready"] or server["pending"] else Standing.GONE


def refusal(answer: httpx.Response) -> MajlisError:
    """What the hub refused, as an error of ours: its message's first line, then what to do."""
    try:
        said = str(answer.json().get("message", ""))
    except ValueError:
        said = ""
    message, _, remedy = said.partition("\n")
    kind = REFUSALS.get(answer.status_code, Unavailable)
    return kind(message or f"the hub answered {answer.status_code}", remedy=remedy or REMEDY)
