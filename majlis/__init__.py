"""Majlis: from raw data to a governed, served, monitored model without leaving the notebook."""

__version__ = "0.1.0"

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from majlis.client import connect

__all__ = ["connect"]


def __getattr__(name: str) -> Any:
    """`majlis.connect`, imported when it is asked for: most of the house does not need the client."""
    if name == "connect":
        from majlis.client import connect

        return connect
    raise AttributeError(f"module 'majlis' has no attribute {name!r}")
