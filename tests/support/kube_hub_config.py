"""What the chart configures in a hub, for one on this machine; then the chart's values finish it, as ever.

`tests.support.kube_hub` says by the environment where everything is.
"""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import kubespawner.reflector
import yaml

from hub_config import roles
from hub_config.workbench.bench import PROXY
from tests.support.kube_hub import PASSWORD, SECOND_ENGINEER, SPENDER, VALUES

c: Any = get_config()  # type: ignore[name-defined]  # noqa: F821
folder = Path(os.environ["KUBE_HUB_FOLDER"])
pace = float(os.environ["KUBE_HUB_PACE"])


class Hurried:
    """asyncio for the watches alone: their pauses, and so the outage they bear, are shorter by a factor."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, seconds: float) -> None:
        """Sleep for a part of what is asked."""
        await asyncio.sleep(seconds / pace)


kubespawner.reflector.asyncio = Hurried()

c.JupyterHub.bind_url = os.environ["KUBE_HUB_URL"]
c.JupyterHub.hub_bind_url = os.environ["KUBE_HUB_API"]
c.ConfigurableHTTPProxy.command = [str(PROXY)]
c.ConfigurableHTTPProxy.api_url = os.environ["KUBE_HUB_PROXY_API"]
c.ConfigurableHTTPProxy.pid_file = str(folder / "proxy.pid")
c.JupyterHub.db_url = f"sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = str(folder / "cookie_secret")
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.password = PASSWORD
values = yaml.safe_load(VALUES.read_text())["hub"]
tokens = json.loads(os.environ["KUBE_HUB_TOKENS"])
c.JupyterHub.services = [
    {"name": name} | service | {"api_token": tokens[name]}
    for name, service in values["services"].items()
    if name in tokens  # the others are not started: the hub would wait for them
]
places = json.loads(os.environ["KUBE_HUB_SERVICES"])
for service in c.JupyterHub.services:
    host = service.get("url", "").removeprefix("http://")
    if host in places:
        service["url"] = f"http://{places[host]}"
c.JupyterHub.load_roles = []

exec(values["extraConfig"]["majlis"])

if not os.environ["KUBE_HUB_CONTROL"]:  # the hub would wait for it
    c.JupyterHub.services = []
    c.JupyterHub.load_roles = [role for role in c.JupyterHub.load_roles if "services" not in role]

people = roles.groups(demo_accounts=True)
people["engineer"]["users"] += [SECOND_ENGINEER, SPENDER]
c.JupyterHub.load_groups = people
c.Authenticator.allowed_users = {name for group in people.values() for name in group["users"]}
c.KubeSpawner.poll_interval = (
    1  # seconds: what a spawner does when it looks after its pod happens in the outage too
)
c.KubeSpawner.delete_grace_period = 5
if other := os.environ["KUBE_HUB_SPAWNER"]:
    c.JupyterHub.spawner_class = other
if os.getuid() == 0:  # a pod's security context is not enforced here
    c.KubeSpawner.args = ["--allow-root"]
