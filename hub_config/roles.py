"""Roles as JupyterHub knows them: a group gives a role, a role gives scopes, everything asks for scopes."""

from typing import Any

from majlis.access import KERNEL_SCOPES, ROLE_SCOPES, Role, Scope

CONTROL, TRACKING, DECISIONS = "majlis", "mlflow", "majlis-decisions"  # services, by name
SUPERVISOR, CULLER = "workbench", "idle-culler"
SERVER = "server"  # what people's servers and all that runs in them are marked as

DESCRIPTIONS = {
    Scope.READ: "See models, reviews, deployments and the audit trail",
    Scope.DEVELOP: "Track runs, register versions and have them checked",
    Scope.DEPLOY: "Deploy approved releases, roll back, issue keys",
    Scope.REVIEW: "Decide on versions as ML engineer",
    Scope.OWN: "Decide on versions as model owner",
    Scope.COMPLY: "Decide on versions as compliance officer",
    Scope.ADMINISTER: "Revoke releases and administer the workbench",
}

# What an administrator may do in the hub itself. Not among it: entering other people's servers, making tokens
# for them, or putting anybody (themselves included) into a group that decides.
HUB_ADMIN = ["admin-ui", "list:users", "read:users", "servers", "list:services", "read:services", "read:hub"]


def access_to(service: str) -> str:
    """The hub's scope for using a service."""
    return f"access:services!service={service}"


def custom_scopes() -> dict[str, dict[str, str]]:
    """Our scopes, for `JupyterHub.custom_scopes`."""
    return {scope.value: {"description": DESCRIPTIONS[scope]} for scope in Scope}


def groups(demo_accounts: bool) -> dict[str, dict[str, list[str]]]:
    """One group for each role; with demo accounts, one person of the same name in each."""
    return {role.value: {"users": [role.value] if demo_accounts else []} for role in Role}


def roles(demo_accounts: bool) -> list[dict[str, Any]]:
    """What groups and services may do, for `JupyterHub.load_roles`."""
    return [*(role_of(role) for role in Role), *service_roles(demo_accounts)]


def role_of(role: Role) -> dict[str, Any]:
    """What members of a role's group may do."""
    services = [access_to(name) for name in (CONTROL, TRACKING, DECISIONS)]
    hub = HUB_ADMIN if role is Role.ADMIN else []
    scopes = [*services, *sorted(ROLE_SCOPES[role]), *hub]
    return {"name": f"majlis-{role}", "groups": [role.value], "scopes": scopes}


def service_roles(demo_accounts: bool) -> list[dict[str, Any]]:
    """What the services may do: each only what it is for."""
    person = Role.SCIENTIST.value  # the demo runs its pipeline in the scientist's server
    demo = [f"servers!user={person}", f"access:servers!user={person}", f"read:users!user={person}"]
    supervise = ["proxy", "read:hub", "list:services", "read:services", *(demo if demo_accounts else [])]
    cull = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
    wake = ["read:servers", "start:servers", "delete:servers"]  # for schedules; a refused start leaves a name
    granted = {
        CONTROL: ["list:users", "read:users:name", "read:users:groups", access_to(TRACKING), *wake],
        SUPERVISOR: supervise,
        CULLER: cull,
    }
    return [
        {"name": f"{name}-service", "services": [name], "scopes": scopes} for name, scopes in granted.items()
    ]


def server_token_scopes() -> list[str]:
    """What a notebook server's token, and so every kernel, can carry at most. Deciding is not among it.

    It may start and stop its person's own servers, which runs on other profiles need, and enter only itself.
    """
    own = ["users:activity!user", "access:servers!server", "servers!user"]
    own += ["read:users:name!user", "read:users:groups!user"]
    return [*own, access_to(CONTROL), access_to(TRACKING), *sorted(KERNEL_SCOPES)]


def session_scopes(service: str, deciding: bool = False) -> list[str]:
    """What a browser session with a service can carry at most."""
    scopes = list(Scope) if deciding else sorted(KERNEL_SCOPES)
    return [access_to(service), "read:users:name!user", "read:users:groups!user", *scopes]


def decision_scopes() -> list[str]:
    """What a browser session on the decisions' own origin can carry at most."""
    return [access_to(DECISIONS), *session_scopes(CONTROL, deciding=True)]
