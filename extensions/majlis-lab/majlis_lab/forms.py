"""Parameters as a form: those of a notebook's `parameters` cell, or of a pipeline.

The library reads and checks them; here they only get the shape that the browser draws.
"""

from pathlib import Path
from typing import Any

from majlis.pipelines.definition import read
from majlis.pipelines.notebook import Parameter


def form_of(source: Path) -> dict[str, Any]:
    """The form of a pipeline's folder or of a notebook, and its steps."""
    found = read(source)
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
