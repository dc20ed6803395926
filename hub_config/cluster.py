"""The hub as a cluster runs it: what Zero-to-JupyterHub's values leave to this project's own rules."""

from typing import Any

from hub_config import roles
from majlis.access import Role
from majlis.settings import Settings
from spawner import kube


def configure(c: Any, settings: Settings) -> None:
    """Finish the configuration that the chart began; `hub.extraConfig` in values.yaml calls this."""
    kube.configure(c, settings)
    c.Spawner.server_token_scopes = roles.server_token_scopes()
    c.JupyterHub.custom_scopes = roles.custom_scopes()
    c.JupyterHub.load_groups = roles.groups(demo_accounts=False)
    c.JupyterHub.load_roles.extend([*(roles.role_of(role) for role in Role), *service_roles(c)])
    for service in c.JupyterHub.services:
        if service["name"] in (roles.CONTROL, roles.TRACKING):
            service["oauth_client_allowed_scopes"] = roles.session_scopes(service["name"])


def service_roles(c: Any) -> list[dict[str, Any]]:
    """The roles of those services that the chart runs under our names; its own culler has a role already."""
    present = {service["name"] for service in c.JupyterHub.services}
    return [role for role in roles.service_roles(demo_accounts=False) if present.issuperset(role["services"])]
