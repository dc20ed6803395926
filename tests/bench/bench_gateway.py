"""What the gateway does beside single rows at full speed: paced, binary, for long, with a large artifact.

Run as `make bench-gateway`, or `python -m tests.bench.bench_gateway [SOAK_SECONDS]`; everything is on, as in
`bench_serving`. The soak runs at half of what the full load reached and prints how memory grew.
"""

import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import psutil

from majlis.registry.release import digests
from tests.bench.bench_serving import COLUMNS, Server, majlis, tensor, trained
from tests.bench.load import Load, load
from tests.service.gateways import World

PACED = 5_000  # requests/s
PACED_CONNECTIONS = 64
SECONDS = 10.0
SOAK_SECONDS = 600.0
SAMPLE_SECONDS = 2.0
LARGE = 2**30  # bytes


def main(soak_seconds: float = SOAK_SECONDS) -> None:
    """Measure and print one thing after the other."""
    with tempfile.TemporaryDirectory() as home, majlis(trained(), Path(home)) as server:
        folder = Path(home)
        print(f"start to first answer: {server.start_seconds:.2f} s")
        with logged(server):
            full = json_load(server, folder, rows=1)
            say("1 row, full load", full)
        with logged(server):
            say(f"1 row, {PACED:,}/s", json_load(server, folder, rows=1, rate=PACED))
        with logged(server):
            say("100 rows, JSON", json_load(server, folder, rows=100))
        with logged(server):
            say("100 rows, binary", binary_load(server, folder, rows=100))
        soak(server, folder, full.per_second / 2, soak_seconds)
    large_artifact()


def say(what: str, told: Load) -> None:
    """One line of the report."""
    print(
        f"{what}: {told.per_second:,.0f} requests/s, p50 {told.p50_ms:.2f} ms, p99 {told.p99_ms:.2f} ms, "
        f"{told.cpu_us:.0f} µs CPU each, {told.failed} of {told.requests:,} failed",
        flush=True,
    )


@contextmanager
def logged(server: Server) -> Iterator[None]:
    """Say what the prediction log did with the rows of a load, and what its writer took for them."""
    before, cpu = log_rows(server), sum(server.process.cpu_times()[:2])
    yield
    used = sum(server.process.cpu_times()[:2]) - cpu  # of the supervisor alone, which writes the log
    written, lost = (after - earlier for after, earlier in zip(log_rows(server), before, strict=True))
    print(
        f"    log: {written + lost:,} rows offered, {written:,} written, {lost:,} dropped; "
        f"the writer took {used:.1f} s of CPU, {used / max(written, 1) * 1e6:.2f} µs a row",
        flush=True,
    )


def log_rows(server: Server) -> tuple[int, int]:
    """Rows that the log took and dropped so far."""
    address = server.url.partition("/v2/")[0]
    told = httpx.get(f"{address}/status", timeout=30).json()["log"]
    return told["written"], told["lost"]


def json_load(server: Server, folder: Path, rows: int, rate: float | None = None) -> Load:
    """Tensors as JSON."""
    headers = server.headers | {"content-type": "application/json"}
    connections = PACED_CONNECTIONS if rate else 16
    body = json.dumps(tensor(rows)).encode()
    return load(server.process, server.url, headers, body, folder, SECONDS, connections, rate)


def binary_load(server: Server, folder: Path, rows: int) -> Load:
    """The same tensor with the binary tensor extension, the answer binary as well."""
    table = np.random.default_rng(0).normal(size=(rows, COLUMNS))
    described = {"name": "table", "shape": [rows, COLUMNS], "datatype": "FP64"}
    head = json.dumps(
        {
            "inputs": [described | {"parameters": {"binary_data_size": table.nbytes}}],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    headers = server.headers | {
        "content-type": "application/octet-stream",
        "inference-header-content-length": str(len(head)),
    }
    return load(server.process, server.url, headers, head + table.tobytes(), folder, SECONDS)


class Growth(NamedTuple):
    """Memory over a soak."""

    first_mib: float
    last_mib: float
    mib_per_hour: float  # slope of a straight line through the second half


@contextmanager
def watched(process: psutil.Process) -> Iterator[list[tuple[float, float]]]:
    """(seconds, MiB) of a process and all its children, sampled meanwhile."""
    samples: list[tuple[float, float]] = []
    over = threading.Event()

    def sample() -> None:
        begun = time.monotonic()
        while not over.wait(SAMPLE_SECONDS):
            family = [process, *process.children(recursive=True)]
            used = sum(member.memory_full_info().pss for member in family)
            samples.append((time.monotonic() - begun, used / 2**20))

    watcher = threading.Thread(target=sample)
    watcher.start()
    try:
        yield samples
    finally:
        over.set()
        watcher.join()


def soak(server: Server, folder: Path, rate: float, seconds: float) -> None:
    """A constant load for a long time: nothing may fail, memory may not grow."""
    headers = server.headers | {"content-type": "application/json"}
    body = json.dumps(tensor(1)).encode()
    with watched(server.process) as samples:
        told = load(server.process, server.url, headers, body, folder, seconds, PACED_CONNECTIONS, rate)
    say(f"soak of {seconds:.0f} s", told)
    grown = growth(samples)
    print(
        f"memory (PSS of all processes): {grown.first_mib:.0f} MiB at first, {grown.last_mib:.0f} at last, "
        f"{grown.mib_per_hour:+.1f} MiB an hour over the second half",
        flush=True,
    )


def growth(samples: list[tuple[float, float]]) -> Growth:
    """The ends, and the slope of the second half."""
    at, used = np.array(samples[len(samples) // 2 :]).T
    slope = np.polyfit(at, used, 1)[0] if len(at) > 1 else float("nan")
    return Growth(samples[0][1], samples[-1][1], slope * 3600)


def large_artifact() -> None:
    """A release of 1 GiB: from publishing to serving it, beside hashing the same bytes alone."""
    with tempfile.TemporaryDirectory() as home:
        world = World(Path(home))
        world.release("small-1")
        large = world.release("large-1", ballast=LARGE)
        world.deploy(small_1=1.0)
        with world.gateway():
            world.synced()
            begun = time.perf_counter()
            world.deploy(large_1=1.0)
            world.synced()
            loaded = time.perf_counter() - begun
            begun = time.perf_counter()
            digests(large)
            hashed = time.perf_counter() - begun
            assert world.ask(1.0).json()["outputs"][0]["data"] == [2.0]
    print(
        f"1 GiB: serving {loaded:.2f} s after it was published; hashing it alone takes {hashed:.2f} s "
        f"({LARGE / hashed / 1e9:.2f} GB/s)"
    )


if __name__ == "__main__":
    main(*(float(argument) for argument in sys.argv[1:]))
