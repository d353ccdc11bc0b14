"""The supervisor's side of the run gateway: one request per call, and three answers: done, later, or never again."""

import hashlib
from pathlib import Path
from typing import Final, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from agent_runner.journal import Batch
from agent_runner.launch import GatewayAddress
from agent_runner.protocol import (
    FENCED,
    REVOKED,
    EventsTaken,
    LeaseAsk,
    LeaseGranted,
    ResultReport,
    StartedReport,
    headers,
)

_CONNECT_SECONDS: Final = 5.0
_BLOB_SECONDS: Final = 120.0
_TOO_MANY: Final = 429

Answer = TypeVar("Answer", bound=BaseModel)


class GatewayAway(Exception):
    """The gateway could not be reached or is unwell: try again."""


class NotOurs(Exception):
    """A newer attempt exists, or the token is revoked: kill everything and leave."""


class GatewayRefused(Exception):
    """The gateway understood the request and will never take it."""


class Gateway:
    """Speaks for one attempt."""

    def __init__(self, address: GatewayAddress, fence: int) -> None:
        token = address.token_file.read_text().strip()
        # verify=False: there is no TLS on a unix socket, and loading certificates would take longer than a launch.
        transport = httpx.AsyncHTTPTransport(uds=str(address.socket), verify=False) if address.socket else None
        self._http = httpx.AsyncClient(
            transport=transport, base_url=address.url, headers=dict(headers(token, fence)), trust_env=False
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def lease(self, seq: int, *, within: float) -> LeaseGranted:
        answer = await self._post("/v1/lease", LeaseAsk(seq=seq).model_dump_json().encode(), within=within)
        return _read(LeaseGranted, answer)

    async def started(self, report: StartedReport) -> None:
        await self._post("/v1/started", report.model_dump_json().encode(), within=10)

    async def events(self, batch: Batch) -> EventsTaken:
        answer = await self._post("/v1/events", batch.body, within=30, kind="application/x-ndjson")
        return _read(EventsTaken, answer)

    async def blob(self, path: Path) -> None:
        """Store a file; its digest is taken from the very bytes that are sent."""
        raw = path.read_bytes()
        digest = hashlib.sha256(raw).hexdigest()
        await self._send("PUT", f"/v1/blobs/{digest}", raw, within=_BLOB_SECONDS, kind="application/octet-stream")

    async def result(self, report: ResultReport) -> None:
        await self._post("/v1/result", report.model_dump_json().encode(), within=30)

    async def _post(self, path: str, body: bytes, *, within: float, kind: str = "application/json") -> bytes:
        return await self._send("POST", path, body, within=within, kind=kind)

    async def _send(self, method: str, path: str, body: bytes, *, within: float, kind: str) -> bytes:
        timeout = httpx.Timeout(within, connect=min(within, _CONNECT_SECONDS))
        try:
            answer = await self._http.request(
                method, path, content=body, headers={"content-type": kind}, timeout=timeout
            )
        except httpx.HTTPError as error:
            raise GatewayAway(f"{path}: {error or type(error).__name__}") from error
        if answer.status_code == FENCED or answer.status_code in REVOKED:
            raise NotOurs(_sentence(answer))
        if answer.status_code == _TOO_MANY or answer.is_server_error:
            raise GatewayAway(f"{path}: {answer.status_code} {_sentence(answer)}")
        if not answer.is_success:
            raise GatewayRefused(f"{path}: {answer.status_code} {_sentence(answer)}")
        return answer.content


def _read(kind: type[Answer], raw: bytes) -> Answer:
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        raise GatewayAway(f"an answer that is none: {raw[:200]!r}") from error


def _sentence(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:500]
