"""People of every role, a model of theirs that waits for a decision, and an identity that a test sets."""

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import nbformat
from nbformat.v4 import new_markdown_cell, new_notebook
from sqlalchemy.orm import Session
from starlette.requests import HTTPConnection

from majlis import clock
from majlis.access import KERNEL_SCOPES, Principal, Role, role_scopes
from majlis.control.service import ControlPlane
from majlis.errors import Unauthenticated
from majlis.files import write_whole
from majlis.registry import versions
from majlis.registry.versions import DeploymentRow, KeyRow, ReleaseRow, RevisionRow, Stage, State

API = "/services/majlis/api/v1"
REASON = {"reason": "a reason that is long enough"}
NOTEBOOK = nbformat.writes(new_notebook(cells=[new_markdown_cell("What the checks found")]))
SHOWN = {"digest": "0" * 64, "evidence": hashlib.sha256(NOTEBOOK.encode()).hexdigest(), "policy": "1" * 64}
TABLES = ("revision", "rollout", "api_key", "deployment", "release", "review", "delegation", "check_result",
          "model_version", "registered_model")  # fmt: skip


def person(name: str, *roles: Role) -> Principal:
    """Somebody with a session on the decisions page."""
    groups = frozenset(role.value for role in roles)
    return Principal(name, role_scopes(groups), groups, "session")


def kernel(name: str, *roles: Role) -> Principal:
    """What a notebook of that person carries, whatever their roles are."""
    groups = frozenset(role.value for role in roles)
    return Principal(name, role_scopes(groups) & {scope.value for scope in KERNEL_SCOPES}, groups, "token")


PEOPLE = {
    "amira": person("amira", Role.SCIENTIST),  # made everything here
    "ben": person("ben", Role.SCIENTIST),
    "engineer": person("noor", Role.ENGINEER),
    "owner": person("omar", Role.OWNER),
    "compliance": person("carla", Role.COMPLIANCE),
    "admin": person("root", Role.ADMIN),
    "kernel": kernel("noor", *Role),
    "nothing": person("nemo"),
}
OTHERS = {  # who can be named, beside them
    "dora": person("dora", Role.COMPLIANCE),
    "emil": person("emil", Role.COMPLIANCE, Role.ENGINEER),
    "lina": person("lina", Role.ENGINEER),
    "odd": person("odd", Role.OWNER),
}


class Asking:
    """An identity that a test sets; nothing in a request can."""

    who: Principal | None = None

    async def principal(self, request: HTTPConnection) -> Principal:
        """Whom the test lets call."""
        if self.who is None:
            raise Unauthenticated("nobody is known to be calling")
        return self.who

    async def person(self, name: str) -> Principal | None:
        """Anybody of these tests, as a hub knows them."""
        everybody = [who for key, who in {**PEOPLE, **OTHERS}.items() if key != "kernel"]
        return next((who for who in everybody if who.name == name), None)


def ruling(chair: str, shown: Mapping[str, str] = SHOWN) -> dict[str, str]:
    """An approval of what `in_review` made."""
    return {"decision": "approve", "as": chair} | REASON | dict(shown)


def columns(**changes: Any) -> dict[str, Any]:
    """What a version's row needs."""
    facts = {"purpose": "Warn planners early.", "personal_data": False, "affected_people": "none"}
    return {
        "makers": ["amira"],
        "model_uri": "models:/m-1",
        "run_id": "r",
        "digest": SHOWN["digest"],
        "digests": {},
        "signature": {"inputs": [], "outputs": []},
        "flavours": [],
        "facts": facts | {"autonomy": "advises"},
        "lineage": {"tables": [], "feature_views": [], "personal_columns": []},
        "evaluation": {"table": "gold.none", "version": 0, "target": "late"},
        "claimed": {},
        "tier": "high",
        "required": ["review", "own", "comply"],
        "policy": SHOWN["policy"],
    } | changes


def in_review(control: ControlPlane, session: Session, version: int = 1, **changes: Any) -> None:
    """A version of Amira's model, documented and waiting for people."""
    write_whole(control.evidence.path("flights", version), NOTEBOOK)
    due = {"due_at": clock.now() + timedelta(days=5)}
    waiting = columns(state=State.IN_REVIEW.value, evidence=SHOWN["evidence"])
    versions.add(session, "flights", version, "amira", **waiting | due | changes)


def emptied(session: Session) -> None:
    """No models and no deployments; the audit trail stays."""
    for table in TABLES:
        session.connection().exec_driver_sql(f'DELETE FROM "{table}"')


def furnished(control: ControlPlane) -> None:
    """Amira's model with a version in review and a released one that is deployed; nothing else happened."""
    now = clock.now()
    with control.store.session() as session:
        emptied(session)
        in_review(control, session)
        released = columns(state=State.RELEASED.value, stage=Stage.PRODUCTION.value)
        row = versions.add(session, "flights", 2, "amira", **released)
        later = now + timedelta(days=1)
        row.releases.append(ReleaseRow(id="flights-2", digest="", issued_at=now, expires_at=later))
        session.flush()
        live = DeploymentRow(name="live", model="flights", created_by="amira", created_at=now, updated_at=now)
        live.revisions = [
            RevisionRow(number=n, release="flights-2", weight=n - 1.0, created_by="amira", created_at=now)
            for n in (1, 2)
        ]
        live.keys = [
            KeyRow(id="key-amira", sha256="a" * 64, principal="amira", created_at=now, expires_at=later)
        ]
        session.add(live)
