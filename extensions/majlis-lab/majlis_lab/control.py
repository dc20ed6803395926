"""The way to the control plane: the server's token is added here, so the browser never sees it."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import MappingProxyType
from urllib.parse import unquote

import httpx

from majlis.errors import Invalid, Unavailable

FORWARDED = ("content-type", "accept", "if-none-match", "if-match")  # of a request; its cookies stay here
RETURNED = ("content-type", "etag", "link", "content-disposition")  # of an answer
NOTHING: Mapping[str, str] = MappingProxyType({})
OUT_OF_ORDER = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
REMEDY = "It is tried again by itself; `majlis status` tells which component is down."


@dataclass(frozen=True)
class Answer:
    """What the control plane said."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class ControlPlane:
    """The control plane's API, as the owner of this notebook server."""

    def __init__(
        self,
        url: str,  # such as http://127.0.0.1:8000/services/majlis; empty outside a workbench
        token: str,  # of this notebook server
        timeout_seconds: float = 30.0,
    ) -> None:
        self.url = url.rstrip("/")
        self.token = token
        keeps_none = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # only the token says who asks
        self.client = httpx.AsyncClient(
            timeout=timeout_seconds, follow_redirects=False, trust_env=False, cookies=keeps_none
        )

    def __repr__(self) -> str:
        return f"ControlPlane({self.url!r})"

    def address(self, path: str, query: str = "") -> str:
        """The URL of `api/v1/<path>`; Invalid where the path leads out of the API."""
        segments = unquote(path).split("/")
        if not path or any(segment in ("", ".", "..") for segment in segments) or "\\" in unquote(path):
            raise Invalid(
                f"{path!r} is not a path of the API", remedy="Reload the page, it may be an old one."
            )
        return f"{self.url}/api/v1/{path}" + (f"?{query}" if query else "")

    async def ask(
        self,
        method: str,
        path: str,  # below api/v1, percent-encoded
        query: str = "",
        headers: Mapping[str, str] = NOTHING,
        body: bytes | None = None,
    ) -> Answer:
        """Forward one request; Unavailable where there is no control plane or it does not answer."""
        if not self.url:
            raise Unavailable(
                "this notebook server belongs to no workbench",
                remedy="Open JupyterLab from the hub, or set MAJLIS_URL and JUPYTERHUB_API_TOKEN.",
            )
        kept = {name: headers[name] for name in FORWARDED if name in headers}
        kept["authorization"] = f"Bearer {self.token}"
        try:
            answer = await self.client.request(method, self.address(path, query), headers=kept, content=body)
        except httpx.TimeoutException as error:
            raise Unavailable("the control plane takes too long to answer", remedy=REMEDY) from error
        except httpx.HTTPError as error:
            raise Unavailable(f"the control plane does not answer at {self.url}", remedy=REMEDY) from error
        returned = {name: answer.headers[name] for name in RETURNED if name in answer.headers}
        return Answer(answer.status_code, returned, answer.content)

    async def close(self) -> None:
        """Let go of the connections."""
        await self.client.aclose()
