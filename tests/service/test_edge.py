"""A release on a device: only ONNX Runtime and NumPy can be imported, and it answers as the gateway."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from majlis.errors import Invalid, Tampered
from majlis.registry.formats import by_column, inputs_of
from majlis.registry.release import Expired, Revoked
from majlis.serving.edge import bundle
from majlis.training.models import numbers32
from tests.service.gateways import World

pytestmark = pytest.mark.timeout(180)

INPUTS = [
    {"name": "carrier", "type": "string", "required": True},
    {"name": "distance", "type": "double", "required": False},
    {"name": "hour", "type": "double", "required": False},
]
# What a device has: these packages, and whatever they import. Any other import of ours fails the test.
ALLOWED = {
    "numpy",
    "onnxruntime",
    "flatbuffers",
    "google",
    "packaging",
    "coloredlogs",
    "humanfriendly",
    "sympy",
}
ALLOWED |= {"mpmath", "ml_dtypes"}
ISOLATED = """
import runpy, sys
allowed = {allowed!r} | sys.stdlib_module_names
class Only:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top != "predict":
            raise ModuleNotFoundError(f"{{name}} is not installed on the device")
sys.meta_path.insert(0, Only())
sys.path.append({packages!r})
sys.argv = ["predict.py", *sys.argv[1:]]
runpy.run_path("predict.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Flights, some with a number missing."""
    random = np.random.default_rng(7)
    table = pd.DataFrame(
        {
            "carrier": random.choice(["AA", "UA", "B6"], 400).astype(object),
            "distance": random.uniform(100, 3000, 400),
            "hour": random.uniform(0, 24, 400),
        }
    )
    table.loc[::7, "distance"] = np.nan
    return table


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, frame: pd.DataFrame) -> Iterator[World]:
    """A gateway that serves trees over words and numbers."""
    import skl2onnx

    words = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = ColumnTransformer(
        [("words", words, ["carrier"]), ("numbers", numbers32(), ["distance", "hour"])]
    )
    model = Pipeline([("columns", columns), ("trees", HistGradientBoostingClassifier(max_iter=20))])
    model.fit(frame, (frame.hour > 15) ^ (frame.carrier == "UA"))
    converted = skl2onnx.to_onnx(
        by_column(model, list(frame)), initial_types=inputs_of(INPUTS), options={"zipmap": False}
    )
    world = World(tmp_path_factory.mktemp("edge"))
    world.release("adder-1", converted.SerializeToString(), INPUTS)
    world.deploy(adder_1=1.0)
    with world.gateway():
        yield world


@pytest.fixture(scope="module")
def device(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle, unpacked."""
    folder = tmp_path_factory.mktemp("device")
    with zipfile.ZipFile(io.BytesIO(bundle(world.folder("adder-1"), world.public))) as archive:
        archive.extractall(folder)
    return folder / "adder-1"


def predict(device: Path, rows: Any) -> "subprocess.CompletedProcess[str]":
    """Run `predict.py` on a device without our packages: isolated, with the allowed packages only."""
    packages = str(Path(np.__file__).parents[1])
    program = ISOLATED.format(allowed=ALLOWED, packages=packages)
    command = [sys.executable, "-I", "-S", "-c", program, "-"]
    return subprocess.run(
        command, cwd=device, input=json.dumps(rows), capture_output=True, text=True, timeout=120, env={}
    )


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them."""
    rows: list[dict[str, Any]] = json.loads(frame.to_json(orient="records", double_precision=15))
    return rows


def test_the_device_answers_as_the_gateway(world: World, device: Path, frame: pd.DataFrame) -> None:
    """To 1e-6, for every row, words and missing numbers included."""
    rows = records(frame)
    headers = {"authorization": f"Bearer {world.key}"}
    served = httpx.post(
        f"{world.url}/invocations/adder", json={"dataframe_records": rows}, headers=headers, timeout=30
    ).json()
    alone = predict(device, rows)
    assert alone.returncode == 0, alone.stderr
    told = json.loads(alone.stdout)
    assert told["release"] == "adder-1"
    assert np.abs(np.array(told["predictions"]) - np.array(served["predictions"])).max() <= 1e-6


def test_the_device_has_nothing_of_ours(device: Path) -> None:
    """The test above would not notice an import of Majlis if it were possible there."""
    (device / "probe.py").write_text("import majlis")
    packages = str(Path(np.__file__).parents[1])
    program = ISOLATED.format(allowed=ALLOWED, packages=packages).replace(
        '"predict.py", run', '"probe.py", run'
    )
    command = [sys.executable, "-I", "-S", "-c", program]
    found = subprocess.run(command, cwd=device, capture_output=True, text=True, timeout=60, env={})
    (device / "probe.py").unlink()
    assert found.returncode != 0 and "majlis is not installed on the device" in found.stderr


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"carrier": None, "distance": 1.0, "hour": 2.0}, "column 'carrier': None came, expected a string"),
        (
            {"carrier": "UA", "distance": "far", "hour": 2.0},
            "column 'distance': 'far' came, expected a double",
        ),
        ({"carrier": "UA", "distance": 1, "hour": 2, "wind": 3}, "takes no column wind"),
    ],
)
def test_rows_that_do_not_fit_are_refused(device: Path, row: dict[str, Any], said: str) -> None:
    """With the column's name."""
    found = predict(device, [row])
    assert found.returncode == 1 and said in found.stderr


def test_an_altered_file_is_refused(device: Path) -> None:
    """Whoever changes the model on the device does not get an answer from it."""
    path = device / "model.onnx"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        found = predict(device, [{"carrier": "UA", "distance": 1, "hour": 2}])
    finally:
        path.write_bytes(content)
    assert found.returncode == 1 and "model.onnx is not what was exported" in found.stderr


def test_a_bundle_is_the_same_bytes_each_time(world: World) -> None:
    """So its digest can be compared."""
    folder = world.folder("adder-1")
    assert bundle(folder, world.public) == bundle(folder, world.public)


def test_what_may_not_be_served_is_not_exported(world: World) -> None:
    """Revoked, expired, altered, unsigned, and a model that is code."""
    with pytest.raises(Revoked):
        bundle(world.folder("adder-1"), world.public, ["adder-1"])
    world.release("old-1", seconds=-1)
    with pytest.raises(Expired):
        bundle(world.folder("old-1"), world.public)
    world.release("bent-1")
    (world.folder("bent-1") / "onnx" / "model.onnx").write_bytes(b"another")
    with pytest.raises(Tampered):
        bundle(world.folder("bent-1"), world.public)
    world.release(
        "code-1", native=lambda folder: (folder.mkdir(), (folder / "MLmodel").write_text("flavors: {}\n"))
    )
    with pytest.raises(Invalid, match="holds no code"):
        bundle(world.folder("code-1"), world.public)
