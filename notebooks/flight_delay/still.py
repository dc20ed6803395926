"""Whether what an earlier run left outside its notebooks is still there.

pipeline.yaml names these functions as `valid_if`. Each gets the outputs of a step and says what is no longer
true, or None. The notebooks themselves never import them.
"""

import os
from pathlib import Path
from typing import Any

from majlis.data.lake import Lake
from majlis.settings import load


def silver(outputs: dict[str, Any]) -> str | None:
    """Ingest: both tables can still be read at the versions that were written."""
    lake = Lake(load().lake.uri)
    return lake.lacks("silver.flights", outputs["silver_version"], outputs["rows"]) or lake.lacks(
        "silver.weather", outputs["weather_version"], 1
    )


def gold(outputs: dict[str, Any]) -> str | None:
    """Features: the training table is there, and the online store has been filled."""
    online = load().features.repo
    if not any(Path(online).rglob("*")):
        return f"there is no feature store in {online}"
    return Lake(load().lake.uri).lacks("gold.flight_delay", outputs["gold_version"], outputs["rows"])


def tracked(outputs: dict[str, Any]) -> str | None:
    """Train: the run is on record, and the model's files are where it logged them."""
    import mlflow
    from mlflow.exceptions import MlflowException

    from majlis.training.tracking import use_tracking

    os.environ.setdefault(
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"
    )  # an answer now; a missing one means: train again
    use_tracking()
    try:
        mlflow.get_run(outputs["run_id"])
        mlflow.models.get_model_info(outputs["model_uri"])
    except MlflowException as error:
        return str(error)
    return None


def released(outputs: dict[str, Any]) -> str | None:
    """Register: the version still has that release."""
    import majlis

    version = majlis.connect().version(outputs["name"], outputs["version"])
    if version.release != outputs["release"]:
        return f"{version.model} version {version.version} is {version.state}, its release {version.release}"
    return None


def reported(outputs: dict[str, Any]) -> str | None:
    """Monitor: the report can be opened."""
    return None if Path(outputs["report"]).is_file() else f"there is no report {outputs['report']}"
