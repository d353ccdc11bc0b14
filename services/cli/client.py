"""Speaks to the console's API. Every answer that is not a success becomes a Failure with its exit code."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

import httpx
from httpx_sse import EventSource

from services.cli.failures import Exit, Failure
from services.cli.place import Place

_TIMEOUT: Final = httpx.Timeout(30.0, connect=5.0)
#: The console sends a heartbeat every 15 seconds; three missing ones mean that nobody is there.
_STREAM_TIMEOUT: Final = httpx.Timeout(50.0, connect=5.0)
_CODES: Final = {
    400: Exit.USAGE,
    401: Exit.REFUSED,
    403: Exit.REFUSED,
    404: Exit.NOT_FOUND,
    409: Exit.REFUSED,
    413: Exit.USAGE,
    422: Exit.USAGE,
    502: Exit.UNREACHABLE,
    503: Exit.UNREACHABLE,
    504: Exit.UNREACHABLE,
}


class Client:
    """One console, as one principal."""

    def __init__(self, place: Place) -> None:
        self.place = place
        headers = {"Authorization": f"Bearer {place.token}", "Accept": "application/json"}
        self._http = httpx.Client(base_url=place.url, headers=headers, timeout=_TIMEOUT, trust_env=False)

    def get(self, path: str, **params: Any) -> Any:
        return self.call("GET", path, params={key: value for key, value in params.items() if value is not None})

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.call("POST", path, json=body, headers=headers)

    def call(self, method: str, path: str, **more: Any) -> Any:
        """Return the decoded answer."""
        with self._translated():
            answer = self._http.request(method, path, **more)
        raise_for(answer)
        return answer.json() if answer.content else None

    @contextmanager
    def events(self, path: str, *, last_id: str | None = None, **params: Any) -> Generator[EventSource]:
        """Open an event stream, after ``last_id`` if there is one."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        with (
            self._translated(),
            self._http.stream("GET", path, params=params, headers=headers, timeout=_STREAM_TIMEOUT) as answer,
        ):
            if not answer.is_success:
                answer.read()
                raise_for(answer)
            yield EventSource(answer)

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except httpx.InvalidURL as error:
            raise Failure(
                Exit.USAGE, f"'{self.place.url}' is not an address: {error}.", "Give it like http://HOST:PORT."
            ) from error
        except httpx.TransportError as error:
            raise Failure(
                Exit.UNREACHABLE,
                f"The console at {self.place.url} does not answer ({error or type(error).__name__}).",
                "Is 'dispatch up' running?",
            ) from error


def raise_for(answer: httpx.Response) -> None:
    """Raise what an unsuccessful answer says."""
    if answer.is_success:
        return
    code = _CODES.get(answer.status_code, Exit.BROKEN)
    try:
        error = answer.json()["error"]
        raise Failure(
            code, error["message"], error["remedy"], error.get("field", ""), error["code"], error.get("problems", [])
        )
    except (ValueError, KeyError, TypeError) as wrong:
        message = f"{answer.url} answered {answer.status_code} and not as a console does."
        raise Failure(code, message, "Check the address.") from wrong
