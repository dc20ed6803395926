"""Majlis in JupyterLab: its pages are built into `labextension/`, its server is `majlis_lab.app`."""

from typing import Any

from majlis_lab.app import MajlisLab

__version__ = "0.1.0"
__all__ = ["MajlisLab", "__version__"]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Where JupyterLab finds the browser's side."""
    return [{"src": "labextension", "dest": "majlis-lab"}]


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Where Jupyter Server finds the server's side."""
    return [{"module": "majlis_lab", "app": MajlisLab}]
