"""What less precision buys: size, time and difference of one network as float32, float16 and int8."""

import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper
from rich.console import Console
from rich.table import Table

from majlis.registry.precision import PRECISIONS, reduce
from majlis.training.graph import dense_graph
from majlis.training.network import Mlp

COLUMNS, ROWS, REPEATS = 60, 2000, 2000


def main() -> None:
    """Measure, print the table."""
    torch.manual_seed(2013)
    nodes, weights = dense_graph(Mlp(COLUMNS).eval(), "x")
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, COLUMNS])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        weights,
    )
    rows = np.random.default_rng(7).normal(size=(ROWS, COLUMNS)).astype(np.float32)
    table = Table("precision", "bytes", "µs for 1 row", f"µs a row of {ROWS}", "largest difference")
    full = None
    for precision in PRECISIONS:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(
                helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path
            )
            reduce(path, precision)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            size = path.stat().st_size
        answer = session.run(["probabilities"], {"x": rows})[0]
        full = answer if full is None else full
        single, whole = seconds(session, rows[:1], REPEATS), seconds(session, rows, REPEATS // 100) / ROWS
        table.add_row(
            precision,
            f"{size:,}",
            f"{single * 1e6:.1f}",
            f"{whole * 1e6:.2f}",
            f"{np.abs(answer - full).max():.1e}",
        )
    Console().print(table)


def seconds(session: onnxruntime.InferenceSession, rows: np.ndarray, repeats: int) -> float:
    """CPU seconds of one run."""
    begun = time.process_time()
    for _ in range(repeats):
        session.run(["probabilities"], {"x": rows})
    return (time.process_time() - begun) / repeats


if __name__ == "__main__":
    main()
