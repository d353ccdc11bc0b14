"""``POST /v1/tasks``: work asked for directly, by somebody with an API token. Stored like any other delivery."""

import hashlib
import hmac
from typing import Annotated, Any, Final

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from opentelemetry.trace import SpanKind
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from dispatch_common import clock, ids, telemetry
from dispatch_common.db import Db
from dispatch_common.errors import InvalidInput
from dispatch_common.secrets import digest_of
from dispatch_common.settings import Settings
from dispatch_common.values import Priority
from services.webhook_receiver import store
from services.webhook_receiver.admit import RETRY_AFTER, Admission, SpoolFull
from services.webhook_receiver.answer import Refuse, problem
from services.webhook_receiver.arrival import Arrival
from services.webhook_receiver.known import Known, Principal
from services.webhook_receiver.refusals import Refusals
from services.webhook_receiver.verify import Refusal

SOURCE: Final = "api"
PROVIDER: Final = "api"
EVENT: Final = "task.created"
_MAY_START: Final = frozenset({"operator", "admin"})
_LONGEST_KEY: Final = 200


class NewTask(BaseModel):
    """A unit of work. Unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: Annotated[str, Field(min_length=1, max_length=500)]
    body: Annotated[str, Field(max_length=200_000)] = ""
    repository: Annotated[str, Field(max_length=63)] | None = None
    role: Annotated[str, Field(min_length=1, max_length=63)]
    agent: Annotated[str, Field(max_length=63)] | None = None
    priority: Priority = Priority.NONE
    labels: Annotated[tuple[Annotated[str, Field(max_length=100)], ...], Field(max_length=50)] = ()
    project: Annotated[str, Field(max_length=100)] = ""
    idempotency_key: Annotated[str, Field(min_length=1, max_length=_LONGEST_KEY)] | None = None  #: or the header


class Taken(BaseModel):
    """Under which id the task is kept, and whether it was asked for before."""

    delivery: str
    duplicate: bool


class TaskDesk:
    """Judges and stores what comes in."""

    def __init__(self, settings: Settings, db: Db, known: Known, admission: Admission, refusals: Refusals) -> None:
        self._org = settings.org
        self._db = db
        self._known = known
        self._admission = admission
        self._refusals = refusals

    async def take(self, request: Request, task: NewTask) -> Taken:
        principal = await self._principal(request)
        self._check(task)
        key = request.headers.get("idempotency-key", "").strip() or task.idempotency_key or ids.fresh().hex
        if len(key) > _LONGEST_KEY or not key.isprintable():
            raise InvalidInput(
                "it is too long.", field="Idempotency-Key", remedy=f"Use at most {_LONGEST_KEY} letters."
            )
        with telemetry.span("task received", kind=SpanKind.SERVER):
            arrival = self._arrival(principal, task, key)
            stored = await self._admission.admit(arrival)
        if stored.duplicate:
            await self._same(arrival, stored.id)
        return Taken(delivery=str(stored.id), duplicate=stored.duplicate)

    async def _principal(self, request: Request) -> Principal:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        found = self._holder(token)
        if found is None and token and await self._known.look_again():
            found = self._holder(token)
        if found is None:
            what = "The token is not known." if token else "No token was given."
            raise Refuse(Refusal(401, "unauthenticated", what, "Authorization", "Send 'Authorization: Bearer TOKEN'."))
        if found.roles.isdisjoint(_MAY_START):
            raise Refuse(
                Refusal(
                    403,
                    "forbidden",
                    f"'{found.name}' may not start work.",
                    "Authorization",
                    "It takes the role operator.",
                )
            )
        return found

    def _holder(self, token: str) -> Principal | None:
        """Return who holds a token; every digest is compared, in constant time."""
        digest = digest_of(token).encode()
        found: Principal | None = None
        for each in self._known.now.principals:
            if hmac.compare_digest(each.token_digest.encode(), digest):
                found = each
        return found if token else None

    def _check(self, task: NewTask) -> None:
        now = self._known.now
        if task.repository is not None and task.repository not in now.repositories:
            known = ", ".join(sorted(now.repositories)) or "none yet; apply a Repository first"
            raise InvalidInput(
                f"there is no Repository '{task.repository}'.", field="repository", remedy=f"Known: {known}."
            )
        if task.role not in now.catalog.roles:
            known = ", ".join(sorted(now.catalog.roles)) or "none yet; apply an Agent first"
            raise InvalidInput(f"no agent has the role '{task.role}'.", field="role", remedy=f"Roles: {known}.")
        if task.agent is not None:
            named = now.catalog.agents.get(task.agent)
            if named is None or named.role != task.role:
                fitting = sorted(name for name, agent in now.catalog.agents.items() if agent.role == task.role)
                raise InvalidInput(
                    f"'{task.agent}' is no {task.role}.", field="agent", remedy=f"Agents: {', '.join(fitting)}."
                )

    def _arrival(self, principal: Principal, task: NewTask, key: str) -> Arrival:
        # Whose key it is counts: two people may use the same one.
        identity = hashlib.sha256(f"{principal.name}\x1f{key}".encode()).hexdigest()
        body = orjson.dumps(
            {
                "principal": principal.name,
                "key": identity,
                "task": task.model_dump(mode="json", exclude={"idempotency_key"}),
            }
        )
        return Arrival(
            id=ids.fresh(),
            org=self._org,
            source=SOURCE,
            provider=PROVIDER,
            event=EVENT,
            dedupe_key=f"key:{identity}",
            body=body,
            received_at=clock.now(),
            external_id=key,
            object_id=str(ids.derived("api-task", self._org, identity)),
            actor_id=f"principal:{principal.name}",
            traceparent=telemetry.traceparent(),
        )

    async def _same(self, arrival: Arrival, kept: Any) -> None:
        """Refuse a key that was used for other work."""
        try:
            before = await store.body_of(self._db, kept)
        except store.TROUBLE:
            return
        if before is not None and before != arrival.body:
            raise Refuse(
                Refusal(
                    409,
                    "key_reused",
                    f"This key was used for other work (delivery {kept}).",
                    "Idempotency-Key",
                    "Use a new key for new work, the same key only to repeat a request.",
                )
            )

    def note(self, request: Request, refusal: Refusal) -> None:
        remote = request.client.host if request.client else ""
        self._refusals.note(source=SOURCE, code=refusal.code, sentence=refusal.sentence, remote=remote)


def application(desk: TaskDesk) -> FastAPI:
    """Return the API's application."""
    app = FastAPI(title="Agent Dispatch: receiver", version="1", docs_url=None, redoc_url=None)

    @app.post("/v1/tasks", status_code=202)
    async def take(request: Request, task: NewTask) -> Taken:  # pyright: ignore[reportUnusedFunction]
        return await desk.take(request, task)

    async def refused(request: Request, error: Exception) -> JSONResponse:
        refusal = as_refusal(error)
        desk.note(request, refusal)
        headers = {"Retry-After": str(int(RETRY_AFTER.total_seconds()))} if refusal.status == 503 else {}
        return JSONResponse(problem(refusal), status_code=refusal.status, headers=headers)

    for kind in (Refuse, InvalidInput, RequestValidationError, HTTPException, SpoolFull):
        app.add_exception_handler(kind, refused)
    return app


def as_refusal(error: Exception) -> Refusal:
    """Return the answer that an error means."""
    match error:
        case Refuse(refusal=refusal):
            return refusal
        case InvalidInput(message=message, field=field, remedy=remedy):
            return Refusal(422, "invalid", message, field, remedy)
        case RequestValidationError():
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"] if part != "body")
            return Refusal(422, "invalid", f"{first['msg']}.", place or "body", "See /openapi.json for the fields.")
        case SpoolFull():
            return Refusal(503, "spool_full", "There is no room to keep this now.", remedy="Send it again later.")
        case HTTPException(status_code=status, detail=detail):
            return Refusal(status, "http", str(detail), remedy="Use POST /v1/tasks or POST /webhooks/plane/SOURCE.")
        case _:
            raise error
