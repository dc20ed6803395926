"""What tests of rollouts share: a control plane and its client, released versions, a load, the trail."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from random import Random
from typing import Any

import httpx

from majlis import clock
from majlis.access import local_principal
from majlis.client import Workbench
from majlis.client_api import Api, Embedded
from majlis.client_deployments import Deployment
from majlis.control.api import create_app
from majlis.control.identity import LocalIdentity
from majlis.control.service import ControlPlane
from majlis.errors import Invalid
from majlis.registry import versions
from majlis.registry.versions import ReleaseRow, Stage, State
from majlis.settings import Settings, load
from tests.service.gateways import ROOT, World


def environment(world: World, **rollout: object) -> dict[str, str]:
    """Settings of a control plane that moves on as soon as there is some evidence."""
    hasty = {"pause_seconds": 0.2, "requests": 20, "poll_seconds": 0.1, "slow": 1} | rollout
    return {
        "MAJLIS_SETTINGS": str(ROOT / "settings.ini"),
        "MAJLIS_WORKBENCH_HOME": str(world.home),
        "MAJLIS_GATEWAY_PORT": str(world.port),
        "MAJLIS_GATEWAY_SNAPSHOT_POLL_SECONDS": "0.05",
        **{f"MAJLIS_ROLLOUT_{name.upper()}": str(value) for name, value in hasty.items()},
    }


@contextmanager
def control(world: World, **rollout: object) -> Iterator[tuple[ControlPlane, Workbench]]:
    """A control plane in this process, and a client of its API."""
    settings: Settings = load(environ=environment(world, **rollout))
    plane = ControlPlane(settings).open()
    app = create_app(plane, LocalIdentity(local_principal("amira")))
    http = httpx.Client(transport=Embedded(lambda: app), base_url="http://majlis/services/majlis/api/v1/")
    try:
        with Workbench(Api(http, "the test"), settings) as wb:
            yield plane, wb
    finally:
        plane.close()


def released(plane: ControlPlane, world: World, number: int, model: bytes) -> None:
    """A signed release of `flights`, as the control plane records it."""
    world.release(f"flights-{number}", model)
    nothing: dict[str, Any] = {"digests": {}, "signature": {}, "facts": {}, "lineage": {}, "evaluation": {}}
    texts = {"model_uri": "models:/m-1", "run_id": "r", "digest": "0" * 64}
    with plane.store.session() as session:
        row = versions.add(
            session, "flights", number, "amira", makers=["amira"], flavours=[], claimed={}, **nothing, **texts
        )
        row.state, row.stage = State.RELEASED.value, Stage.STAGING.value
        later = clock.now() + timedelta(hours=1)
        row.releases.append(
            ReleaseRow(id=f"flights-{number}", digest="", issued_at=clock.now(), expires_at=later)
        )


@contextmanager
def asked(
    world: World,
    key: str,
    headers: Callable[[Random], Mapping[str, str]] = lambda random: {},  # of each request
) -> Iterator[Counter[tuple[int, str]]]:
    """A light load while the block runs: the answers by status and revision."""
    answers: Counter[tuple[int, str]] = Counter()
    done, random = threading.Event(), Random(1)

    def ask() -> None:
        with httpx.Client(headers={"authorization": f"Bearer {key}"}, timeout=20) as client:
            while not done.is_set():
                tensor = {"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [random.random()]}
                answer = client.post(
                    f"{world.url}/v2/models/flights/infer", json={"inputs": [tensor]}, headers=headers(random)
                )
                answers[answer.status_code, answer.headers.get("x-revision", "")] += 1

    caller = threading.Thread(target=ask)
    caller.start()
    try:
        yield answers
    finally:
        done.set()
        caller.join()


def state(deployment: Deployment) -> dict[str, Any]:
    """The deployment's rollout; there is one."""
    found = deployment.rollout
    assert found is not None
    return found


def over(deployment: Deployment) -> bool:
    """Whether the newest rollout has ended."""
    return bool(state(deployment)["phase"] != "running")


def trail(wb: Workbench) -> list[tuple[str, str, int]]:
    """Who did what to the rollout, and the share that followed."""
    records = [record for record in wb.audit(subject="flights") if record["action"].startswith("rollout.")]
    return [(record["principal"], record["action"], record["detail"]["percent"]) for record in records]


def shares(deployment: Deployment) -> dict[str, float]:
    """The traffic's shares by revision."""
    return {str(row["name"]): float(row["weight"]) for row in deployment.refresh().revisions}


def command(world: World, *arguments: str) -> dict[str, Any]:
    """What `majlis rollout` prints; Invalid with its complaint when it ends badly."""
    run = [sys.executable, "-c", "from majlis.cli import main; main()", "rollout", *arguments, "--json"]
    environ = {"PATH": os.environ["PATH"], **environment(world)}
    done = subprocess.run(run, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise Invalid(done.stderr)
    told = json.loads(done.stdout)
    found: dict[str, Any] = told[0] if isinstance(told, list) else told
    return found
