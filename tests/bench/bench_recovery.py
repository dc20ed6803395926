"""kill -9 of each process of the gateway under load: who fails, and how long until all are answered again.

Run as `python -m tests.bench.bench_recovery`, or `make bench-recovery`. Callers ask one deployment each, over
and over, on connections that stay open; one process is killed. An answer that is no 200, or a connection that
breaks, is a failure. The time of recovery ends with the last failure, or is what the slowest answer took if
that is longer. The control plane, MLflow and the hub do not run at all.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import mlflow.pyfunc
import psutil
from rich.console import Console
from rich.table import Table

from majlis.settings import FeaturesSection
from tests.service.gateways import World, linear, wait_until
from tests.service.test_gateway_features import Fleet
from tests.service.test_gateway_worker import MODEL

CALLERS = 2  # of each deployment
BEFORE_SECONDS, AFTER_SECONDS = 11.0, 10.0  # a process that dies young is not started again at once
TARGET_SECONDS = 2.0
START_SECONDS = 120.0
BODIES: dict[str, dict[str, Any]] = {
    "onnx": {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0]}]},
    "python": {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0]}]},
    "adder": {
        "entities": {"tailnum": ["N1"]},
        "inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0]}],
    },
}
Answers = dict[
    str, list[tuple[float, float, bool]]
]  # deployment -> begun, ended, whether it was a prediction


class Recovery(NamedTuple):
    """What a kill did to one deployment."""

    answered: int
    failed: int
    seconds: float  # from the kill to the last failure, or what the slowest answer took if that is longer


@contextmanager
def callers(world: World) -> Iterator[Answers]:
    """Callers of every deployment, until the end of the block."""
    answers: Answers = {name: [] for name in BODIES}
    over = threading.Event()

    def call(name: str) -> None:
        headers = {"authorization": f"Bearer {world.key}"}
        with httpx.Client(base_url=world.url, headers=headers, timeout=30) as client:
            while not over.is_set():
                begun = time.monotonic()
                try:
                    good = client.post(f"/v2/models/{name}/infer", json=BODIES[name]).status_code == 200
                except httpx.TransportError:
                    good = False
                answers[name].append((begun, time.monotonic(), good))
                if not good:
                    over.wait(0.02)  # whoever fails does not ask again in the same moment

    threads = [threading.Thread(target=call, args=(name,)) for name in BODIES for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def judged(answers: list[tuple[float, float, bool]], killed_at: float) -> Recovery:
    """What a kill did, out of what callers saw."""
    after = [answer for answer in answers if answer[1] >= killed_at]
    failures = [ended - killed_at for _, ended, good in after if not good]
    slowest = max(ended - begun for begun, ended, _ in after)
    return Recovery(len(after) - len(failures), len(failures), max([slowest, *failures]))


def child(gateway: psutil.Process, script: str) -> psutil.Process:
    """The first process that the supervisor started to run `script`."""
    return next(p for p in gateway.children() if script in " ".join(p.cmdline()))


def worker(gateway: psutil.Process, script: str) -> psutil.Process:
    """The first process that came of the template that runs `script`."""
    return child(gateway, script).children()[0]


VICTIMS: dict[str, Callable[[psutil.Process], psutil.Process]] = {
    "a serving process": lambda gateway: child(gateway, "majlis.serving.gateway"),
    "the process of a model that is code": lambda gateway: worker(gateway, "serving/inside.py"),
    "the process that asks the online store": lambda gateway: worker(gateway, "majlis.serving.online"),
    "the template of models that are code": lambda gateway: child(gateway, "serving/inside.py"),
    "the template of those that ask the store": lambda gateway: child(gateway, "majlis.serving.online"),
    "the supervisor": lambda gateway: gateway,
}


def populated(home: Path, workers: int) -> World:
    """A world with a model of each kind: ONNX, code, and one that takes online features."""
    fleet = Fleet(home, FeaturesSection(repo=home / "features"), workers=workers)
    world, source = fleet.world, home / "model.py"
    source.write_text(MODEL)
    world.release("double-1", linear(2.0))
    world.release(
        "pyfunc-1",
        native=lambda folder: mlflow.pyfunc.save_model(folder, python_model=source, pip_requirements=[]),
    )
    world.keys = [world.make_key(world.key, "tester", tuple(BODIES))]
    world.deploy("onnx", double_1=1.0)
    world.deploy("python", pyfunc_1=1.0)
    return world


@contextmanager
def running(world: World) -> Iterator[Callable[[], psutil.Process]]:
    """A gateway that is started again whenever it ends, as the workbench does it."""
    over = threading.Event()
    current: list[psutil.Process] = []

    def keep() -> None:
        while not over.is_set():
            with world.gateway(wait=False) as process:
                current[:] = [psutil.Process(process.pid)]
                while process.poll() is None and not over.wait(0.02):
                    pass

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        recovered(world)
        yield lambda: current[0]
    finally:
        over.set()
        keeper.join()


def recovered(world: World) -> None:
    """Wait until every deployment answers."""
    wait_until(lambda: all(asked(world, name) for name in BODIES), START_SECONDS)


def asked(world: World, name: str) -> bool:
    """Whether a deployment answers."""
    headers = {"authorization": f"Bearer {world.key}"}
    url = f"{world.url}/v2/models/{name}/infer"
    try:
        return httpx.post(url, json=BODIES[name], headers=headers, timeout=30).status_code == 200
    except httpx.TransportError:
        return False


def main() -> None:
    """Kill one process after the other and print what each kill did."""
    table = Table(title="kill -9 under load")
    for heading in ("killed", "serving processes", "deployment", "answered", "failed", "recovered after"):
        table.add_column(heading)
    for workers in (1, 2):
        with (
            tempfile.TemporaryDirectory() as home,
            running(world := populated(Path(home), workers)) as gateway,
        ):
            for what, victim in VICTIMS.items():
                recovered(world)
                with callers(world) as answers:
                    time.sleep(BEFORE_SECONDS)
                    victim(gateway()).kill()
                    killed_at = time.monotonic()
                    time.sleep(AFTER_SECONDS)
                for name, told in answers.items():
                    done = judged(told, killed_at)
                    late = " (late)" if done.seconds > TARGET_SECONDS else ""
                    row = (what, str(workers), name, f"{done.answered:,}", str(done.failed))
                    table.add_row(*row, f"{done.seconds:.2f} s{late}")
                    print(*row, f"{done.seconds:.2f} s{late}", flush=True)
    Console().print(table)


if __name__ == "__main__":
    main()
