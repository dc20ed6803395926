"""`make demo`: every step of the path is looked at where it left its traces, not taken at its word."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub_config.workbench import kernel
from hub_config.workbench.bench import Bench
from hub_config.workbench.demo import Scientist
from hub_config.workbench.screen import Screen
from majlis.access import DECIDING_SCOPES
from majlis.errors import MajlisError
from majlis.registry import release
from majlis.settings import Settings

FLIGHTS = 336_776  # rows of the year, so that none got lost between bronze, silver and quarantine
SAME_ANSWER = 1e-6
EVIDENCE = Path(__file__).with_name("evidence.py")  # runs in the kernel, not here

Facts = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """Something that has to be true, and what was found."""

    step: str
    holds: bool
    found: str


async def everything(bench: Bench, scientist: Scientist, run: Facts, screen: Screen) -> int:
    """Verify each step and say what was found; 0 when all hold, else 1."""
    facts = await gathered(bench, scientist, run)
    failed = told(claims(facts, bench.settings), screen)
    return await concluded(scientist, failed, screen)


def told(found: Iterable[Claim], screen: Screen) -> int:
    """Say each claim as it comes; how many do not hold."""
    failed = 0
    for claim in found:
        screen.say(f"{'ok    ' if claim.holds else 'FAILED'}  {claim.step:<9} {claim.found}")
        failed += not claim.holds
    return failed


async def concluded(scientist: Scientist, failed: int, screen: Screen) -> int:
    """Look at every component's health, too, and sum up: 0 when nothing failed, else 1."""
    health = await scientist.ask("GET", f"{scientist.services}majlis/health")
    down = [part["name"] for part in health["components"] if part["status"] == "down"]
    failed += told([Claim("health", not down, ", ".join(down) or "every component answers")], screen)
    screen.say("every step verified" if not failed else f"{failed} of the above do not hold")
    return int(failed > 0)


async def gathered(bench: Bench, scientist: Scientist, run: Facts) -> Facts:
    """The facts, as a kernel of the scientist's finds them."""
    program = f"import json\nrun = json.loads({json.dumps(json.dumps(run))})\n"
    program += EVIDENCE.read_text()
    printed = await kernel.execute(scientist.server, bench.token, program, scientist.seconds)
    facts: Facts = json.loads(printed.splitlines()[-1])
    return facts


def claims(facts: Facts, settings: Settings) -> Iterator[Claim]:
    """Every claim, in the order of the path."""
    judges: dict[str, Callable[[Facts], Claim]] = {
        "identity": identity,
        "ingest": ingest,
        "features": features,
        "train": train,
        "register": register,
        "deploy": deploy,
        "monitor": monitor,
        "audit": audit,
    }
    yield from (judge(facts[step]) for step, judge in judges.items())
    yield signed(facts["register"], settings)


def identity(facts: Facts) -> Claim:
    """`majlis.connect()` in a kernel is the scientist, and cannot decide."""
    deciding = set(facts["scopes"]) & set(DECIDING_SCOPES)
    found = f"majlis.connect() in a kernel is {facts['name']}, with {len(facts['scopes'])} scopes"
    return Claim("identity", facts["name"] == Scientist.name and not deciding, found)


def ingest(facts: Facts) -> Claim:
    """No row of the source is lost: what is not in silver is quarantined with its reasons."""
    whole = facts["silver"] + facts["quarantined"] == facts["bronze"] == FLIGHTS
    reasoned = 0 < facts["with_reasons"] == facts["quarantined"]
    found = (
        f"{facts['bronze']} flights: {facts['silver']} valid, {facts['quarantined']} quarantined with reasons"
    )
    return Claim("ingest", whole and reasoned, found)


def features(facts: Facts) -> Claim:
    """Every entity row came back from the join, once."""
    exact = facts["asked"] == facts["back"] == facts["once"] and facts["missing"] == 0
    return Claim("features", exact, f"{facts['back']} of {facts['asked']} entity rows came back, each once")


def train(facts: Facts) -> Claim:
    """The chosen model's run is finished, its rivals stand beside it, and it has a signature."""
    complete = facts["status"] == "FINISHED" and facts["runs"] > 1 and facts["signature"]
    found = f"{facts['runs']} runs in MLflow; the chosen one {facts['status']}, {facts['metrics']} metrics"
    return Claim("train", bool(complete and facts["metrics"]), found)


def register(facts: Facts) -> Claim:
    """The version passed its checks and has a release."""
    passed = [name for name, verdict in facts["checks"].items() if verdict == "passed"]
    stopped = [name for name, verdict in facts["checks"].items() if verdict not in ("passed", "skipped")]
    good = facts["state"] == "released" and facts["release"] and passed and not stopped
    found = f"{facts['state']}, {facts['tier']} risk, {len(passed)} of {len(facts['checks'])} checks passed"
    return Claim("register", bool(good), found)


def deploy(facts: Facts) -> Claim:
    """The gateway answers as the model does."""
    same = facts["rows"] > 0 and facts["max_difference"] <= SAME_ANSWER
    found = (
        f"{facts['rows']} answers over HTTP differ from the model's by {facts['max_difference']:.1e} at most"
    )
    return Claim("deploy", same, found)


def monitor(facts: Facts) -> Claim:
    """What was replayed is in the prediction log, and the drift report opens."""
    logged = facts["logged"] >= facts["replayed"] > 0 and facts["report_is_a_page"]
    found = f"{facts['logged']} predictions logged; drift report of {facts['report_bytes'] // 1024} KiB"
    return Claim("monitor", logged, found)


def audit(facts: Facts) -> Claim:
    """The hash chain holds from the first record to the last."""
    return Claim(
        "audit", bool(facts["ok"]), f"{facts['records']} records, chain {'holds' if facts['ok'] else facts}"
    )


def signed(facts: Facts, settings: Settings) -> Claim:
    """The release verifies here, with nothing but the public key."""
    try:
        statement = release.verify(
            settings.release.folder / str(facts["release"]), settings.release.public_key
        )
    except MajlisError as error:
        return Claim("release", False, str(error))
    return Claim("release", statement.id == facts["release"], f"{statement.id} verifies with the public key")
