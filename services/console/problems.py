"""Every error that leaves the console, in one shape: what is wrong, where, what to do. Stack traces go to the log."""

from collections.abc import Callable
from typing import Any, Final

import asyncpg
from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from dispatch_common import telemetry
from dispatch_common.db import AWAY
from dispatch_common.errors import DispatchError, InvalidInput, Transient
from dispatch_common.resources import ResourceErrors


class ProblemAt(BaseModel):
    """One of several mistakes, with its place in what was sent."""

    file: str = ""
    line: int | None = None
    column: int | None = None
    field: str = ""
    message: str
    remedy: str = ""


class ErrorBody(BaseModel):
    """What went wrong. ``code`` is for programs and stays; the sentences are for people and may change."""

    code: str
    message: str
    field: str = ""
    remedy: str = ""
    problems: list[ProblemAt] = Field(default_factory=list[ProblemAt])


class ErrorAnswer(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorBody


class Problem(DispatchError):
    """An expected "no" to a request: its status, its code, and what to do."""

    def __init__(
        self, status: int, code: str, message: str, *, field: str = "", remedy: str = "", retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = ErrorBody(code=code, message=message, field=field, remedy=remedy)
        self.retry_after = retry_after


def not_found(what: str, name: str, remedy: str) -> Problem:
    """Return the 404 for a thing that a request names."""
    return Problem(404, "not_found", f"There is no {what} '{name}'.", field=what, remedy=remedy)


def conflict(message: str, remedy: str = "", *, code: str = "conflict") -> Problem:
    """Return the 409 for something that cannot matter any more, or not now."""
    return Problem(409, code, message, remedy=remedy)


def unavailable(message: str, remedy: str, *, code: str = "unavailable", after: int = 2) -> Problem:
    """Return the 503 for something that may work in a moment."""
    return Problem(503, code, message, remedy=remedy, retry_after=after)


#: For FastAPI's ``responses=``: every route may answer so.
ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    code: {"model": ErrorAnswer, "description": text}
    for code, text in {
        401: "No valid token",
        403: "The token's roles do not allow this",
        404: "Nothing has that name",
        409: "It cannot matter in the present state",
        422: "The input cannot be used",
        503: "A part of the system is away",
    }.items()
}
_HTTP_CODES: Final = {401: "unauthenticated", 403: "forbidden", 404: "not_found", 405: "method_not_allowed"}


def answer(status: int, body: ErrorBody, *, retry_after: int | None = None) -> JSONResponse:
    """Return the response for one error."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="agent-dispatch"'
    return JSONResponse(ErrorAnswer(error=body).model_dump(), status_code=status, headers=headers)


#: Renders an error for people: request, status, what went wrong.
Page = Callable[[Request, int, ErrorBody], Response]


def install(app: FastAPI, page: Page) -> None:
    """Map every exception to its answer: JSON below /v1, else a page."""
    app.state.problem_page = page
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(ResourceErrors, _resources)
    app.add_exception_handler(InvalidInput, _invalid)
    app.add_exception_handler(DispatchError, _named)
    app.add_exception_handler(RequestValidationError, _request)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(asyncpg.DataError, _unstorable)
    for away in AWAY:
        app.add_exception_handler(away, _away)
    app.add_exception_handler(Exception, _unknown)


def _reply(request: Request, status: int, body: ErrorBody, *, retry_after: int | None = None) -> Response:
    if request.url.path.startswith(("/v1/", "/static/")) or request.url.path in ("/healthz", "/readyz", "/metrics"):
        return answer(status, body, retry_after=retry_after)
    return request.app.state.problem_page(request, status, body)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return _reply(request, error.status, error.body, retry_after=error.retry_after)


async def _resources(request: Request, error: Exception) -> Response:
    assert isinstance(error, ResourceErrors)
    count = len(error.problems)
    body = ErrorBody(
        code="invalid_resources",
        message=error.message if count == 1 else f"{count} mistakes; nothing was applied.",
        field=error.field,
        remedy=error.remedy if count == 1 else "Mend them all and apply again.",
        problems=[ProblemAt.model_validate(problem._asdict()) for problem in error.problems],
    )
    return _reply(request, 422, body)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, InvalidInput)
    return _reply(
        request, 422, ErrorBody(code="invalid_input", message=error.message, field=error.field, remedy=error.remedy)
    )


async def _unstorable(request: Request, error: Exception) -> Response:
    telemetry.log.info("a request held what cannot be stored", path=request.url.path, reason=str(error))
    body = ErrorBody(
        code="invalid_input",
        message="The request holds a value that cannot be stored.",
        remedy="Take out control characters such as NUL, and numbers that are too large.",
    )
    return _reply(request, 422, body)


async def _named(request: Request, error: Exception) -> Response:
    assert isinstance(error, DispatchError)
    if isinstance(error, Transient):
        return await _away(request, error)
    telemetry.log.error("a request failed", path=request.url.path, exc_info=error)
    body = ErrorBody(code="refused", message=str(error), remedy="See the console's log for details.")
    return _reply(request, error.status_code, body)


async def _request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [
        ProblemAt(field=_dotted(each["loc"]), message=str(each["msg"]))
        for each in jsonable_encoder(error.errors(), custom_encoder={Exception: str})
    ]
    first = problems[0]
    remedy = "Compare the request with the OpenAPI document at /v1/openapi.json."
    body = ErrorBody(code="invalid_input", message=first.message, field=first.field, remedy=remedy, problems=problems)
    return _reply(request, 422, body)


def _dotted(loc: list[str | int]) -> str:
    return ".".join(str(part) for part in loc if part not in ("body", "query", "path", "header"))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, "refused")
    return _reply(request, error.status_code, ErrorBody(code=code, message=str(error.detail)))


async def _away(request: Request, error: Exception) -> Response:
    telemetry.log.warning("a request met an outage", path=request.url.path, reason=str(error))
    body = ErrorBody(
        code="unavailable",
        message="A part of the system is away.",
        remedy="Try again in a few seconds; 'dispatch doctor' tells which part.",
    )
    return _reply(request, 503, body, retry_after=2)


async def _unknown(request: Request, error: Exception) -> Response:
    telemetry.log.error("a request failed", path=request.url.path, exc_info=error)
    body = ErrorBody(
        code="internal",
        message="The console made a mistake; it is in its log.",
        remedy="Try again; if it happens again, report what the log says at this time.",
    )
    return _reply(request, 500, body)
