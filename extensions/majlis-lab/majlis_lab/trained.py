"""The models that this person logged lately, asked of MLflow's own API with the server's token.

Those that the open notebook logged come first. `majlis.training.tracking` tags its runs with the notebook and
the kernel; a notebook that was renamed is still known by its kernel. MLflow's client takes seconds to import,
a server must start quickly, and a few questions are enough.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
from tornado import web

from majlis.errors import Unavailable
from majlis_lab.control import REMEDY
from majlis_lab.files import Files
from majlis_lab.problems import Handler

# As `majlis.training.tracking` has them, whose import takes MLflow's seconds.
NOTEBOOK, KERNEL = "majlis.notebook", "majlis.kernel"
EXPERIMENTS = 200  # the newest of them are looked through


class Tracking:
    """MLflow, as the owner of this notebook server."""

    def __init__(self, url: str, token: str, timeout_seconds: float) -> None:
        self.url = url.rstrip("/")
        headers = {"authorization": f"Bearer {token}"}
        self.client = httpx.AsyncClient(headers=headers, timeout=timeout_seconds, trust_env=False)

    def __repr__(self) -> str:
        return f"Tracking({self.url!r})"

    async def ask(self, method: str, path: str, **arguments: Any) -> Any:
        """What MLflow answers; Unavailable where it does not."""
        if not self.url.startswith("http"):
            raise Unavailable(
                "no tracking server is known to this notebook server",
                remedy="Open JupyterLab from the hub, or set MLFLOW_TRACKING_URI.",
            )
        try:
            answer = await self.client.request(method, f"{self.url}/api/2.0/mlflow/{path}", **arguments)
        except httpx.HTTPError as error:
            raise Unavailable(f"the tracking server does not answer at {self.url}", remedy=REMEDY) from error
        if answer.status_code != HTTPStatus.OK:
            raise Unavailable(f"the tracking server answered {answer.status_code}", remedy=REMEDY)
        return answer.json()

    async def trained(self, user: str, limit: int, here: Mapping[str, str]) -> list[dict[str, Any]]:
        """The latest models that runs of `user` logged; first those whose run has a tag that is in `here`."""
        wanted = {"max_results": EXPERIMENTS, "order_by": ["last_update_time DESC"]}
        experiments = (await self.ask("POST", "experiments/search", json=wanted)).get("experiments", [])
        names = {one["experiment_id"]: one["name"] for one in experiments}
        if not names:
            return []
        newest = {"field_name": "creation_timestamp", "ascending": False}
        asked = {"experiment_ids": list(names), "max_results": limit, "order_by": [newest]}
        models = (await self.ask("POST", "logged-models/search", json=asked)).get("models", [])
        infos = {model["info"]["model_id"]: model["info"] for model in models}
        for model_id in await self.logged(list(names), limit, here):
            if model_id not in infos:  # others may have logged many since
                infos[model_id] = (await self.ask("GET", f"logged-models/{model_id}"))["model"]["info"]
        found = []
        for info in infos.values():
            run_id = info.get("source_run_id")
            if run_id and info.get("status") == "LOGGED_MODEL_READY":
                run = (await self.ask("GET", "runs/get", params={"run_id": run_id}))["run"]
                tags = named(run["data"].get("tags", []))
                if tags.get("mlflow.user") == user:
                    ours = any(tags.get(tag) == value for tag, value in here.items())
                    found.append(described(info, run, names[info["experiment_id"]]) | {"here": ours})
        return sorted(found, key=lambda one: (not one["here"], -one["logged_at"]))

    async def logged(self, experiments: list[str], limit: int, here: Mapping[str, str]) -> list[str]:
        """The models of the latest runs that have one of the tags."""
        found = []
        for tag, value in here.items():
            wanted = {"filter": f"tags.`{tag}` = {quoted(value)}", "order_by": ["attributes.start_time DESC"]}
            asked = wanted | {"experiment_ids": experiments, "max_results": limit}
            for run in (await self.ask("POST", "runs/search", json=asked)).get("runs", []):
                found += [output["model_id"] for output in run.get("outputs", {}).get("model_outputs", [])]
        return found

    async def close(self) -> None:
        """Let go of the connections."""
        await self.client.aclose()


def described(info: Mapping[str, Any], run: Mapping[str, Any], experiment: str) -> dict[str, Any]:
    """A logged model, with what its run tells of it."""
    inputs = run.get("inputs", {}).get("dataset_inputs", [])
    return {
        "model_uri": f"models:/{info['model_id']}",
        "run_id": run["info"]["run_id"],
        "run_name": run["info"].get("run_name", ""),
        "experiment": experiment,
        "logged_at": int(info["creation_timestamp_ms"]),
        "metrics": named(run["data"].get("metrics", [])),
        "tables": [table for one in inputs if (table := table_of(one["dataset"]))],
    }


def quoted(text: str) -> str:
    """A word of MLflow's filters."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def named(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """MLflow's lists of key and value."""
    return {pair["key"]: pair["value"] for pair in pairs}


def table_of(dataset: Mapping[str, Any]) -> dict[str, Any] | None:
    """The table version that a run read; None for a data set that is no table of the lake."""
    if dataset.get("source_type") != "majlis.lake":
        return None
    source = json.loads(dataset["source"])
    return {"name": source["table"], "version": source["version"]}


class TrainedHandler(Handler):
    """`trained?path=&kernel=`: the models that may be registered, first those of that notebook or kernel."""

    def initialize(self, tracking: Tracking, files: Files, user: str, limit: int) -> None:
        self.tracking, self.files, self.user, self.limit = tracking, files, user, limit

    @web.authenticated
    async def get(self) -> None:
        self.answer(await self.tracking.trained(self.user, self.limit, self.here()))

    def here(self) -> dict[str, str]:
        """The tags of runs that the open notebook began; none where no notebook is open."""
        path, kernel = self.get_query_argument("path", ""), self.get_query_argument("kernel", "")
        place, home = self.files.root / path, Path.home()
        named = (place.relative_to(home) if place.is_relative_to(home) else place).as_posix() if path else ""
        return {tag: value for tag, value in ((NOTEBOOK, named), (KERNEL, kernel)) if value}
