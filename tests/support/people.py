"""People at a running hub: they log in as a browser does, make tokens, start servers, run cells, decide."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import httpx

from hub_config.workbench import kernel
from hub_config.workbench.demo import UNFINISHED
from hub_config.workbench.visitor import SECONDS, Visitor
from tests.support.waiting import eventually

POLL_SECONDS = 0.2


class Person(Visitor):
    """A visitor who also makes tokens, starts servers and runs cells."""

    def hub(self, method: str, path: str, **content: Any) -> httpx.Response:
        """A request to the hub's API with the person's own session."""
        answer = self.browser.request(
            method, f"/hub/api{path}", headers={"X-XSRFToken": self.xsrf}, **content
        )
        answer.raise_for_status()
        return answer

    def token(self, **content: Any) -> str:
        """A token of the person's own, as the hub's token page makes them."""
        return str(self.hub("POST", f"/users/{self.name}/tokens", json=content).json()["token"])

    def api(self, **token: Any) -> httpx.Client:
        """A program of the person's, with a token of theirs."""
        headers = {"Authorization": f"Bearer {self.token(**token)}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=SECONDS, trust_env=False)

    def start_server(self, **options: Any) -> str:
        """Start the person's server unless it runs; its address."""
        if not self.hub("GET", f"/users/{self.name}").json().get("server"):
            self.hub("POST", f"/users/{self.name}/server", json=options)
        deadline = time.monotonic() + SECONDS
        while not (server := self.hub("GET", f"/users/{self.name}").json().get("server")):
            assert time.monotonic() < deadline, f"{self.name}'s server did not start"
            time.sleep(POLL_SECONDS)
        return f"{self.url}{server}"

    def stop_server(self) -> None:
        """Stop the person's server if it runs, so that the next visit finds none."""

        def known() -> dict[str, Any]:
            record: dict[str, Any] = self.hub("GET", f"/users/{self.name}").json()
            return record

        if known().get("server"):
            self.hub("DELETE", f"/users/{self.name}/server")
        eventually(
            lambda: not (known().get("server") or known().get("pending")), f"{self.name}'s server is up"
        )

    @cached_property
    def full_token(self) -> str:
        """A token with everything the person has."""
        return self.token()

    def run(self, code: str, seconds: float = SECONDS) -> str:
        """What `code` prints in a kernel of the person's server."""
        work = kernel.execute(self.start_server(), self.full_token, code, seconds)
        with ThreadPoolExecutor(1) as thread:  # the browser's tests keep a loop running in this one
            return thread.submit(asyncio.run, work).result()

    def kernel_token(self) -> str:
        """The token that every kernel of the person's server finds in its environment."""
        return self.run("import os; print(os.environ['JUPYTERHUB_API_TOKEN'], end='')")

    def run_pipeline(self, pipeline: str, parameters: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Run a pipeline in the person's server, through the Lab extension: its record when it is over."""
        server = self.start_server()
        headers = {"Authorization": f"token {self.full_token}"}
        with httpx.Client(base_url=server, headers=headers, timeout=SECONDS, trust_env=False) as client:
            begun = client.post("majlis/runs", json={"pipeline": pipeline, "parameters": parameters})
            begun.raise_for_status()
            deadline = time.monotonic() + seconds
            while (run := client.get(f"majlis/runs/{begun.json()['id']}").json())["state"] in UNFINISHED:
                assert time.monotonic() < deadline, f"the run is not over after {seconds:g} s: {run}"
                time.sleep(POLL_SECONDS)
        record: dict[str, Any] = run
        return record


def spend(control: str, person: Person) -> None:
    """Have a person use 1000 hours of a GPU, as their meter tells the control plane."""
    usage = {
        "id": f"spent-by-{person.name}",
        "kind": "server",
        "subject": person.name,
        "gpu_seconds": 3_600_000,
    }
    headers = {"Authorization": f"Bearer {person.full_token}"}
    url = f"{control}/services/majlis/api/v1/meters"
    httpx.post(url, json=[usage], headers=headers, timeout=SECONDS, trust_env=False).raise_for_status()
