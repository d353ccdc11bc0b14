"""One exchange with Plane's REST API: the rate limit, the size limit, and every way it can go wrong, named.

Nothing is retried here: the caller has the row that says what is to be done again.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Final, TypeVar, cast

import httpx
import orjson
from pydantic import ValidationError

from dispatch_common import clock
from dispatch_common.errors import Permanent, Transient
from dispatch_common.plane_rate import Pace
from dispatch_common.plane_types import Json

LARGEST_ANSWER: Final = 16 * 1024 * 1024
_MOST_PAGES: Final = 20

T = TypeVar("T")


class PlaneUnavailable(Transient):
    """Plane did not answer as it should. ``in_doubt``: a write may have been done all the same."""

    def __init__(self, message: str, *, in_doubt: bool = False, delay: timedelta = timedelta(seconds=2)) -> None:
        super().__init__(message, delay=delay)
        self.in_doubt = in_doubt


class RateLimited(PlaneUnavailable):
    """Plane's calls per minute are used up; ``delay`` says when the next one may go out. Nothing was done."""


class PlaneRefused(Permanent):
    """Plane understood and said no. ``status`` and ``body`` are its own words."""

    def __init__(self, message: str, *, status: int, body: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class NotFound(PlaneRefused):
    """Plane has no such object, or no longer."""


class Unauthorized(PlaneRefused):
    """The API token is missing, wrong, or its user may not do this."""


class Wire:
    """The connection of one API token."""

    def __init__(self, http: httpx.AsyncClient, pace: Pace) -> None:
        self._http = http
        self._pace = pace

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        return await self.call("GET", path, query=query)

    async def all(self, path: str) -> list[Json]:
        """Return the rows of all pages; a plain list is taken as it is."""
        rows: list[Json] = []
        query = {"per_page": "100"}
        for _ in range(_MOST_PAGES):
            answer = await self.get(path, query)
            if isinstance(answer, list):
                return rows_of(cast("object", answer))
            page = fields_of(answer)
            rows += rows_of(page.get("results"))
            # The next cursor is always set, so it says nothing.
            if not page.get("next_page_results"):
                break
            query = {**query, "cursor": str(page["next_cursor"])}
        return rows

    async def call(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Json | None = None
    ) -> Any:
        wait = self._pace.wait(clock.monotonic())
        if wait > 0:
            raise RateLimited("Plane's calls per minute are used up.", delay=timedelta(seconds=wait))
        self._pace.sent(clock.monotonic())
        content = orjson.dumps(body) if body is not None else None
        headers = {"Content-Type": "application/json"} if content is not None else {}
        try:
            async with self._http.stream(method, path, params=query, content=content, headers=headers) as answer:
                raw = await _bounded(answer)
        except httpx.ConnectError as error:
            raise PlaneUnavailable(f"Plane cannot be reached ({type(error).__name__}).") from error
        except httpx.HTTPError as error:
            raise PlaneUnavailable(
                f"Plane did not answer {method} ({type(error).__name__}).", in_doubt=method != "GET"
            ) from error
        return self._judge(answer, raw, method)

    def _judge(self, answer: httpx.Response, raw: bytes, method: str) -> Any:
        self._pace.answered(_number(answer.headers.get("x-ratelimit-remaining")))
        status = answer.status_code
        if status == 429:
            seconds = float(_number(answer.headers.get("retry-after")) or 5)
            self._pace.refused(clock.monotonic(), seconds)
            raise RateLimited("Plane asked to wait.", delay=timedelta(seconds=seconds))
        if status >= 500:
            raise PlaneUnavailable(f"Plane answered {method} with {status}.", in_doubt=method != "GET")
        body = _json(raw)
        if 200 <= status < 300:
            if raw and body is None:
                raise PlaneUnavailable("Plane's answer is not JSON; is the base URL right?", in_doubt=method != "GET")
            return body
        said = f"Plane answered {method} with {status}: {_said(body)}"
        kind = {401: Unauthorized, 403: Unauthorized, 404: NotFound}.get(status, PlaneRefused)
        raise kind(said, status=status, body=body)


async def _bounded(answer: httpx.Response) -> bytes:
    raw = bytearray()
    async for chunk in answer.aiter_bytes():
        raw += chunk
        if len(raw) > LARGEST_ANSWER:
            raise httpx.DecodingError("answer too large")
    return bytes(raw)


def _json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw) if raw else None
    except ValueError:
        return None


def _said(body: object) -> str:
    """Return Plane's own explanation, wherever this version puts it."""
    fields = fields_of(body)
    for key in ("error", "detail", "error_message"):
        if fields.get(key):
            return str(fields[key])[:300]
    return str(body)[:300] if fields else "(no explanation)"


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def fields_of(value: object) -> Json:
    return cast("Json", value) if isinstance(value, dict) else {}


def rows_of(value: object) -> list[Json]:
    return cast("list[Json]", value) if isinstance(value, list) else []


def one(read: Callable[[Any], T], raw: object) -> T:
    try:
        return read(raw)
    except ValidationError as error:
        raise PlaneUnavailable(f"Plane's answer has an unknown shape: {error.error_count()} fields.") from error


def many(read: Callable[[Any], T], raws: Iterable[Json]) -> tuple[T, ...]:
    return tuple(one(read, raw) for raw in raws)
