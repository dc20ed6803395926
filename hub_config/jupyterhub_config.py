"""JupyterHub's configuration, made from settings.ini. Nothing is decided here that is not written there.

Run from the project's folder: `python -m jupyterhub -f hub_config/jupyterhub_config.py`.
"""

import os
import sys
from pathlib import Path
from typing import Any

from hub_config import roles, services
from majlis.settings import load
from spawner import budget, cgroups, kube, profiles
from spawner.isolation import isolation
from spawner.local import LocalSpawner

settings = load()
bench, state = settings.workbench, settings.home / "hub"
project = Path(__file__).resolve().parent.parent
c: Any = get_config()  # type: ignore[name-defined]  # noqa: F821

# Where it listens and what it keeps. The proxy is not the hub's child: it goes on while the hub restarts.
c.JupyterHub.bind_url = f"http://{bench.host}:{bench.port}{bench.base_url}"
c.JupyterHub.hub_bind_url = f"http://{bench.host}:{bench.hub_api_port}"
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = f"http://{bench.host}:{bench.proxy_api_port}"
c.JupyterHub.db_url = f"sqlite:///{state}/hub.sqlite"
c.JupyterHub.cookie_secret_file = str(state / "cookie_secret")
c.JupyterHub.cleanup_proxy = False
c.JupyterHub.template_paths = [str(project / "templates" / "hub")]
c.JupyterHub.template_vars = {
    "services_url": f"{bench.base_url}services/",
    "decisions_url": f"{services.decisions_origin(settings)}{bench.base_url}services/majlis/",
}
c.JupyterHub.redirect_to_server = False  # a login leads home; not everybody wants a server
c.JupyterHub.oauth_require_pkce = True
c.JupyterHub.log_level = "INFO"

# Who may do what.
c.JupyterHub.custom_scopes = roles.custom_scopes()
c.JupyterHub.load_groups = roles.groups(bench.demo_accounts)
c.JupyterHub.load_roles = roles.roles(bench.demo_accounts)
c.JupyterHub.services = services.services(settings, os.environ)

# Who people are: accounts of this machine's own, with passwords that are kept as bcrypt hashes.
c.JupyterHub.authenticator_class = "firstuseauthenticator.FirstUseAuthenticator"
c.FirstUseAuthenticator.dbm_path = str(state / "passwords.dbm")
c.FirstUseAuthenticator.create_users = False
c.FirstUseAuthenticator.check_passwords_on_startup = (
    False  # it would copy the hashes to a file of another mode
)
c.Authenticator.allow_existing_users = True

# Their servers.
c.JupyterHub.spawner_class = LocalSpawner
c.LocalSpawner.homes = settings.home / "home"
c.LocalSpawner.notebooks = project / "notebooks"
c.LocalSpawner.profiles = settings.profiles
c.LocalSpawner.purse = budget.purse(settings, services.decisions_origin(settings))
c.LocalSpawner.isolated = isolation([project]).on
c.LocalSpawner.cgroup = cgroups.tree().folder
c.LocalSpawner.processes = bench.server_processes
c.Spawner.server_token_scopes = roles.server_token_scopes()
c.JupyterHub.allow_named_servers = bench.run_servers > 0  # each carries out one run
c.JupyterHub.named_server_limit_per_user = bench.run_servers
c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser"]
c.Spawner.args = ["--allow-root"] if os.getuid() == 0 and not c.LocalSpawner.isolated else []
c.Spawner.default_url = "/lab"
c.Spawner.http_timeout = c.Spawner.start_timeout = int(bench.start_timeout_seconds)
c.Spawner.env_keep = ["LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"]
c.Spawner.environment = services.kernel_environment(settings, os.environ) | {
    "MLFLOW_TRACKING_TOKEN": lambda spawner: spawner.api_token,
    "MAJLIS_PROFILES": profiles.offer(settings),
}
if bench.spawner == "kubernetes":
    kube.configure(c, settings, services.decisions_origin(settings))
