"""The services the hub starts and restarts: the control plane, MLflow, and the culler of idle servers."""

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hub_config.roles import (
    CONTROL,
    CULLER,
    DECISIONS,
    SERVER,
    SUPERVISOR,
    TRACKING,
    decision_scopes,
    session_scopes,
)
from majlis.settings import Settings
from spawner import idle

CULL_EVERY_PARTS = 4  # the culler looks this many times within the time a server may be idle
ENTRUSTED = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")


def services(settings: Settings, environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """Everything for `JupyterHub.services`."""
    listed = [*control_plane(settings, environ), tracking(settings, environ), supervisor(environ)]
    return [*listed, culler(settings)] if settings.workbench.idle_seconds else listed


def origin(settings: Settings) -> str:
    """Where people open the hub."""
    return f"http://{settings.workbench.host}:{settings.workbench.port}"


def decisions_origin(settings: Settings) -> str:
    """Where people decide: the control plane's own port, which notebooks' pages cannot reach into."""
    return f"http://{settings.workbench.host}:{settings.workbench.control_port}"


def tracking_uri(settings: Settings) -> str:
    """MLflow, for programs on this machine."""
    bench = settings.workbench
    return f"http://{bench.host}:{bench.mlflow_port}{bench.base_url}services/{TRACKING}"


def control_plane(settings: Settings, environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """The control plane, and the second OAuth client with which people decide."""
    bench = settings.workbench
    token, secret = secrets.token_hex(32), secrets.token_hex(32)
    client_id = f"service-{DECISIONS}"
    variables = {
        "MAJLIS_HUB_ORIGIN": origin(settings),
        "MAJLIS_DECISIONS_ORIGIN": decisions_origin(settings),
        "MAJLIS_DECISIONS_CLIENT_ID": client_id,
        "MAJLIS_DECISIONS_SECRET": secret,
        "MLFLOW_TRACKING_URI": tracking_uri(settings),
        "MLFLOW_TRACKING_TOKEN": token,
    }
    service = {
        "name": CONTROL,
        "url": decisions_origin(settings),
        "command": [sys.executable, "-m", "majlis.control.api"],
        "api_token": token,
        "environment": environment(settings, environ, CONTROL) | variables,
        "cwd": str(settings.root),
        "timeout": int(bench.start_timeout_seconds),
        "oauth_no_confirm": True,
        "oauth_client_allowed_scopes": session_scopes(CONTROL),
        "display": False,
    }
    callback = f"{decisions_origin(settings)}{bench.base_url}services/{CONTROL}/oauth_callback"
    decisions = {
        "name": DECISIONS,
        "api_token": secret,
        "oauth_client_id": client_id,
        "oauth_redirect_uri": callback,
        "oauth_no_confirm": True,
        "oauth_client_allowed_scopes": decision_scopes(),
        "display": False,
    }
    return [service, decisions]


def tracking(settings: Settings, environ: Mapping[str, str]) -> dict[str, Any]:
    """MLflow behind the hub's identity."""
    bench = settings.workbench
    return {
        "name": TRACKING,
        "url": f"http://{bench.host}:{bench.mlflow_port}",
        "command": [sys.executable, "-m", "majlis.control.tracking_app"],
        "environment": environment(settings, environ, TRACKING) | {"MAJLIS_HUB_ORIGIN": origin(settings)},
        "cwd": str(settings.root),
        "timeout": int(bench.start_timeout_seconds),
        "oauth_no_confirm": True,
        "oauth_client_allowed_scopes": session_scopes(TRACKING),
        "display": False,
    }


def supervisor(environ: Mapping[str, str]) -> dict[str, Any]:
    """The workbench itself, which asks the hub for its state and starts the demo."""
    token = environ.get("MAJLIS_SUPERVISOR_TOKEN") or secrets.token_hex(32)
    return {"name": SUPERVISOR, "api_token": token, "display": False}


def culler(settings: Settings) -> dict[str, Any]:
    """Stops servers that nobody uses and that did not stop themselves."""
    seconds = idle.culler_seconds(settings.workbench)
    every = max(1, seconds // CULL_EVERY_PARTS)
    arguments = [f"--timeout={seconds}", f"--cull-every={every}"]
    command = [sys.executable, "-m", "jupyterhub_idle_culler", *arguments]
    return {"name": CULLER, "command": command, "display": False, "environment": marks(settings, CULLER)}


def marks(settings: Settings, component: str) -> dict[str, str]:
    """What tells a process of this workbench from any other, so that none is left behind."""
    return {"MAJLIS_WORKBENCH": str(settings.home), "MAJLIS_COMPONENT": component}


def environment(settings: Settings, environ: Mapping[str, str], component: str) -> dict[str, str]:
    """What a service of ours inherits: settings and their overrides, and how to reach the world."""
    inherited = {
        name: value for name, value in environ.items() if name in ENTRUSTED or name.startswith("MAJLIS_")
    }
    inherited.pop("MAJLIS_SUPERVISOR_TOKEN", None)
    return inherited | marks(settings, component) | {"MAJLIS_SETTINGS": str(settings.source)}


SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin")  # not the operator's own

# Overrides that a kernel may see. The others can hold passwords (a database's URL) or do not concern it.
SHOWN_TO_KERNELS = ("WORKBENCH_", "LAKE_", "FEATURES_", "GATEWAY_", "RELEASE_", "PROFILE_", "COSTS_")


def kernel_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """What every user's server, and so every kernel, finds in its environment."""
    shown = tuple(f"MAJLIS_{name}" for name in SHOWN_TO_KERNELS)
    hub = f"{origin(settings)}{settings.workbench.base_url}services"
    return {
        **{name: value for name, value in environ.items() if name.startswith(shown)},
        **idle.environment(settings.workbench),
        **marks(settings, SERVER),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), *SYSTEM_PATH]),
        "MAJLIS_SETTINGS": str(settings.source),
        "MAJLIS_URL": f"{hub}/{CONTROL}",
        "MLFLOW_TRACKING_URI": f"{hub}/{TRACKING}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "JUPYTER_CONFIG_PATH": str(settings.root / "hub_config" / "jupyter"),
    }
