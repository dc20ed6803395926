"""Whether what an earlier run left outside is still there; pipeline.yaml names these functions."""

from typing import Any

import majlis
from majlis.data.lake import Lake
from majlis.errors import MajlisError
from majlis.settings import load


def prepared(outputs: dict[str, Any]) -> str | None:
    """Prepare: the training table can still be read at the version that was written."""
    lake = Lake(load().lake.uri)
    return lake.lacks(outputs["table"], outputs["gold_version"], outputs["rows"])


def registered(outputs: dict[str, Any]) -> str | None:
    """First: the version is on record, with the model that the step made."""
    try:
        version = majlis.connect().version(outputs["name"], outputs["version"])
    except MajlisError as error:
        return error.message
    same = version.record["model_uri"] == outputs["model_uri"]
    return None if same else f"{version.model} version {version.version} is another model"
