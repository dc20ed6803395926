"""A real workbench on free ports in a folder of its own: what `make up` starts, without the demo pipeline."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import httpx
import psutil

from hub_config import accounts
from hub_config.workbench.leftovers import find
from majlis.settings import Settings, load
from tests.support.people import Person

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS, STOP_SECONDS = 180.0, 60.0
POLL_SECONDS = 0.1
PORTS = ("WORKBENCH_PORT", "WORKBENCH_HUB_API_PORT", "WORKBENCH_PROXY_API_PORT", "WORKBENCH_CONTROL_PORT",
         "WORKBENCH_MLFLOW_PORT", "GATEWAY_PORT")  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Workbench:
    """A workbench in `folder`; `overrides` are settings, as environment variables name them."""

    def __init__(self, folder: Path, overrides: Mapping[str, str] = MappingProxyType({})) -> None:
        ports = {
            f"MAJLIS_{name}": str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)
        }
        self.overrides = {**ports, "MAJLIS_WORKBENCH_HOME": str(folder / "var"), **overrides}
        self.environment = without_settings(os.environ) | self.overrides
        self.log = folder / "workbench.log"
        self.process: subprocess.Popen[bytes] | None = None

    @cached_property
    def settings(self) -> Settings:
        """The settings it runs with."""
        return load(ROOT / "settings.ini", self.overrides)

    @property
    def url(self) -> str:
        """Where people open it."""
        return f"http://127.0.0.1:{self.settings.workbench.port}"

    @property
    def decisions_url(self) -> str:
        """Where people decide."""
        return f"http://127.0.0.1:{self.settings.workbench.control_port}"

    def begin(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start the supervisor, and do not wait."""
        command = [sys.executable, "-m", "hub_config.workbench", *(arguments or ("up", "--bare"))]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        return self.process

    def start(self) -> "Workbench":
        """Start the supervisor and wait until everything answers."""
        process = self.begin()
        deadline = time.monotonic() + START_SECONDS
        while "ready; Ctrl-C" not in self.said():
            assert process.poll() is None, f"it ended with {process.returncode}:\n{self.said()}"
            assert time.monotonic() < deadline, f"it did not start:\n{self.said()}"
            time.sleep(POLL_SECONDS)
        return self

    def stop(self, number: int = signal.SIGINT) -> int:
        """Stop the supervisor as Ctrl-C does; its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)

    def said(self) -> str:
        """What the supervisor has printed."""
        return self.log.read_text() if self.log.exists() else ""

    def processes(self) -> list[psutil.Process]:
        """Every process that belongs to it."""
        return find(self.settings.home)

    def component(self, name: str, command: str) -> psutil.Process:
        """The process of a component whose command line holds `command`."""
        found = [
            one
            for one in self.processes()
            if one.environ().get("MAJLIS_COMPONENT") == name and command in " ".join(one.cmdline())
        ]
        return found[0]

    @cached_property
    def passwords(self) -> dict[str, str]:
        """The demo accounts."""
        return accounts.read(accounts.accounts_file(self.settings))

    def person(self, name: str) -> Person:
        """The demo account of a role, logged in."""
        return Person(self.url, self.decisions_url, name, self.passwords[name])

    def anonymous(self) -> httpx.Client:
        """Somebody without an account."""
        return httpx.Client(base_url=self.url, timeout=START_SECONDS, trust_env=False)


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what would change the settings, and compiling again at every import."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith("MAJLIS_") and name != "PYTHONDONTWRITEBYTECODE"
    }
