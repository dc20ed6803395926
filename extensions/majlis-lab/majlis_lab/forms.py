"""Parameters as a form: those of a notebook's `parameters` cell, or of a pipeline.

The library reads and checks them; here they only get the shape that the browser draws.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from majlis.errors import Invalid
from majlis.pipelines import definition
from majlis.pipelines.notebook import Parameter, declared, resolve


def notebook_parameters(path: Path) -> dict[str, Parameter]:
    """What the notebook declares; Invalid where it cannot be read."""
    try:
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    except (ValueError, AttributeError, KeyError) as error:
        raise Invalid(
            f"{path.name} cannot be read as a notebook", remedy="Open it, mend it, save it."
        ) from error
    return declared(notebook)


def pipeline_parameters(folder: Path) -> dict[str, Parameter]:
    """What the pipeline declares."""
    return {parameter.name: parameter.declaration() for parameter in definition.read(folder).parameters}


def parameters_of(source: Path) -> dict[str, Parameter]:
    """The parameters of a pipeline's folder or of a notebook."""
    return pipeline_parameters(source) if source.is_dir() else notebook_parameters(source)


def check(source: Path, given: Mapping[str, Any]) -> None:
    """Refuse a value that the run would refuse, before a process is started for it."""
    resolve(parameters_of(source), given, source.name)


def notebook_form(path: Path) -> dict[str, Any]:
    """The form of one notebook."""
    return {
        "name": path.stem,
        "fields": [field(parameter) for parameter in notebook_parameters(path).values()],
    }


def pipeline_form(folder: Path) -> dict[str, Any]:
    """The form of a pipeline, and its steps."""
    found = definition.read(folder)
    return {
        "name": found.name,
        "title": found.title or found.name,
        "description": found.description,
        "steps": [{"name": step.name, "notebook": step.notebook} for step in found.steps],
        "fields": [field(parameter.declaration()) for parameter in found.parameters],
    }


def field(parameter: Parameter) -> dict[str, Any]:
    """One field of a form."""
    kinds = [kind for kind in parameter.allowed if kind != "None"]
    return {
        "name": parameter.name,
        "type": kinds[0] if len(kinds) == 1 else "any",
        "optional": not parameter.allowed or "None" in parameter.allowed,
        "default": parameter.default,
        "help": parameter.help,
    }
