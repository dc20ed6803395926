"""What a prediction over HTTP costs here, and at mlflow, MLServer and KServe's server with the same model.

Run as `make bench-serving`, or `python -m tests.bench.bench_serving [SECONDS]`. The model is one boosted
classifier of 30 columns. Majlis runs with everything on: API keys, signature, a 95/5 split, the prediction
log, metrics, verified releases. The peers run with nothing but the model, each in an environment of its own
below var/bench/.
On a machine with other work, trust the CPU time per request and the ratios, not the rates.
"""

import json
import os
import pickle
import random
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import onnx
import psutil
from rich.console import Console
from rich.table import Table
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import HistGradientBoostingClassifier

from tests.bench.load import load
from tests.service.gateways import ROOT, World, free_port, wait_until

COLUMNS = 30
ROWS = (1, 100)
START_SECONDS = 120.0
TRUSTED = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]  # mlflow wants it said
ENVIRONMENTS = ROOT / "var" / "bench"
TARGETS = "targets: 1 row at most 110 µs of CPU; 15 times the best peer, 400 times mlflow"


class Measured(NamedTuple):
    """One server under load."""

    server: str
    rows: int
    per_second: float
    p99_ms: float
    cpu_us: float  # per request, all its processes
    start_seconds: float


class Server(NamedTuple):
    """How a server is asked."""

    process: "psutil.Process"
    url: str
    headers: dict[str, str]
    body: Callable[[int], Any]  # rows -> JSON
    start_seconds: float


def trained() -> HistGradientBoostingClassifier:
    """The model that everybody serves."""
    generator = np.random.default_rng(0)
    table = generator.normal(size=(20_000, COLUMNS))
    late = table[:, 0] + table[:, 1] * table[:, 2] + generator.normal(size=len(table)) > 0
    return HistGradientBoostingClassifier(max_iter=100).fit(table, late)


def converted(model: HistGradientBoostingClassifier) -> bytes:
    """The model as ONNX, with the probabilities as its only output."""
    shape = [("table", FloatTensorType([None, COLUMNS]))]
    made = convert_sklearn(model, initial_types=shape, options={"zipmap": False})
    for output in [output for output in made.graph.output if "probabilit" not in output.name]:
        made.graph.output.remove(output)
    onnx.checker.check_model(made)
    content: bytes = made.SerializeToString()
    return content


def values(count: int) -> list[float]:
    """Numbers that do not compress."""
    return [random.gauss(0, 1) for _ in range(count)]


def tensor(rows: int) -> dict[str, Any]:
    """A V2 request with one tensor."""
    data = values(rows * COLUMNS)
    return {"inputs": [{"name": "table", "shape": [rows, COLUMNS], "datatype": "FP64", "data": data}]}


def split(rows: int) -> dict[str, Any]:
    """An MLflow request."""
    names = [f"x{i}" for i in range(COLUMNS)]
    return {"dataframe_split": {"columns": names, "data": [values(COLUMNS) for _ in range(rows)]}}


# the servers


@contextmanager
def majlis(model: HistGradientBoostingClassifier, folder: Path) -> Iterator[Server]:
    """This gateway, one process for each of two cores."""
    world = World(folder, workers=2, log_flush_seconds=1)
    columns = [{"name": f"x{i}", "type": "double", "required": True} for i in range(COLUMNS)]
    for name in ("flights-1", "flights-2"):
        world.release(name, converted(model), columns)
    world.deploy(flights_1=0.95, flights_2=0.05)
    begun = time.perf_counter()
    with world.gateway() as process:
        seconds = time.perf_counter() - begun
        wait_until(lambda: len(world.synced()["processes"]) == 2, START_SECONDS)
        conformance(world)
        headers = {"authorization": f"Bearer {world.key}"}
        url = f"{world.url}/v2/models/adder/infer"
        yield Server(psutil.Process(process.pid), url, headers, tensor, seconds)
        print(f"prediction log: {world.status()['log']}")


def conformance(world: World) -> None:
    """Ask through NVIDIA's V2 client, which knows nothing of Majlis."""
    python = environment("triton", "tritonclient[http]", "numpy")
    script = ROOT / "tests" / "bench" / "triton_conformance.py"
    subprocess.run([python, script, f"127.0.0.1:{world.port}", "adder", world.key], check=True)


@contextmanager
def mlflow(model: HistGradientBoostingClassifier, folder: Path) -> Iterator[Server]:
    """`mlflow models serve` of the installed MLflow."""
    import mlflow.sklearn

    mlflow.sklearn.save_model(
        model, folder / "model", pyfunc_predict_fn="predict_proba", skops_trusted_types=TRUSTED
    )
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", folder / "model", "-p", str(port)]
    with started([*command, "--env-manager", "local"], f"http://127.0.0.1:{port}/ping", folder) as (
        process,
        seconds,
    ):
        yield Server(process, f"http://127.0.0.1:{port}/invocations", {}, split, seconds)


@contextmanager
def mlserver(model: HistGradientBoostingClassifier, folder: Path) -> Iterator[Server]:
    """MLServer with its scikit-learn runtime, in one process as it starts by default."""
    python = environment("mlserver", "mlserver", "mlserver-sklearn", "scikit-learn==1.9.1", "uvloop<0.22")
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    port, grpc, metrics = free_port(), free_port(), free_port()
    settings = {
        "http_port": port,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "host": "127.0.0.1",
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    implementation = {"implementation": "mlserver_sklearn.SKLearnModel", "parameters": {"uri": "./model.pkl"}}
    (folder / "model-settings.json").write_text(json.dumps({"name": "flights", **implementation}))

    def body(rows: int) -> dict[str, Any]:
        return tensor(rows) | {"outputs": [{"name": "predict_proba"}]}

    base = f"http://127.0.0.1:{port}/v2/models/flights"
    with started([python.parent / "mlserver", "start", folder], f"{base}/ready", folder) as (
        process,
        seconds,
    ):
        yield Server(process, f"{base}/infer", {}, body, seconds)


KSERVE = """
import pickle, sys
from kserve import InferOutput, InferResponse, Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response

class Flights(Model):
    def __init__(self):
        super().__init__("flights")
        self.model = pickle.load(open(sys.argv.pop(1), "rb"))
        self.ready = True

    def predict(self, payload, headers=None):
        return get_predict_response(payload, self.model.predict_proba(get_predict_input(payload)), self.name)

model = Flights()
ModelServer().start([model])
"""


@contextmanager
def kserve(model: HistGradientBoostingClassifier, folder: Path) -> Iterator[Server]:
    """KServe's Python server."""
    python = environment("kserve", "kserve", "scikit-learn==1.9.1")
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    (folder / "server.py").write_text(textwrap.dedent(KSERVE))
    port, grpc = free_port(), free_port()
    command = [python, "server.py", "model.pkl", "--http_port", str(port), "--grpc_port", str(grpc)]
    base = f"http://127.0.0.1:{port}/v2/models/flights"
    with started([*command, "--enable_grpc", "false"], f"{base}/ready", folder) as (process, seconds):
        yield Server(process, f"{base}/infer", {}, tensor, seconds)


def environment(name: str, *requirements: str) -> Path:
    """The interpreter of a peer's own environment, made when it is not there."""
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", "--clear", folder], check=True)
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", python, *requirements], check=True)
        (folder / "complete").touch()
    return python


@contextmanager
def started(command: list[Any], ready: str, folder: Path) -> Iterator[tuple[psutil.Process, float]]:
    """A peer, from its first answer on, and the seconds until then."""
    begun = time.perf_counter()
    with (folder / "server.log").open("wb") as log:
        child = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env=quiet(), start_new_session=True
        )
    process = psutil.Process(child.pid)

    def answers() -> bool:
        assert child.poll() is None, (folder / "server.log").read_text()[-2000:]
        try:
            return httpx.get(ready, timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(answers, START_SECONDS)
        yield process, time.perf_counter() - begun
    finally:
        family = [process, *process.children(recursive=True)] if process.is_running() else []
        for member in family:
            member.terminate()
        _, alive = psutil.wait_procs(family, timeout=10)
        for member in alive:
            member.kill()


def quiet() -> dict[str, str]:
    """An environment without the caller's settings."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # mlflow starts uvicorn by its name
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "OMP_NUM_THREADS": "1"}


# the measurement


def measure(name: str, server: Server, rows: int, seconds: float, folder: Path) -> Measured:
    """Load a server with as many requests as it answers."""
    headers = server.headers | {"content-type": "application/json"}
    body = json.dumps(server.body(rows)).encode()
    told = load(server.process, server.url, headers, body, folder, seconds)
    assert not told.failed, f"{name}: {told.failed} of {told.requests} requests failed"
    return Measured(name, rows, told.per_second, told.p99_ms, told.cpu_us, server.start_seconds)


def main(seconds: float = 5.0) -> None:
    """Measure everybody, print the table."""
    model, measured = trained(), []
    for start in (majlis, mlflow, mlserver, kserve):
        with tempfile.TemporaryDirectory() as folder, start(model, Path(folder)) as server:
            for rows in ROWS:
                measured.append(measure(start.__name__, server, rows, seconds, Path(folder)))
                print(measured[-1])
    show(measured)


def show(measured: list[Measured]) -> None:
    """The table, and how many times cheaper Majlis is than each peer."""
    table = Table(title="One prediction over HTTP", caption=TARGETS)
    for heading in ("server", "rows", "requests/s", "p99 ms", "CPU µs/request", "CPU ratio", "start s"):
        table.add_column(heading, justify="left" if heading == "server" else "right")
    ours = {m.rows: m.cpu_us for m in measured if m.server == "majlis"}
    for m in measured:
        ratio = f"{m.cpu_us / ours[m.rows]:.1f}"
        cells = (
            f"{m.per_second:,.0f}",
            f"{m.p99_ms:,.1f}",
            f"{m.cpu_us:,.0f}",
            ratio,
            f"{m.start_seconds:.1f}",
        )
        table.add_row(m.server, str(m.rows), *cells)
    Console(width=100).print(table)


def test_serving_beside_its_peers() -> None:
    """What `make bench` runs."""
    main()


if __name__ == "__main__":
    main(*(float(argument) for argument in sys.argv[1:]))
