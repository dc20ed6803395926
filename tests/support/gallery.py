"""A control plane with something on every page, written by people who would break the pages if they could."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import msgspec
import uvicorn

from majlis import audit, clock
from majlis.control.api import create_app
from majlis.control.service import ControlPlane
from majlis.cost import meter
from majlis.registry import versions
from majlis.registry.versions import (
    CheckRow,
    DelegationRow,
    DeploymentRow,
    ReleaseRow,
    ReviewRow,
    RevisionRow,
    RolloutRow,
    Stage,
    State,
)
from majlis.serving.rollout import Kind, Phase, Plan, Rollout
from tests.support.council import PEOPLE, SHOWN, Asking, columns, emptied, in_review

START_SECONDS = 30.0
POLL_SECONDS = 0.02
LONG = "flights-that-arrive-late-in-new-york-by-more-than-thirty-minutes"[:63]
# In one text: markup, a template's syntax, an address, a line feed, right-to-left, nowhere to break it.
HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "'\" onmouseover=\"document.title='owned'\" {{ 7 * 7 }} javascript:document.title='owned'\n"
    "مجلس \u202eesrever\u202c 決定 Überprüfung " + "unbroken" * 30
)
NAME = HOSTILE.replace("\n", " ")  # control characters are refused in names


def furnish(control: ControlPlane) -> None:
    """Models, checks, reviews, a delegation, deployments with rollouts, costs, and a trail of it all."""
    now, facts = clock.now(), columns()["facts"] | {"purpose": HOSTILE}
    with control.store.session() as session:
        emptied(session)
        in_review(control, session, 1, facts=facts, tier_reasons=[HOSTILE], reason=HOSTILE, due_at=now)
        row = versions.find(session, "flights", 1)
        row.signature = {"inputs": [{"name": HOSTILE, "type": "double"}], "outputs": []}
        row.lineage = {"tables": [{"name": HOSTILE, "version": 1}], "feature_views": [HOSTILE],
                       "personal_columns": [HOSTILE]}  # fmt: skip
        row.claimed = {HOSTILE: 0.9}
        for name, verdict, value in (
            ("metrics_reproduce", "passed", 0.8123),
            ("fairness", "failed", 0.31),
            ("latency", "error", None),
            (HOSTILE[:64], "failed", 1e9),
        ):
            row.checks.append(
                CheckRow(name=name, verdict=verdict, value=value, threshold=value and 0.8, reason=HOSTILE,
                         evidence={"note": HOSTILE, HOSTILE: HOSTILE}, seconds=1.0, code_digest="0" * 64,
                         at=now)
            )  # fmt: skip
        bound = {"artifact": row.digest, "evidence": row.evidence, "policy": row.policy}
        later = now + timedelta(days=30)
        row.reviews.append(
            ReviewRow(principal="noor", chair="review", decision="approve", reason=HOSTILE, at=now,
                      expires_at=later, void=HOSTILE, **bound)
        )  # fmt: skip
        row.delegations.append(
            DelegationRow(chair="comply", principal="carla", delegate="dora", reason=HOSTILE, at=now)
        )
        production = {"state": State.RELEASED.value, "stage": Stage.PRODUCTION.value, "reason": ""}
        released = versions.add(session, "flights", 2, "amira", **columns(**production))
        session.get_one(versions.ModelRow, "flights").production = 2
        versions.add(
            session, LONG, 1, "amira", **columns(state=State.FAILED.value, tier="low", reason=HOSTILE)
        )
        versions.add(session, "loans", 1, "amira", **columns(state=State.CHECKING.value, tier="medium"))
        released.releases.append(ReleaseRow(id="flights-2", digest="", issued_at=now, expires_at=later))
        session.flush()
        for name, phase in (
            ("live", Phase.RUNNING),
            (LONG, Phase.ROLLED_BACK),
            ("loans-live", Phase.PROMOTED),
        ):
            live = DeploymentRow(
                name=name, model="flights", created_by="amira", created_at=now, updated_at=now
            )
            live.revisions = [
                RevisionRow(number=n, release="flights-2", weight=w, created_by="amira", created_at=now,
                            reason=HOSTILE)
                for n, w in ((1, 0.9), (2, 0.1), (3, 0.0))
            ]  # fmt: skip
            plan = Plan(kind=Kind.CANARY, steps=(0.1, 0.5, 1.0))
            state = Rollout(deployment=name, stable="1", candidate="2", plan=plan, since=now, step=1,
                            phase=phase, reason=HOSTILE)  # fmt: skip
            live.rollouts = [
                RolloutRow(phase=phase.value, state=msgspec.to_builtins(state), created_by="amira",
                           created_at=now, updated_at=now)
            ]  # fmt: skip
            session.add(live)
        for n, subject in enumerate((HOSTILE[:200], "flight_delay", "loan_review")):
            used = meter.Measurement(
                id=f"m-{n}", kind=meter.Kind.PIPELINE, subject=subject, cpu_seconds=9e4, gpu_seconds=3e3
            )
            meter.record(session, PEOPLE["amira"], [used], control.settings.costs)
        detail = {"reason": HOSTILE, HOSTILE: HOSTILE, "nested": {"markup": HOSTILE, "digests": [SHOWN]}}
        for action in ("version.registered", "review.approved", "release.signed"):
            audit.append(session, NAME, action, f"flights/{NAME}", detail)


@contextmanager
def served(control: ControlPlane, identity: Asking) -> Iterator[str]:
    """The control plane on a free port of the loopback: its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    app = create_app(control, identity)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + START_SECONDS
    while not server.started:
        assert time.monotonic() < deadline and thread.is_alive(), "the control plane did not start"
        time.sleep(POLL_SECONDS)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(START_SECONDS)
    listening.close()
