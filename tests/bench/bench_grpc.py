"""What a request costs over gRPC and over HTTP: a bare ModelInfer beside the whole gateway, on one model."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.bench.bench_serving import COLUMNS, ROOT, converted, environment, trained
from tests.service.gateways import World

CONNECTIONS, SECONDS = 16, 5.0
PEER = ROOT / "tests" / "bench" / "grpc_peer.py"


def cpu_seconds(process: psutil.Process) -> float:
    """CPU time of a process and all below it."""
    return sum(sum(member.cpu_times()[:2]) for member in (process, *process.children(recursive=True)))


def over_grpc(model: Path) -> float:
    """CPU µs of the server for one request."""
    python = environment("grpc", "tritonclient[grpc]", "onnxruntime", "numpy")
    server = subprocess.Popen([python, PEER, "serve", model], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        command = [python, PEER, "load", port, str(COLUMNS), str(CONNECTIONS)]
        subprocess.run([*command, "1"], check=True, capture_output=True)
        process = psutil.Process(server.pid)
        before = cpu_seconds(process)
        told = subprocess.run([*command, str(SECONDS)], check=True, capture_output=True, text=True).stdout
        return (cpu_seconds(process) - before) / int(told) * 1e6
    finally:
        server.kill()
        server.wait()


def over_http(model: bytes, folder: Path) -> float:
    """The same for the gateway, with key, signature and log; the request is JSON."""
    world = World(folder, log_flush_seconds=1)
    columns = [{"name": f"x{i}", "type": "double", "required": True} for i in range(COLUMNS)]
    world.release("flights-1", model, columns)
    world.deploy(flights_1=1.0)
    with world.gateway() as gateway:
        world.synced()
        process = psutil.Process(gateway.pid)
        asyncio.run(load(world, 1.0))
        before = cpu_seconds(process)
        count = asyncio.run(load(world, SECONDS))
        return (cpu_seconds(process) - before) / count * 1e6


async def load(world: World, seconds: float) -> int:
    """Ask over several connections, one request after the other on each."""
    tensor = {"name": "table", "shape": [1, COLUMNS], "datatype": "FP64", "data": [0.5] * COLUMNS}
    body = json.dumps({"inputs": [tensor]}).encode()
    request = (
        f"POST /v2/models/adder/infer HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {world.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body
    deadline = time.monotonic() + seconds

    async def ask() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        count = 0
        while time.monotonic() < deadline:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
            await reader.readexactly(int(length.partition(b":")[2]))
            count += 1
        writer.close()
        return count

    return sum(await asyncio.gather(*(ask() for _ in range(CONNECTIONS))))


def main() -> int:
    """Measure both, twice, print."""
    model = converted(trained())
    for _ in range(2):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "model.onnx").write_bytes(model)
            grpc, http = over_grpc(folder / "model.onnx"), over_http(model, folder / "home")
            print(f"CPU for one request: gRPC, bare, {grpc:.0f} µs; HTTP, the whole gateway, {http:.0f} µs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
