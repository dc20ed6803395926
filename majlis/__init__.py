"""Majlis: from raw data to a governed, served, monitored model without leaving the notebook."""

__version__ = "0.1.0"
