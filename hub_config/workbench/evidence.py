"""What the demo left behind, gathered in a kernel of the scientist's server, as the scientist.

The supervisor sends this file's text to the kernel, with `run` set to the record of the pipeline's run. It
prints one line of JSON and judges nothing: that is for `hub_config.workbench.verify`, outside of the kernel.
"""

import json
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import polars as pl

import majlis

ROWS = 500


def gather(run: dict[str, Any]) -> dict[str, Any]:
    """Every fact, by the step it belongs to."""
    outputs = {step["name"]: step["outputs"] for step in run["steps"]}
    wb = majlis.connect()
    return {
        "identity": wb.whoami(),
        "ingest": tables(wb, outputs["ingest"]),
        "features": entities(wb, outputs["ingest"], outputs["features"]),
        "train": tracked(outputs["train"]),
        "register": registered(wb, outputs["register"]),
        "deploy": answers(wb, outputs["deploy"], outputs["register"]),
        "monitor": monitored(wb, outputs["deploy"], outputs["monitor"]),
        "audit": wb.api("GET", "/audit/verify"),
    }


def tables(wb: Any, ingested: dict[str, Any]) -> dict[str, Any]:
    """Rows in bronze, silver and quarantine, and how many quarantined rows say why."""
    held = wb.lake.read("silver.flights_quarantine")
    return {
        "bronze": wb.lake.read("bronze.flights").height,
        "silver": wb.lake.read("silver.flights", ingested["silver_version"]).height,
        "quarantined": held.height,
        "with_reasons": held.filter(pl.col("reasons").list.len() > 0).height,
    }


def entities(wb: Any, ingested: dict[str, Any], features: dict[str, Any]) -> dict[str, Any]:
    """Which flights that were asked about came back from the point-in-time join."""
    asked = wb.lake.read("silver.flights", ingested["silver_version"])["flight_id"]
    back = wb.lake.read("gold.flight_delay", features["gold_version"])["flight_id"]
    return {
        "asked": asked.len(),
        "back": back.len(),
        "once": back.n_unique(),
        "missing": asked.len() - asked.is_in(back.implode()).sum(),
    }


def tracked(trained: dict[str, Any]) -> dict[str, Any]:
    """What MLflow knows of the training."""
    run = mlflow.get_run(trained["run_id"])
    beside = mlflow.search_runs([run.info.experiment_id], output_format="list")
    return {
        "status": run.info.status,
        "runs": len(beside),
        "metrics": len(run.data.metrics),
        "parameters": len(run.data.params),
        "signature": mlflow.models.get_model_info(trained["model_uri"]).signature is not None,
    }


def registered(wb: Any, made: dict[str, Any]) -> dict[str, Any]:
    """The version's state and the verdict of every check."""
    version = wb.version(made["name"], made["version"])
    checks = {check["name"]: check["verdict"] for check in version.record["checks"]}
    return {"state": version.state, "tier": made["tier"], "release": version.release, "checks": checks}


def answers(wb: Any, deployed: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """The deployment's answers over HTTP beside the model's own, here."""
    from majlis.training.models import plain_columns

    native = mlflow.pyfunc.load_model(made["model_uri"])
    columns = native.metadata.get_input_schema().input_names()
    gold = wb.lake.read(made["table"], made["table_version"]).filter(pl.col("split") == "test")
    frame = plain_columns(gold.sort("event_timestamp").tail(ROWS).select(columns).to_pandas())
    served = wb.deployment(deployed["deployment"]).predict(frame)
    own = np.asarray(native.predict(frame))
    return {"rows": len(served), "max_difference": float(np.abs(served - own).max())}


def monitored(wb: Any, deployed: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """The prediction log, and the drift report as a file that opens."""
    page = Path(report["report"])
    text = page.read_text(errors="replace") if page.is_file() else ""
    return {
        "logged": wb.deployment(deployed["deployment"]).predictions().height,
        "replayed": report["rows"],
        "report": str(page),
        "report_bytes": len(text),
        "report_is_a_page": "<html" in text.lower(),
    }


if "run" in globals():
    print(json.dumps(gather(globals()["run"])), file=sys.stdout)
