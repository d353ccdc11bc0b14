"""The gateway's HTTP: bounds on every body, the door before every word, and errors as sentences."""

import asyncio
import hashlib
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from agent_runner.protocol import Blob, EventsTaken, LeaseAsk, LeaseGranted, ResultReport, StartedReport, StopAsk, Wire
from dispatch_common import telemetry
from dispatch_common.blobs import Blobs
from dispatch_common.db import AWAY, Db
from services.executor import facts, lease, store
from services.executor.attempt import Refusal
from services.executor.gateway.door import Door, Turned, error
from services.executor.gateway.intake import Intake
from services.executor.gateway.renewals import Renewals
from services.executor.gateway.results import Results, digest_of

_SMALL: Final = 1 << 20
_EVENTS: Final = 8 << 20
_BLOB: Final = 512 << 20

Endpoint = Callable[[Request], Awaitable[Response]]
Model = TypeVar("Model", bound=BaseModel)


class Routes:
    """What a supervisor may ask. Each request is checked anew; nothing is remembered between two."""

    def __init__(self, db: Db, blobs: Blobs, door: Door, renewals: Renewals, intake: Intake, results: Results) -> None:
        self._db = db
        self._blobs = blobs
        self._door = door
        self._renewals = renewals
        self._intake = intake
        self._results = results

    def app(self, *more: BaseRoute) -> Starlette:
        """Return the ASGI application; ``more``: routes of other modules behind the same door."""
        table: list[tuple[str, str, Endpoint]] = [
            ("POST", "/v1/lease", self.lease),
            ("POST", "/v1/started", self.started),
            ("POST", "/v1/events", self.events),
            ("PUT", "/v1/blobs/{digest}", self.blob),
            ("POST", "/v1/result", self.result),
        ]
        return Starlette(
            routes=[*(Route(path, guarded(each), methods=[method]) for method, path, each in table), *more]
        )

    async def lease(self, request: Request) -> Response:
        """Prolong the attempt's lease."""
        visitor = await self._door.admit(request)
        await parsed(request, LeaseAsk)
        granted = await self._renewals.renew(visitor.attempt_id, visitor.fence)
        if isinstance(granted, Refusal):
            await self._door.refuse(visitor.attempt_id, granted)
            raise AssertionError("refuse() raises")
        return answer(LeaseGranted(lease_seconds=granted.term.total_seconds(), stop=_stop(granted.stop)))

    async def started(self, request: Request) -> Response:
        """The agent's process is alive."""
        visitor = await self._door.admit(request)
        report = await parsed(request, StartedReport)
        async with self._db.transaction() as tx:
            for row in await store.lock(tx, [visitor.attempt_id]):
                now = await tx.now()
                change = lease.started(row.attempt, visitor.fence, now=now, base_commit=report.base_commit)
                if not change.ignored:
                    await store.update(tx, [change.attempt])
                    await store.note(tx, visitor.attempt_id, isolation=list(report.isolation))
                    tx.say(*facts.about(change.attempt, change.says, facts.Origin(row.org, now, None, row.traceparent)))
        return answer(Wire())

    async def events(self, request: Request) -> Response:
        """Keep some events."""
        visitor = await self._door.admit(request)
        seq = await self._intake.take(visitor, await body(request, _EVENTS))
        return answer(EventsTaken(acked_seq=seq, stop=_stop(visitor.row.attempt.stop)))

    async def blob(self, request: Request) -> Response:
        """Keep a blob under the digest that it really has."""
        visitor = await self._door.admit(request)
        wanted = request.path_params["digest"]
        self._blobs.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=self._blobs.root, prefix=".in-") as file:
            digest, size = hashlib.sha256(), 0
            async for chunk in request.stream():
                size += len(chunk)
                if size > _BLOB:
                    raise Turned(413, "size", f"A blob may have {_BLOB} bytes.")
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
            if digest.hexdigest() != wanted:
                raise Turned(422, "digest", f"The bytes have the digest {digest.hexdigest()}.")
            file.flush()
            await self._results.keep(visitor.attempt_id, Path(file.name), visitor.token)
        return answer(Blob(digest=wanted, size=size))

    async def result(self, request: Request) -> Response:
        """Store how it ended. The same report again gets the same answer."""
        visitor = await self._door.admit(request, finished_too=True)
        report = await parsed(request, ResultReport)
        if visitor.row.attempt.is_open:
            if missing := self._results.missing(visitor.row, report):
                raise Turned(422, "blobs", f"These blobs were not stored before: {', '.join(missing)}.")
            change = await self._results.deliver(visitor.row, report)
            if change.attempt.is_open:
                await self._door.refuse(visitor.attempt_id, Refusal.FENCED)
        row = await store.read(self._db, visitor.attempt_id)
        if row is None or row.launch.get("report") != digest_of(report):
            await self._door.refuse(visitor.attempt_id, Refusal.REVOKED)
        return answer(Wire())


def guarded(endpoint: Endpoint) -> Endpoint:
    """Turn what an endpoint raises into answers that a supervisor understands."""

    async def guard(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Turned as turned:
            return turned.answer
        except ClientDisconnect:
            return error(400, "The request ended too early.")
        except AWAY as away:
            telemetry.log.warning("the gateway cannot store", path=request.url.path, reason=str(away))
            return error(503, "It cannot be stored at present; try again.")

    return guard


async def body(request: Request, most: int) -> bytes:
    """Return the request's body, or raise Turned when it is too large."""
    parts: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise Turned(413, "size", f"The body may have {most} bytes.")
        parts.append(chunk)
    return b"".join(parts)


async def parsed(request: Request, kind: type[Model]) -> Model:
    """Return the request's JSON body as a value, or raise Turned."""
    try:
        return kind.model_validate_json(await body(request, _SMALL) or b"{}")
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise Turned(422, "body", f"{where}: {first['msg']}") from wrong


def answer(value: Wire) -> Response:
    return Response(orjson.dumps(value.model_dump(mode="json")), media_type="application/json")


def _stop(sentence: str | None) -> StopAsk | None:
    return None if sentence is None else StopAsk(sentence=sentence)
