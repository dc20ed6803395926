"""Are the ports free? Asked before anything starts, so that the answer names the setting and the culprit."""

import socket
from contextlib import suppress

import psutil

from majlis.errors import SettingsError
from majlis.settings import Settings


def wanted(settings: Settings) -> dict[str, tuple[str, int]]:
    """Address and port of every component, by the setting that names it."""
    bench, gateway = settings.workbench, settings.gateway
    keys = ("port", "hub_api_port", "proxy_api_port", "control_port", "mlflow_port")
    own = {f"[workbench] {key}": (bench.host, int(getattr(bench, key))) for key in keys}
    return own | {"[gateway] port": (gateway.host, gateway.port)}


def check(settings: Settings) -> None:
    """`SettingsError`, naming every port that is taken and by whom."""
    taken = [(key, port) for key, (host, port) in wanted(settings).items() if not free(host, port)]
    if taken:
        key, _ = taken[0]
        section, name = key.strip("[").split("] ")
        raise SettingsError(
            "; ".join(f"{key} = {port} is taken{by(port)}" for key, port in taken),
            remedy=f"Stop it, or choose another port: MAJLIS_{section.upper()}_{name.upper()}=PORT make up.",
        )


def free(host: str, port: int) -> bool:
    """Can a server listen there?"""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
        return True


def by(port: int) -> str:
    """Who listens on `port`, as far as this account may see it."""
    with suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
                continue
            if connection.laddr.port == port:
                words = " ".join(psutil.Process(connection.pid).cmdline()[:3])
                return f" by process {connection.pid} ({words})"
    return ""
