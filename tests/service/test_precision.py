"""Less precision, through the process that converts and compares: kept when it agrees, else refused."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import mlflow.sklearn
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from mlflow.models import infer_signature
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.preprocessing import StandardScaler

from majlis.control.checking import Job, Result, run_apart
from majlis.governance.checks import Limits
from majlis.training.graph import OnnxClassifier, to_onnx
from majlis.training.network import Mlp

pytestmark = pytest.mark.timeout(240)
COLUMNS = [f"x{i}" for i in range(20)]


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Numbers, and a label that follows from two of them."""
    table = pd.DataFrame(np.random.default_rng(3).normal(size=(600, 20)), columns=COLUMNS)
    return table.assign(late=(table.x0 + table.x1 > 0).astype(int))


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that the model's own user can reach, as pytest's are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def network(rows: pd.DataFrame, folder: Path, **metadata: Any) -> None:
    """A network, kept by MLflow as the flight-delay pipeline keeps it."""
    torch.manual_seed(1)
    prepare = ColumnTransformer([("numbers", StandardScaler(), COLUMNS)]).fit(rows[COLUMNS])
    path = folder.parent / "network.onnx"
    onnx.save(to_onnx(prepare, Mlp(20).eval(), [], COLUMNS), path)
    mlflow.pyfunc.save_model(
        str(folder),
        loader_module="majlis.training.graph",
        data_path=str(path),
        signature=infer_signature(rows[COLUMNS], OnnxClassifier(path).predict(rows[COLUMNS])),
        metadata=metadata,
        pip_requirements=[],
    )


def trees(rows: pd.DataFrame, folder: Path, **metadata: Any) -> None:
    """Trees, kept by MLflow."""
    model = HistGradientBoostingClassifier(max_iter=5).fit(rows[COLUMNS], rows.late)
    mlflow.sklearn.save_model(
        model,
        str(folder),
        signature=infer_signature(rows[COLUMNS], model.predict_proba(rows[COLUMNS])),
        pyfunc_predict_fn="predict_proba",
        serialization_format="skops",
        skops_trusted_types=["sklearn._loss.link.Interval", "sklearn._loss.link.LogitLink"]
        + ["sklearn._loss.loss.HalfBinomialLoss", "sklearn._loss._loss.CyHalfBinomialLoss"]
        + ["sklearn.ensemble._hist_gradient_boosting.binning._BinMapper"]
        + ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
        metadata=metadata,
        pip_requirements=[],
    )


def converted(rows: pd.DataFrame, home: Path, **changed: Any) -> dict[str, Any]:
    """What the check process says about the ONNX form of `home/model`."""
    rows.to_parquet(home / "rows.parquet")
    job = Job(
        folder=str(home / "model"),
        rows=str(home / "rows.parquet"),
        target="late",
        checks=("signature",),
        limits=Limits(bootstrap_resamples=10, latency_requests=5),
        onnx=str(home / "onnx" / "model.onnx"),
        **changed,
    )
    result: Result = run_apart(job, timeout_seconds=180)
    assert "onnx" in result.formats, result.checks
    found: dict[str, Any] = result.formats["onnx"]
    return found


@pytest.mark.parametrize(("precision", "share"), [("float16", 0.65), ("int8", 0.5)])
def test_a_network_is_served_in_less(rows: pd.DataFrame, home: Path, precision: str, share: float) -> None:
    """Smaller, and on every row within the tolerance; what it is, how large and how far off is on record."""
    network(rows, home / "model", precision=precision)
    found = converted(rows, home)
    path = home / "onnx" / "model.onnx"
    assert found["kept"] and found["precision"] == precision and 0 < found["difference"] <= 0.02
    assert found["bytes"] == path.stat().st_size < share * (home / "network.onnx").stat().st_size
    assert onnxruntime.InferenceSession(path).get_inputs()[0].type == "tensor(float)"


def test_full_precision_is_held_to_the_strict_tolerance(rows: pd.DataFrame, home: Path) -> None:
    """The wide tolerance is for whoever asked for less precision."""
    network(rows, home / "model")
    found = converted(rows, home, reduced_tolerance=1.0)
    assert found["kept"] and found["precision"] == "float32" and found["difference"] <= 1e-6


def test_what_moves_too_far_is_not_kept(rows: pd.DataFrame, home: Path) -> None:
    """The release then has the registered form only, and says why."""
    network(rows, home / "model", precision="int8")
    found = converted(rows, home, reduced_tolerance=1e-9)
    assert not found["kept"] and "the forms differ by" in found["reason"]
    assert not (home / "onnx").exists()


@pytest.mark.parametrize(
    ("precision", "said"),
    [("int8", "does not apply to trees"), ("int4", "allowed are float32, float16, int8")],
)
def test_trees_and_unknown_precisions_are_refused(
    rows: pd.DataFrame, home: Path, precision: str, said: str
) -> None:
    """With the reason."""
    trees(rows, home / "model", precision=precision)
    found = converted(rows, home)
    assert not found["kept"] and said in found["reason"]
