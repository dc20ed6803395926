"""The base of every handler: errors are problems that a person can act on (RFC 9457)."""

import json
from http import HTTPStatus
from typing import Any

from jupyter_server.base.handlers import APIHandler
from tornado import web
from tornado.iostream import StreamClosedError

from majlis.errors import Invalid, MajlisError, NotFound

PROBLEM = "application/problem+json"
LOGIN_REMEDY = "Log in again, and reload the page."


class Handler(APIHandler):
    """A handler whose errors are problems; `web.authenticated` stands on every method of its subclasses."""

    def body(self) -> dict[str, Any]:
        """The request's JSON object; empty where there is no body."""
        try:
            body = json.loads(self.request.body or b"{}")
        except ValueError as error:
            raise Invalid(f"the request's body is not JSON: {error}", remedy="Send a JSON object.") from error
        if not isinstance(body, dict):
            raise Invalid(f"the request's body is a {type(body).__name__}", remedy="Send a JSON object.")
        return body

    def answer(self, value: Any, status: HTTPStatus = HTTPStatus.OK) -> None:
        """Finish with `value` as JSON."""
        self.set_status(status)
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps(value))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        problem = as_problem(error, status_code)
        self.set_status(problem["status"])
        self.finish(json.dumps(problem), set_content_type=PROBLEM)

    def log_exception(self, *exc_info: Any) -> None:
        """Refusals are answers, not events of the server's log; anything else is logged as Jupyter does."""
        error = exc_info[1]
        if isinstance(error, StreamClosedError):
            self.log.debug("the page did not wait for its answer")
        elif isinstance(error, MajlisError) and error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log.debug("refused: %s", error)
        else:
            super().log_exception(*exc_info)


class Missing(Handler):
    """Any path under the extension's own that no handler answers."""

    @web.authenticated
    def get(self, *path: str) -> None:
        raise NotFound(
            f"no such address: {self.request.path}", remedy="Reload the page, it may be an old one."
        )

    post = put = delete = get


def as_problem(error: BaseException | None, status_code: int) -> dict[str, Any]:
    """`error` for the person at the browser: never a stack, never an unexpected error's own words."""
    if isinstance(error, MajlisError):
        return problem(error.status, error.title, error.message, error.remedy)
    status = HTTPStatus(status_code)
    if isinstance(error, web.HTTPError) and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        refused = status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
        remedy = LOGIN_REMEDY if refused else "Reload the page, and try again."
        return problem(status, status.phrase, error.log_message or status.phrase, remedy)
    detail = "The notebook server met an error that it did not expect."
    return problem(status, "Unexpected error", detail, "Try again; the server's log has the cause.")


def problem(status: HTTPStatus, title: str, detail: str, remedy: str) -> dict[str, Any]:
    """The body of a problem+json answer."""
    return {"type": "about:blank", "title": title, "status": int(status), "detail": detail, "remedy": remedy}
