"""Load from `wrk`, and the CPU time that it cost whoever answered."""

import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil

SETTLE_SECONDS = 2.0  # what is still to be logged belongs to the requests


class Load(NamedTuple):
    """What a server did with one kind of request."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    failed: int  # answers that were no 2xx, and connections that broke
    cpu_us: float  # per request, all processes of the server


def load(
    server: psutil.Process,  # with all its children
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    folder: Path,  # for wrk's script
    seconds: float,
    connections: int = 16,
    rate: float | None = None,  # requests/s; without it as many as the server answers
) -> Load:
    """POST `body` again and again over connections that stay open.

    With a rate every connection pauses after each answer, for a time drawn evenly from 0 to twice the mean.
    """
    answer = httpx.post(url, content=body, headers=dict(headers), timeout=30)
    assert answer.status_code == 200, answer.text
    before = cpu_seconds(server)
    command = [
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{seconds:g}s",
        "--latency",
        "--timeout",
        "30s",
        "-s",
        script(headers, body, folder, connections, rate),
        url,
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    time.sleep(SETTLE_SECONDS)
    used = cpu_seconds(server) - before
    requests = int(told.partition(" requests in")[0].split()[-1])
    return Load(
        requests=requests,
        per_second=float(told.partition("Requests/sec:")[2].split()[0]),
        p50_ms=percentile(told, 50),
        p99_ms=percentile(told, 99),
        failed=failures(told),
        cpu_us=used / requests * 1e6,
    )


def script(
    headers: Mapping[str, str], body: bytes, folder: Path, connections: int, rate: float | None
) -> Path:
    """What wrk is told in Lua."""
    content, path = folder / "body", folder / "post.lua"
    content.write_bytes(body)
    lines = [
        'wrk.method = "POST"',
        f'wrk.body = io.open("{content}", "rb"):read("*a")',
        *(f'wrk.headers["{key}"] = "{value}"' for key, value in headers.items()),
    ]
    if rate is not None:
        lines.append(f"function delay() return math.random(0, {round(2000 * connections / rate)}) end")
    path.write_text("\n".join(lines))
    return path


def failures(told: str) -> int:
    """How many requests wrk saw fail."""
    bad = told.partition("Non-2xx or 3xx responses:")[2].split()[:1]
    broken = told.partition("Socket errors:")[2].partition("\n")[0]
    return sum(map(int, bad)) + sum(int(word.rstrip(",")) for word in broken.split()[1::2])


def percentile(told: str, percent: int) -> float:
    """A line of wrk's latency distribution, in milliseconds."""
    found = re.search(rf"^ +{percent}% +(\S+)$", told, re.MULTILINE)
    assert found, told
    return milliseconds(found[1])


def milliseconds(text: str) -> float:
    """wrk's times."""
    for unit, factor in (("us", 0.001), ("ms", 1.0), ("s", 1000.0), ("m", 60_000.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise ValueError(text)


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of a process and all below it."""
    return sum(sum(member.cpu_times()[:2]) for member in (process, *process.children(recursive=True)))
