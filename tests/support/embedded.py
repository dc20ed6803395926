"""A workbench in this process, a table of flights, and an honest model: what registration is tested with."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from majlis.client import Version, Workbench, connect
from majlis.settings import Settings, load

INPUTS = ["wind", "distance"]
FACTS = {
    "purpose": "Warn planners of flights that will probably be late.",
    "personal_data": False,
    "affected_people": "none",
    "autonomy": "advises",
}


def settings_in(home: Path, **overrides: object) -> Settings:
    """Settings of a workbench in `home`: checks are quick, no clock fails them, and no gateway answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    quick = {"CHECKS_BOOTSTRAP_RESAMPLES": 20, "CHECKS_LATENCY_P99_MS_MAX": 10_000}
    environ = {"WORKBENCH_HOME": home, "GATEWAY_PORT": port} | quick | overrides
    return load(environ={f"MAJLIS_{name}": str(value) for name, value in environ.items()})


@contextmanager
def opened(settings: Settings) -> Iterator[Workbench]:
    """The workbench, with its control plane in this process."""
    with connect(settings, environ={}) as workbench:
        yield workbench


def flights(count: int) -> pd.DataFrame:
    """So many flights, late when the wind is strong."""
    rng = np.random.default_rng(11)
    rows = pd.DataFrame({"wind": rng.normal(10, 4, count), "distance": rng.uniform(100, 2000, count)})
    rows["late"] = (rows.wind + rng.normal(0, 4, count) > 12).astype(int)
    return rows


def fitted(rows: pd.DataFrame) -> LogisticRegression:
    """A model of these flights."""
    return LogisticRegression(max_iter=500).fit(rows[INPUTS], rows.late)


def logged(rows: pd.DataFrame, **options: Any) -> str:
    """An honest model, in the run that is open."""
    model = fitted(rows)
    info = mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(rows[INPUTS], model.predict_proba(rows[INPUTS])),
        input_example=rows[INPUTS].head(2),
        pyfunc_predict_fn="predict_proba",
        pip_requirements=[],
        **({"serialization_format": "skops"} | options),
    )
    return str(info.model_uri)


def submitted(wb: Workbench, model_uri: str, name: str, **given: Any) -> Version:
    """A version whose checks have yet to be made."""
    evaluation = {"table": "gold.flights", "version": 0, "target": "late", "features": INPUTS}
    return wb.register(model_uri, name, evaluation, FACTS, **given)


def registered(wb: Workbench, model_uri: str, name: str, **given: Any) -> Version:
    """A version, when its checks are over."""
    return submitted(wb, model_uri, name, **given).wait(120)
