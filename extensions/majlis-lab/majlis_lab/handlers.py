"""What the panel asks for, under `<base url>majlis/`: runs, parameters, and the way to the control plane."""

import asyncio
import json
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tornado import web

from majlis.errors import Invalid, MajlisError, Unavailable
from majlis_lab.control import OUT_OF_ORDER, REMEDY, ControlPlane
from majlis_lab.elsewhere import Elsewhere
from majlis_lab.files import Files
from majlis_lab.forms import form_of
from majlis_lab.problems import PROBLEM, Handler
from majlis_lab.runs import Runs

# A model card may hold anything its author wrote: shown from here it must not act as the user.
SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class RunsHandler(Handler):
    """`runs`: the history, and starting a run."""

    def initialize(self, runs: Runs, files: Files, elsewhere: Elsewhere, history: int) -> None:
        self.runs, self.files, self.elsewhere, self.limit = runs, files, elsewhere, history

    @web.authenticated
    async def get(self) -> None:
        found = await asyncio.to_thread(self.runs.history, self.limit)
        self.answer([shown(run, self.files) for run in found])

    @web.authenticated
    async def post(self) -> None:
        source, parameters, profile = self.asked()
        if profile:
            run_id = await self.elsewhere.start(source, parameters, profile)
        else:
            run_id = await asyncio.to_thread(self.runs.start, source, parameters)
        self.set_header("Location", f"{self.request.path.rstrip('/')}/{run_id}")
        self.answer(shown(self.runs.get(run_id), self.files), HTTPStatus.CREATED)

    def asked(self) -> tuple[Path, Mapping[str, Any], str]:
        """What to run, with which values, and on which profile; empty where it runs here."""
        body = self.body()
        if strangers := sorted(set(body) - {"pipeline", "notebook", "parameters", "profile"}):
            raise Invalid(
                f"a run has no {strangers[0]!r}", remedy="Give pipeline or notebook, parameters, and profile."
            )
        profile = body.get("profile", "")
        if not isinstance(profile, str):
            raise Invalid(f"profile is {profile!r}", remedy="Give a profile's name, or leave it out.")
        parameters = body.get("parameters", {})
        if not isinstance(parameters, dict):
            raise Invalid(f"parameters is {parameters!r}", remedy="Give an object: names and values.")
        match body.get("pipeline"), body.get("notebook"):
            case str(pipeline), None:
                return self.files.pipeline(pipeline), parameters, profile
            case None, str(notebook):
                return self.files.notebook(notebook), parameters, profile
        raise Invalid(
            "a run needs one of pipeline and notebook",
            remedy='Give {"pipeline": "flight_delay"}, or {"notebook": "path/of/a.ipynb"}.',
        )


class RunHandler(Handler):
    """`runs/{id}`: how a run stands, cell by cell."""

    def initialize(self, runs: Runs, files: Files) -> None:
        self.runs, self.files = runs, files

    @web.authenticated
    async def get(self, run_id: str) -> None:
        self.answer(shown(await asyncio.to_thread(self.runs.get, run_id), self.files))


class RunActionHandler(Handler):
    """`runs/{id}/cancel` and `runs/{id}/resume`."""

    def initialize(self, runs: Runs, files: Files, elsewhere: Elsewhere, action: str) -> None:
        self.runs, self.files, self.elsewhere, self.action = runs, files, elsewhere, action

    @web.authenticated
    async def post(self, run_id: str) -> None:
        run = await asyncio.to_thread(self.runs.record, run_id)
        elsewhere = self.runs.elsewhere(run_id)
        if self.action == "cancel" and elsewhere and self.runs.alive(run):
            await self.elsewhere.cancel(run_id)
        elif self.action == "cancel":
            await self.runs.cancel(run_id)
        elif elsewhere and self.runs.noted(run_id).profile:
            await asyncio.to_thread(self.runs.resumable, run_id)
            await self.elsewhere.send(run_id)
        else:
            await asyncio.to_thread(self.runs.resume, run_id)
        self.answer(shown(await asyncio.to_thread(self.runs.get, run_id), self.files))


class PipelinesHandler(Handler):
    """`pipelines`: those in the user's folder, each as a form; one that is faulty says what is wrong."""

    def initialize(self, files: Files) -> None:
        self.files = files

    @web.authenticated
    async def get(self) -> None:
        self.answer(await asyncio.to_thread(self.forms))

    def forms(self) -> list[dict[str, Any]]:
        """Every pipeline's form."""
        return [self.form(folder) for folder in self.files.pipelines()]

    def form(self, folder: Path) -> dict[str, Any]:
        """One pipeline's form, or why it has none."""
        path: dict[str, Any] = {"path": self.files.relative(folder)}
        try:
            return path | form_of(folder)
        except MajlisError as error:
            return path | {"name": folder.name, "problem": {"detail": error.message, "remedy": error.remedy}}


class ParametersHandler(Handler):
    """`notebook/parameters?path=`: the notebook's `parameters` cell as a form."""

    def initialize(self, files: Files) -> None:
        self.files = files

    @web.authenticated
    async def get(self) -> None:
        notebook = self.files.notebook(self.get_query_argument("path", ""))
        form = await asyncio.to_thread(form_of, notebook)
        self.answer({"path": self.files.relative(notebook)} | form)


class ProxyHandler(Handler):
    """`api/…`: the control plane's API, asked with this server's token."""

    def initialize(self, control: ControlPlane) -> None:
        self.control = control

    @web.authenticated
    async def get(self, path: str) -> None:
        await self.forward()

    @web.authenticated
    async def post(self, path: str) -> None:
        await self.forward()

    @web.authenticated
    async def put(self, path: str) -> None:
        await self.forward()

    @web.authenticated
    async def delete(self, path: str) -> None:
        await self.forward()

    async def forward(self) -> None:
        """Ask, and answer the same."""
        path = self.request.path.partition("/majlis/api/")[2]  # still percent-encoded, unlike the argument
        headers = {name.lower(): value for name, value in self.request.headers.items()}
        method = self.request.method or "GET"
        answer = await self.control.ask(method, path, self.request.query, headers, self.request.body or None)
        if answer.status in OUT_OF_ORDER and not answer.headers.get("content-type", "").startswith(PROBLEM):
            raise Unavailable("the control plane is not running", remedy=REMEDY)
        self.set_status(answer.status)
        for name, value in answer.headers.items():
            self.set_header(name, value)
        self.set_header("Content-Security-Policy", SANDBOX)
        self.set_header("X-Content-Type-Options", "nosniff")
        content_type = answer.headers.get("content-type", "application/octet-stream")
        await self.finish(answer.body or None, set_content_type=content_type)


def shown(run: dict[str, Any], files: Files) -> dict[str, Any]:
    """`run` with its files named as the file browser names them."""
    named = {key: files.relative(Path(run[key])) for key in ("folder", "source") if run.get(key)}
    return json.loads(json.dumps(run | named, default=str))  # type: ignore[no-any-return]
