"""The runs of pipelines: started as processes of their own, followed through the records they write.

A run belongs to nobody's browser, kernel or connection. Its record is written here, so that a request is
refused or has an id at once; then a process of its own session carries it out, and outlives the server.
"""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel

from majlis import clock
from majlis.errors import Conflict, Invalid, NotFound
from majlis.files import write_whole
from majlis.pipelines import runs as records
from majlis.pipelines.definition import read
from majlis.pipelines.runs import Process, Run, State
from majlis.pipelines.schedule import SERVER

LAUNCHED = ".launched"  # a note and a log for each process; the file browser hides it
ERRAND = "run-"  # how the name of a server begins that is there for one run
FOLLOW_SECONDS = 0.5  # between two looks at a process
GENTLY_FIRST = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)


class Launch(BaseModel):
    """Who carries out a run, or is about to."""

    process: Process | None = None
    profile: str = ""  # of the server that is there for this run; empty: the one that people get
    server: str = ""  # its name; empty: the person's usual one, or with a profile the run's own


class Runs:
    """The runs below one folder."""

    def __init__(
        self,
        folder: Path,  # <folder>/<pipeline>/<run id>/run.json
        command: Sequence[str],  # what runs a pipeline, up to its arguments
        cwd: Path,
        stop_seconds: float = 10.0,  # how long a run may take to end itself before it is ended
        log_bytes: int = 4000,  # how much of its log explains a run that ended before its first step
        server: str = "",  # the name of this server; empty for a person's usual one
    ) -> None:
        self.folder = folder.resolve()
        self.command = tuple(command)
        self.cwd = cwd
        self.stop_seconds = stop_seconds
        self.log_bytes = log_bytes
        self.server = server
        self.servers: set[str] | None = None  # of the person's, alive as the hub last said; None: never asked
        self.away: set[str] | None = None  # runs that others may be carrying out; None: never looked for
        self.children: list[subprocess.Popen[bytes]] = []

    def __repr__(self) -> str:
        return f"Runs({str(self.folder)!r})"

    def mark(self) -> str:
        """Every record's time and size, and the processes alive: it differs when anything moved on."""
        self.reap()
        seen = [str(child.pid) for child in self.children] + sorted(self.servers or ())
        runs = self.folder.glob(f"[!.]*/*/{records.record_name}")
        for record in chain(runs, self.folder.glob(".schedules/*.json")):
            with suppress(FileNotFoundError):
                stat = record.stat()
                seen.append(f"{record} {stat.st_mtime_ns} {stat.st_size}")
        return "\n".join(sorted(seen))

    def history(self, limit: int) -> list[dict[str, Any]]:
        """The newest runs first."""
        self.reap()
        return [self.described(run) for run in islice(records.newest(self.folder), limit)]

    def get(self, run_id: str) -> dict[str, Any]:
        """The run as it stands; NotFound where there is none."""
        self.reap()
        return self.described(self.record(run_id))

    def record(self, run_id: str) -> Run:
        """The run's record."""
        records.check_id(run_id)
        for path in self.folder.glob(f"[!.]*/{run_id}/{records.record_name}"):
            return records.read(path.parent)
        raise NotFound(f"there is no run {run_id}", remedy="Choose a run from the history.")

    def described(self, run: Run) -> dict[str, Any]:
        """The run as the browser gets it; only its process tells whether one that waits is about to start."""
        alive, profile = self.alive(run), self.noted(run.id).profile
        if run.state is State.RUNNING and not alive:
            records.mark_interrupted(run, f"its server, with the profile {profile}, is gone")
        found = run.model_dump(mode="json", exclude={"process"})
        found |= {"folder": str(run.folder), "profile": profile}
        waits = run.state is not State.RUNNING and not run.state.finished
        if waits and alive:
            found |= {"state": State.PENDING, "reason": ""}
        elif run.state is State.PENDING and self.note(run.id).is_file():
            found |= {"state": State.FAILED, "reason": self.log(run.id) or self.wordless(profile)}
        return found

    def wordless(self, profile: str) -> str:
        """Why a run ended before it began, where nothing was said."""
        if profile:
            return f"no server with the profile {profile} came up for it; resume it, or run it here"
        return "its process ended without a word"

    def alive(self, run: Run) -> bool:
        """Whether somebody carries out the run: a process seen from here, or a server that the hub sees."""
        if run.state.finished:
            return False
        note = self.noted(run.id)
        process = run.process if run.state is State.RUNNING else note.process or run.process
        server = self.server_of(run.id)
        if server and (process is None or process.host != socket.gethostname()):
            return self.servers is None or server in self.servers
        return process is not None and process.alive()

    def elsewhere(self, run_id: str) -> bool:
        """Whether another server than this one carries out a run."""
        return self.server_of(run_id) != self.server

    def server_of(self, run_id: str) -> str:
        """The name of the server that carries out a run; empty for a person's usual one."""
        note = self.noted(run_id)
        return note.server or (server_of(run_id) if note.profile else "")

    def any_alive(self) -> bool:
        """Is any run of this server going on?"""
        return any(self.alive(run) and not self.elsewhere(run.id) for run in records.newest(self.folder))

    def any_elsewhere(self) -> bool:
        """Is any run going on, as far as is known, that another server carries out?"""
        if self.away is None:
            self.away = {note.stem for note in self.folder.glob(f"{LAUNCHED}/*.json")}
        self.away = {run_id for run_id in self.away if self.elsewhere(run_id) and self.going(run_id)}
        return bool(self.away)

    def going(self, run_id: str) -> bool:
        """Whether there is such a run, and somebody carries it out."""
        with suppress(NotFound, Invalid):
            return self.alive(self.record(run_id))
        return False

    def process(self, run: Run) -> Process | None:
        """The process that carries out the run: the one it names, or the one that is about to."""
        if run.state is State.RUNNING:
            return run.process
        return self.noted(run.id).process or run.process

    def noted(self, run_id: str) -> Launch:
        """What is noted about who carries out a run."""
        with suppress(FileNotFoundError):
            return Launch.model_validate_json(self.note(run_id).read_text())
        return Launch()

    def note(self, run_id: str) -> Path:
        """Where the process of a run is noted; its log has the same name."""
        return self.folder / LAUNCHED / f"{run_id}.json"

    def log(self, run_id: str) -> str:
        """The last words of the run's process."""
        with suppress(FileNotFoundError), self.note(run_id).with_suffix(".log").open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - self.log_bytes))
            return log.read().decode(errors="replace").strip()
        return ""

    def start(
        self,
        source: Path,  # the pipeline's folder, or a notebook
        parameters: Mapping[str, Any],
    ) -> str:
        """Start a run; its id. Invalid where a parameter is not what the pipeline allows."""
        run_id = self.prepare(source, parameters)
        self.launch(self.record(run_id))
        return run_id

    def prepare(
        self,
        source: Path,
        parameters: Mapping[str, Any],
        profile: str = "",
        run_id: str | None = None,  # a new one when not given
    ) -> str:
        """Write the record of a run that somebody will carry out; its id."""
        from majlis.pipelines.pipeline import begin  # it imports papermill, and a server must start quickly

        run = begin(read(source), source, parameters, self.folder, run_id)
        if profile:
            self.send_away(run.id, profile)
        return run.id

    def send_away(self, run_id: str, profile: str) -> None:
        """Leave a run to a server with that profile, which is thought alive until the hub says otherwise."""
        self.write_note(run_id, Launch(profile=profile))
        if self.away is not None:
            self.away.add(run_id)
        if self.servers is not None:
            self.servers.add(server_of(run_id))

    def fail(self, run_id: str, why: str) -> None:
        """Say of a run that never began why it did not."""
        with self.record(run_id).change() as run:
            run.state, run.reason, run.finished_at = State.FAILED, why, clock.now()

    def resume(self, run_id: str) -> None:
        """Carry on with a run that stopped: the steps that are done stay done."""
        self.launch(self.resumable(run_id))

    def resumable(self, run_id: str) -> Run:
        """The run, where it can be resumed."""
        run = self.record(run_id)
        if self.alive(run):
            raise Conflict(f"the run {run_id} is still running", remedy="Wait for it, or cancel it first.")
        if run.state.finished:
            raise Conflict(f"the run {run_id} is done", remedy="Start a new run.")
        return run

    def launch(self, run: Run) -> None:
        """Start the process that carries out a run, and note it."""
        self.note(run.id).parent.mkdir(parents=True, exist_ok=True)
        profile = self.noted(run.id).profile
        arguments = ["run", run.source, "--resume", run.id, "--runs", str(self.folder)]
        with self.note(run.id).with_suffix(".log").open("wb") as log:
            child = subprocess.Popen(
                [*self.command, *arguments],
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # it lives on when the server goes, and ends with all it started
            )
        self.children.append(child)
        self.write_note(run.id, Launch(process=process_of(child.pid), profile=profile, server=self.server))

    def write_note(self, run_id: str, launch: Launch) -> None:
        """Note who carries out a run."""
        self.note(run_id).parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.note(run_id), launch.model_dump_json())

    async def followed(self, run_id: str) -> None:
        """Come back when the process that carries out a run has ended."""
        process = self.noted(run_id).process
        while process is not None and process.alive():
            await asyncio.sleep(FOLLOW_SECONDS)
            self.reap()

    async def cancel(self, run_id: str) -> None:
        """Interrupt the run as Ctrl-C would, and end it when it does not. What it finished stays."""
        run = self.record(run_id)
        process = self.process(run)
        if process is None or not process.alive():
            raise Conflict(f"the run {run_id} is not running", remedy="Nothing is left to cancel.")
        for number in GENTLY_FIRST:
            send(process.pid, number)
            if await self.ended(process):
                return

    async def ended(self, process: Process) -> bool:
        """Whether the process ends within the time it may take."""
        deadline = asyncio.get_running_loop().time() + self.stop_seconds
        while process.alive() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        self.reap()
        return not process.alive()

    async def cancel_all(self) -> None:
        """End every run that this server carries out."""
        found = records.newest(self.folder)
        living = [run.id for run in found if self.alive(run) and not self.elsewhere(run.id)]
        await asyncio.gather(*(self.cancel(run_id) for run_id in living))

    def reap(self) -> None:
        """Let go of the children that ended, so that they leave no zombies."""
        self.children = [child for child in self.children if child.poll() is None]


def server_of(run_id: str) -> str:
    """The name of the server that is there for one run."""
    return f"{ERRAND}{run_id}"


def run_of(server: str) -> str:
    """The run that a server of this name is there for; empty for any other server."""
    run_id = server.removeprefix(ERRAND)
    return run_id if run_id != server and records.run_id.fullmatch(run_id) else ""


def schedule_of(server: str) -> str:
    """The schedule that a server of this name was started for; empty for any other server."""
    return server.removeprefix(SERVER) if server.startswith(SERVER) else ""


def process_of(pid: int) -> Process:
    """The process `pid`, as it can be found again by another server."""
    return Process.current().model_copy(update={"pid": pid, "started": psutil.Process(pid).create_time()})


def send(pid: int, number: signal.Signals) -> None:
    """Signal a run; to end it outright, signal all it started where it leads a session of its own."""
    with suppress(ProcessLookupError):
        if number is signal.SIGKILL and os.getsid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
