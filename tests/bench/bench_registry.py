"""What the registry costs when it is large: listing, searching and opening, over HTTP and through the client.

Run as `python -m tests.bench.bench_registry [MODELS] [VERSIONS] [FOLDER]` (5,000 and 100,000 if not said), or
`make bench-registry`. The control plane runs in a process of its own, on SQLite and on PostgreSQL. One caller
waits for each answer; the processor time is the server's. With a FOLDER the filled databases stay there for
the next run; delete it when what fills them has changed.
"""

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table
from sqlalchemy import delete, insert

from majlis import clock
from majlis.audit import Entry, extend
from majlis.client import connect
from majlis.control import api
from majlis.governance import policy as policies
from majlis.governance.reviews import Decision
from majlis.registry.versions import (
    CheckRow,
    DeploymentRow,
    ModelRow,
    ReleaseRow,
    ReviewRow,
    RevisionRow,
    Stage,
    State,
    VersionRow,
    count,
)
from majlis.settings import load
from majlis.store import Store
from tests.service.databases import free_port, postgresql_server

PROMISED_MS = 100.0
PROMISED = f"promised: whatever is read is answered within {PROMISED_MS:.0f} ms, 95 of 100 times"
WRITES = ("deploy a version",)  # these wait for the disk, and are shown beside the promise
REQUESTS = 300  # of each kind
SEED = 20130101
START_SECONDS = 120
CHECKS = (
    "artifact_scan",
    "secrets",
    "signature",
    "better_than_baseline",
)  # that each version has a record of
RECORDED = ("version.registered", "release.signed", "deployment.changed")  # in the trail, of each version
IN_REVIEW = 50  # versions that wait for people
BATCH = 2_000  # rows a statement when the registry is filled
COLUMNS = [{"name": f"column_{number}", "type": "double", "required": True} for number in range(30)]
FACTS = {
    "purpose": "Warn planners of flights that will probably be late.",
    "personal_data": False,
    "affected_people": "none",
    "autonomy": "decides",
}
THINGS = ("churn", "delay", "fraud", "price", "demand", "credit", "risk", "visits", "returns", "energy")


def model_name(number: int) -> str:
    """The name of a model; names repeat their words, as people's do."""
    return f"{THINGS[number % len(THINGS)]}-{THINGS[number // 7 % len(THINGS)]}-{number:05}"


def fill(store: Store, models: int, versions: int, policy: str) -> None:
    """A registry of that size, each model with as many versions, each version with its checks and records."""
    store.migrate()
    each, now = versions // models, clock.now()
    with store.session() as session:
        if count(session, VersionRow) == versions:  # it was kept; what was deployed then is not
            session.execute(delete(RevisionRow))
            session.execute(delete(DeploymentRow))
            return
        session.execute(insert(ModelRow), [model(number, each) for number in range(models)])
        for start in range(0, versions, BATCH):
            numbers = range(start, min(versions, start + BATCH))
            rows = [version(number, each, versions, policy) for number in numbers]
            session.execute(insert(VersionRow), rows)
            session.execute(insert(CheckRow), [check(number, name) for number in numbers for name in CHECKS])
            waiting = [row["id"] for row in rows if row["state"] == State.IN_REVIEW.value]
            if waiting:
                session.execute(insert(ReviewRow), [review(id, policy, now) for id in waiting])
            signed = [release(row, now) for row in rows if row["state"] == State.RELEASED.value]
            session.execute(insert(ReleaseRow), signed)
            extend(session, [record(row, action) for row in rows for action in RECORDED])


def check(number: int, name: str) -> dict[str, Any]:
    """What one check found about a version."""
    return {
        "version_id": number + 1,
        "name": name,
        "verdict": "passed",
        "value": 0.4,
        "threshold": 0.3,
        "reason": "",
        "evidence": {"rows": 28_912, "found": {"pr_auc": 0.41}, "columns": list(range(40))},
        "seconds": 1.5,
        "code_digest": digest_of(name),
        "at": clock.now(),
    }


def review(id: int, policy: str, now: datetime) -> dict[str, Any]:
    """One approval of a version that waits for another."""
    digest = digest_of(id)
    return {
        "version_id": id,
        "principal": "noor",
        "chair": "review",
        "decision": Decision.APPROVE.value,
        "reason": "The evidence holds, and the table is the agreed one.",
        "artifact": digest,
        "evidence": digest,
        "policy": policy,
        "at": now,
        "expires_at": now + timedelta(days=365),
        "void": "",
    }


def release(row: dict[str, Any], now: datetime) -> dict[str, Any]:
    """What the database keeps of a version's release."""
    return {
        "id": f"{row['model']}-{row['version']}",
        "version_id": row["id"],
        "digest": row["digest"],
        "issued_at": now,
        "expires_at": now + timedelta(days=365),
    }


def record(row: dict[str, Any], action: str) -> Entry:
    """What the audit trail says about a version."""
    subject = f"{row['model']}/{row['version']}"
    return Entry(row["owner"], action, subject, {"digest": row["digest"], "tier": row["tier"]})


def digest_of(what: object) -> str:
    """A digest, the same one whenever the registry is filled."""
    return hashlib.sha256(str(what).encode()).hexdigest()


def model(number: int, versions: int) -> dict[str, Any]:
    """One registered model."""
    at = clock.now() - timedelta(minutes=number)
    times = {"created_at": at, "updated_at": at}
    known = {"versions": versions, "latest": versions, "production": versions, "tier": "high"}
    return {"name": model_name(number), "created_by": f"person{number % 300}"} | times | known


def version(number: int, each: int, versions: int, policy: str) -> dict[str, Any]:
    """One version; the last ones of all wait for people, the last one of each model is in production."""
    digest, last, now = digest_of(number + 1), number % each == each - 1, clock.now()
    waiting = number >= versions - IN_REVIEW
    return {
        "id": number + 1,
        "model": model_name(number // each),
        "version": number % each + 1,
        "owner": f"person{number % 300}",
        "makers": [f"person{number % 300}"],
        "model_uri": f"models:/m-{digest[:32]}",
        "run_id": digest[:32],
        "digest": digest,
        "digests": {f"file_{name}": digest for name in range(12)},
        "signature": {"inputs": COLUMNS, "outputs": [{"type": "double"}]},
        "flavours": ["python_function", "sklearn"],
        "facts": FACTS,
        "lineage": {"tables": [], "read": [], "feature_views": [], "personal_columns": []},
        "evaluation": {"table": "gold.flights", "version": 3, "target": "late"},
        "claimed": {"pr_auc": 0.41},
        "state": (State.IN_REVIEW if waiting else State.RELEASED).value,
        "stage": (Stage.NONE if waiting else Stage.PRODUCTION if last else Stage.STAGING).value,
        "tier": "high",
        "tier_reasons": ["it acts without a person in between"],
        "required": ["review", "own", "comply"],
        "policy": policy,
        "evidence": digest,
        "formats": {},
        "reason": "",
        "registered_at": now,
        "updated_at": now,
        "due_at": now + timedelta(days=1),
    }


@contextmanager
def served(home: Path, store_url: str) -> Iterator[tuple[str, psutil.Process, dict[str, str]]]:
    """A control plane in a process of its own: its address, the process, and what a client is told."""
    port = free_port()
    environ = os.environ | {"MAJLIS_WORKBENCH_HOME": str(home), "MAJLIS_STORE_URL": store_url}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.bench_registry", "serve", str(port)], env=environ
    )
    address = f"http://127.0.0.1:{port}/services/majlis"
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx.get(f"{address}/api/v1/whoami", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.1)  # between two looks
        yield address, psutil.Process(process.pid), {"MAJLIS_URL": address, "JUPYTERHUB_API_TOKEN": "local"}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_SECONDS)


def questions(address: str, told: dict[str, str], models: int, each: int) -> dict[str, Callable[[], object]]:
    """What is asked, by name; each call asks about something else."""
    drawn, http = random.Random(SEED), httpx.Client(base_url=f"{address}/api/v1", timeout=60)
    portal = httpx.Client(base_url=f"{address}/", timeout=60)
    wb = connect(environ=told)

    def get(path: str, **query: Any) -> object:
        answer = http.get(path, params=query)
        answer.raise_for_status()
        return answer.json()

    def page(path: str, **query: Any) -> object:
        answer = portal.get(path, params=query)
        answer.raise_for_status()
        return answer.text

    def deploy() -> object:
        """Another version of a model goes live, and the one before it is archived."""
        name, number = some(), drawn.randint(1, each)
        body = {"model": name, "version": number, "reason": "measured"}
        answer = http.put(f"/deployments/{name}", json=body)
        answer.raise_for_status()
        return answer.json()

    def some() -> str:
        return model_name(drawn.randrange(models - IN_REVIEW))

    return {
        "list 100 models": lambda: get("/models", limit=100),
        "search by part of a name": lambda: get("/models", search=some()[-7:], limit=100),
        "search by a common word": lambda: get("/models", search=drawn.choice(THINGS), limit=100),
        "open a model": lambda: get(f"/models/{some()}"),
        "open a version": lambda: get(f"/models/{some()}/versions/{drawn.randint(1, each)}"),
        f"list {IN_REVIEW} that wait": lambda: get("/reviews"),
        "records of one version": lambda: get("/audit", subject=f"{some()}/1"),
        "page: models": lambda: page("", search=drawn.choice(THINGS)),
        "page: reviews": lambda: page("reviews"),
        "page: today": lambda: page("today"),
        "deploy a version": deploy,
        "page: deployments": lambda: page("deployments"),
        "client: search": lambda: wb.models(some()[-7:]),
        "client: open a version": lambda: wb.version(some(), drawn.randint(1, each)),
    }


def measure(kind: str, home: Path, store_url: str, models: int, versions: int, table: Table) -> float:
    """All rows of one database; returns the slowest 95th percentile."""
    store = Store(store_url)
    fill(store, models, versions, policies.load(load().policy.file).digest)
    store.close()
    worst = 0.0
    with served(home, store_url) as (address, process, told):
        for name, ask in questions(address, told, models, versions // models).items():
            ask()
            before, waits = sum(process.cpu_times()[:2]), []
            for _ in range(REQUESTS):
                start = time.perf_counter()
                ask()
                waits.append(1000 * (time.perf_counter() - start))
            cpu = 1000 * (sum(process.cpu_times()[:2]) - before) / REQUESTS
            p50, p95, p99 = (sorted(waits)[int(len(waits) * part)] for part in (0.5, 0.95, 0.99))
            worst = worst if name in WRITES else max(worst, p95)
            table.add_row(kind, name, *(f"{value:.1f}" for value in (p50, p95, p99, cpu)))
    return worst


def main(models: int = 5_000, versions: int = 100_000, folder: str = "") -> dict[str, float]:
    """Print the table, and what was promised beside what was found; the slowest 95th percentiles."""
    title = f"Registry, {models:,} models, {versions:,} versions"
    table = Table(title=title, title_justify="left")
    for name in ("database", "what", "ms p50", "p95", "p99", "server CPU ms"):
        table.add_column(name, justify="left" if name in ("database", "what") else "right")
    policy = policies.load(load().policy.file).digest
    kept = f"registry_{models}_{versions}_{policy[:8]}"  # judged by another policy, all would be reassessed
    worst = {}
    with tempfile.TemporaryDirectory(prefix="majlis-bench-") as scratch, contextlib.ExitStack() as stack:
        place = Path(folder or scratch)
        place.mkdir(exist_ok=True)
        server = stack.enter_context(postgresql_server(kept=place / "postgresql" if folder else None))
        for kind, url in (
            ("SQLite", f"sqlite:///{place.resolve()}/{kept}.sqlite"),
            ("PostgreSQL", server.database(kept)),
        ):
            home = Path(scratch) / kind
            home.mkdir()
            worst[kind] = measure(kind, home, url, models, versions, table)
    said = [f"{kind}: {p95:.1f} ms at most, 95 of 100 times" for kind, p95 in worst.items()]
    Console(width=120).print(table, *said, PROMISED, sep="\n")
    return worst


def test_registry() -> None:
    """What was promised holds."""
    assert max(main().values()) < PROMISED_MS


def serve(port: int) -> None:
    """The control plane, for whoever is on this machine."""
    api.serve(api.embedded_app(load()), "127.0.0.1", port)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]))
    else:
        main(*map(int, sys.argv[1:3]), *sys.argv[3:4])
