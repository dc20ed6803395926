"""The hub as a cluster runs it: what Zero-to-JupyterHub's values leave to this project's own rules."""

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from hub_config import roles
from majlis.access import Role
from majlis.errors import SettingsError
from majlis.settings import Settings
from spawner import kube

ORIGINS = ("MAJLIS_HUB_ORIGIN", "MAJLIS_DECISIONS_ORIGIN")  # where people open the hub, where they decide

DEFAULT_PORTS = {"http": 80, "https": 443}


def configure(c: Any, settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """Finish the configuration that the chart began; `hub.extraConfig` in values.yaml calls this."""
    decisions = decisions_origin(environ)
    kube.configure(c, settings, control_plane(c))
    c.Spawner.server_token_scopes = roles.server_token_scopes()
    c.JupyterHub.allow_named_servers = settings.workbench.run_servers > 0
    c.JupyterHub.named_server_limit_per_user = settings.workbench.run_servers
    c.JupyterHub.custom_scopes = roles.custom_scopes()
    c.JupyterHub.load_groups = roles.groups(demo_accounts=False)
    c.JupyterHub.load_roles.extend([*(roles.role_of(role) for role in Role), *service_roles(c)])
    c.JupyterHub.oauth_require_pkce = True
    c.JupyterHub.redirect_to_server = False  # a login leads home; not everybody wants a server
    c.JupyterHub.template_paths = [str(settings.root / "templates" / "hub")]
    services = f"{settings.workbench.base_url}services/"
    c.JupyterHub.template_vars = {
        "services_url": services,
        "decisions_url": f"{decisions}{services}{roles.CONTROL}/",
    }
    for service in c.JupyterHub.services:
        if service["name"] in (roles.CONTROL, roles.TRACKING):
            service["oauth_client_allowed_scopes"] = roles.session_scopes(service["name"])
        if service["name"] == roles.DECISIONS:
            service["oauth_redirect_uri"] = f"{decisions}{services}{roles.CONTROL}/oauth_callback"
            service["oauth_client_allowed_scopes"] = roles.decision_scopes()


def control_plane(c: Any) -> str:
    """Where the control plane is."""
    found = [service["url"] for service in c.JupyterHub.services if service["name"] == roles.CONTROL]
    if not found:
        raise SettingsError(
            f"the chart's values have no service {roles.CONTROL!r}",
            remedy="Add it under hub.services, as in hub_config/kubernetes/values.yaml.",
        )
    return str(found[0])


def decisions_origin(environ: Mapping[str, str]) -> str:
    """Where people decide: another host than the hub's, or what a notebook's page runs could decide there."""
    hub, decisions = (environ.get(name, "").rstrip("/") for name in ORIGINS)
    origins = [
        (at.hostname, at.port or DEFAULT_PORTS.get(at.scheme)) for at in map(urlsplit, (hub, decisions))
    ]
    if not all(host for host, _ in origins) or origins[0] == origins[1]:
        raise SettingsError(
            f"MAJLIS_HUB_ORIGIN = {hub!r} and MAJLIS_DECISIONS_ORIGIN = {decisions!r} are not two addresses",
            remedy="Give each as https://HOST, with different hosts, in hub_config/kubernetes/config.yaml.",
        )
    return decisions


def service_roles(c: Any) -> list[dict[str, Any]]:
    """The roles of those services that the chart runs under our names; its own culler has a role already."""
    present = {service["name"] for service in c.JupyterHub.services}
    return [role for role in roles.service_roles(demo_accounts=False) if present.issuperset(role["services"])]
