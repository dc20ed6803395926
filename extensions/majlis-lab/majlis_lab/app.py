"""The server extension: what it can be told, and which handler answers where."""

import getpass
import os
import sys
from functools import partial
from pathlib import Path

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import url_path_join
from traitlets import Bool, Float, Integer, List, Unicode, default

from majlis_lab.changes import Changes, EventsHandler
from majlis_lab.control import ControlPlane
from majlis_lab.elsewhere import Elsewhere, Errand, ProfilesHandler, carry_out, told
from majlis_lab.files import Files
from majlis_lab.handlers import (
    ParametersHandler,
    PipelinesHandler,
    ProxyHandler,
    RunActionHandler,
    RunHandler,
    RunsHandler,
)
from majlis_lab.hub import Hub
from majlis_lab.idle import Idle, IdleHandler
from majlis_lab.planner import Planner, lake_versions
from majlis_lab.problems import Missing
from majlis_lab.runs import Runs, run_of
from majlis_lab.schedules import ScheduleHandler, SchedulesHandler
from majlis_lab.trained import Tracking, TrainedHandler

RUN = r"runs/(?P<run_id>[^/]+)"


class MajlisLab(ExtensionApp):
    """Runs pipelines for the user of this notebook server, and leads the browser to the control plane."""

    name = "majlis_lab"
    description = "Majlis: models, runs and reviews in JupyterLab"

    runs_dir = Unicode(
        help="Where runs are kept: <runs_dir>/<pipeline>/<run>/. Default: ~/runs.", config=True
    )
    command = List(Unicode(), help="What runs a pipeline, up to its arguments.", config=True)
    shelves = List(
        Unicode(),
        [".", "notebooks"],
        help="Folders (below the root folder) whose subfolders are offered as pipelines.",
        config=True,
    )
    stop_runs_at_shutdown = Bool(
        False, help="End the runs that are still going when this server shuts down.", config=True
    )
    stop_seconds = Float(
        10.0, help="How long a cancelled run may take to end before it is killed.", config=True
    )
    watch_seconds = Float(1.0, help="How often to look for changes while a page is open.", config=True)
    patience_seconds = Float(
        10.0, help="Until an open page hears that the control plane is silent.", config=True
    )
    heartbeat_seconds = Float(5.0, help="How often a page hears that the server is still there.", config=True)
    control_timeout_seconds = Float(60.0, help="How long the control plane may take to answer.", config=True)
    schedule_seconds = Float(30.0, help="How often to look for schedules that are due.", config=True)
    trained = Integer(30, help="How many of the latest models are offered for registration.", config=True)
    idle_seconds = Float(help="How long the server may be idle until it stops; 0 is for ever.", config=True)
    idle_warning_seconds = Float(help="How long before that its person is warned.", config=True)
    hub_seconds = Float(2.0, help="How often to ask the hub for the servers of runs.", config=True)
    history = Integer(100, help="How many runs the history shows.", config=True)

    @default("runs_dir")
    def _runs_dir(self) -> str:
        return str(Path.home() / "runs")

    @default("idle_seconds")
    def _idle_seconds(self) -> float:
        return float(environ("MAJLIS_WORKBENCH_IDLE_SECONDS") or 0)

    @default("idle_warning_seconds")
    def _idle_warning_seconds(self) -> float:
        return float(environ("MAJLIS_WORKBENCH_IDLE_WARNING_SECONDS") or 0)

    @default("command")
    def _command(self) -> list[str]:
        return [sys.executable, "-m", "majlis.cli"]

    def initialize_settings(self) -> None:
        """Build what the handlers share."""
        assert self.serverapp is not None  # Jupyter sets it before it asks for anything
        root = Path(self.serverapp.root_dir)
        url, token = environ("MAJLIS_URL"), environ("JUPYTERHUB_API_TOKEN")
        self.files = Files(root, self.shelves)
        server, user = environ("JUPYTERHUB_SERVER_NAME"), environ("JUPYTERHUB_USER") or getpass.getuser()
        folder = Path(self.runs_dir).expanduser()
        self.runs = Runs(folder, self.command, root, self.stop_seconds, server=server)
        self.hub = Hub(environ("JUPYTERHUB_API_URL"), token, user, self.control_timeout_seconds)
        profiles = told(environ("MAJLIS_PROFILES"))
        self.elsewhere = Elsewhere(self.runs, self.hub, profiles, self.hub_seconds)
        self.control = ControlPlane(url, token, self.control_timeout_seconds)
        self.planner = Planner(self.runs, self.elsewhere, self.control, self.schedule_seconds, lake_versions)
        self.errand = self._errand(server)
        tracking_url, tracking_token = environ("MLFLOW_TRACKING_URI"), environ("MLFLOW_TRACKING_TOKEN")
        self.tracking = Tracking(tracking_url, tracking_token, self.control_timeout_seconds)
        self.changes = Changes(
            self.runs, self.elsewhere, self.control, self.watch_seconds, self.patience_seconds
        )
        self.idle = Idle(self.serverapp, self.runs, self.idle_seconds, self.idle_warning_seconds)
        self.idle.start()

    def _errand(self, server: str) -> Errand | None:
        """What this server was started for, if it was for one thing: a run, or a schedule that is due."""
        if run_id := run_of(server):
            return Errand(server, partial(carry_out, self.runs, run_id), self.hub, self.serverapp)
        if self.planner.only:
            return Errand(server, self.planner.errand, self.hub, self.serverapp)
        return None

    def initialize_handlers(self) -> None:
        """Lay out the addresses, all below `<base url>majlis/`."""
        runs = {"runs": self.runs, "files": self.files}
        acting = runs | {"elsewhere": self.elsewhere}
        user = environ("JUPYTERHUB_USER") or getpass.getuser()
        trained = {"tracking": self.tracking, "files": self.files, "user": user, "limit": self.trained}
        events = {"changes": self.changes, "heartbeat_seconds": self.heartbeat_seconds}
        for path, handler, arguments in [
            ("runs", RunsHandler, acting | {"history": self.history}),
            (RUN, RunHandler, runs),
            (f"{RUN}/cancel", RunActionHandler, acting | {"action": "cancel"}),
            (f"{RUN}/resume", RunActionHandler, acting | {"action": "resume"}),
            ("schedules", SchedulesHandler, {"planner": self.planner, "files": self.files}),
            (r"schedules/(?P<name>[^/]+)", ScheduleHandler, {"planner": self.planner}),
            ("profiles", ProfilesHandler, {"elsewhere": self.elsewhere}),
            ("pipelines", PipelinesHandler, {"files": self.files}),
            ("notebook/parameters", ParametersHandler, {"files": self.files}),
            ("trained", TrainedHandler, trained),
            ("events", EventsHandler, events),
            ("idle", IdleHandler, {"idle": self.idle}),
            ("api/(.*)", ProxyHandler, {"control": self.control}),
            ("(.*)", Missing, {}),
        ]:
            self.handlers.append((url_path_join("/majlis", path), handler, arguments))

    async def _start_jupyter_server_extension(self, serverapp: ServerApp) -> None:
        """Begin to look for what is due, or to do what this server is for; now there is a loop for it."""
        if self.errand:
            self.errand.begin()
        else:
            self.planner.begin()

    async def stop_extension(self) -> None:
        """Let go; the runs go on unless they were to end with the server, as the one it is there for does."""
        await self.planner.end()
        if self.errand:
            await self.errand.end()
        if self.stop_runs_at_shutdown or self.errand:
            await self.runs.cancel_all()
        await self.hub.close()
        await self.control.close()
        await self.tracking.close()


def environ(name: str) -> str:
    """What the hub told this server; empty where there is no hub."""
    return os.environ.get(name, "")
