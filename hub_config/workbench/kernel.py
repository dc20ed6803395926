"""Run code in a kernel of somebody's server, as the notebook page does: over the kernel's websocket."""

import asyncio
import json
import uuid
from typing import Any

import httpx
import websockets

from majlis.errors import PipelineError


async def execute(
    server: str,  # address of the person's server, such as http://127.0.0.1:8000/user/ana/
    token: str,  # a hub token that may enter it
    code: str,
    seconds: float,  # how long it may take
) -> str:
    """What `code` prints; `PipelineError` when it raises or takes too long. The kernel is gone afterwards."""
    headers = {"Authorization": f"token {token}"}
    async with httpx.AsyncClient(
        base_url=server, headers=headers, timeout=seconds, trust_env=False
    ) as client:
        started = await client.post("api/kernels", json={})
        started.raise_for_status()
        kernel = started.json()["id"]
        try:
            async with asyncio.timeout(seconds):
                return await converse(
                    f"{server.replace('http', 'ws', 1)}api/kernels/{kernel}/channels", headers, code
                )
        except TimeoutError:
            raise PipelineError(f"The kernel did not answer within {seconds:g} s") from None
        finally:
            await client.delete(f"api/kernels/{kernel}")


async def converse(url: str, headers: dict[str, str], code: str) -> str:
    """Send `code` and gather what it prints until the kernel is idle again."""
    request = message(code)
    printed: list[str] = []
    async with websockets.connect(url, additional_headers=headers, max_size=None, proxy=None) as socket:
        await socket.send(json.dumps(request))
        while True:
            reply = json.loads(await socket.recv())
            if reply["parent_header"].get("msg_id") != request["header"]["msg_id"]:
                continue
            kind, content = reply["msg_type"], reply["content"]
            if kind == "stream" and content["name"] == "stdout":
                printed.append(content["text"])
            elif kind == "error":
                raise PipelineError(f"{content['ename']}: {content['evalue']}")
            elif kind == "status" and content["execution_state"] == "idle":
                return "".join(printed)


def message(code: str) -> dict[str, Any]:
    """An execute_request of Jupyter's messaging protocol."""
    header = {"msg_id": uuid.uuid4().hex, "session": uuid.uuid4().hex, "username": "", "version": "5.3"}
    content = {
        "code": code,
        "silent": False,
        "store_history": False,
        "allow_stdin": False,
        "stop_on_error": True,
    }
    return {
        "header": header | {"msg_type": "execute_request"},
        "parent_header": {},
        "metadata": {},
        "content": content | {"user_expressions": {}},
        "channel": "shell",
    }
