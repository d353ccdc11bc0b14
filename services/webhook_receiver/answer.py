"""How the receiver answers: one JSON shape for every refusal, and reading a body no further than its bound."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson
from starlette.types import Receive, Scope, Send

from services.webhook_receiver.verify import TOO_LARGE, Refusal

_JSON: Final = (b"content-type", b"application/json")


class Disconnected(Exception):
    """The sender went away before the body was whole."""


class Refuse(Exception):
    """The request is answered with this refusal."""

    def __init__(self, refusal: Refusal, *, size: int = 0) -> None:
        super().__init__(refusal.sentence)
        self.refusal = refusal
        self.size = size


def problem(refusal: Refusal) -> dict[str, Any]:
    """Return the body of an error answer."""
    return {
        "error": {
            "code": refusal.code,
            "message": refusal.sentence,
            "field": refusal.field,
            "remedy": refusal.remedy,
        }
    }


async def send_json(
    send: Send, status: int, body: Mapping[str, Any], headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    raw = orjson.dumps(body)
    head = [_JSON, (b"content-length", str(len(raw)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": raw})


def header(scope: Scope, name: bytes) -> str | None:
    """Return the last value of a header; a repeated one is not joined, so nobody can hide behind the first."""
    found: str | None = None
    for key, value in scope["headers"]:
        if key == name:
            found = value.decode("latin-1")
    return found


async def read_body(scope: Scope, receive: Receive, most: int) -> bytes:
    """Return the body, or refuse it as soon as it is announced or found to be larger than ``most`` bytes."""
    announced = header(scope, b"content-length")
    if announced is not None and announced.isdigit() and int(announced) > most:
        raise Refuse(TOO_LARGE, size=int(announced))
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        body += message.get("body", b"")
        if len(body) > most:
            raise Refuse(TOO_LARGE, size=len(body))
        if not message.get("more_body", False):
            return bytes(body)
