"""Who may speak: the attempt's own token and the newest fence, compared at every request. Refusals are counted."""

import hmac
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from prometheus_client import Counter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agent_runner.protocol import FENCE_HEADER, FENCED
from dispatch_common import telemetry
from dispatch_common.db import Db
from dispatch_common.secrets import digest_of
from services.executor import lease, store
from services.executor.attempt import Refusal
from services.executor.store import Row

REFUSED: Final = Counter("dispatch_gateway_refusals_total", "Requests that the run gateway refused.", ["reason"])
_STATUS: Final = {Refusal.FENCED: FENCED, Refusal.REVOKED: 401}
_SENTENCE: Final = {
    Refusal.FENCED: "A newer attempt of this run exists.",
    Refusal.REVOKED: "This attempt is over.",
}
_COUNT: Final = """
UPDATE attempts SET launch = jsonb_set(launch, '{refused}', coalesce(launch -> 'refused', '{}'::jsonb)
    || jsonb_build_object($2::text, coalesce((launch -> 'refused' ->> $2)::bigint, 0) + 1))
WHERE id = $1
"""


class Turned(Exception):
    """A request that is not let in, with its answer."""

    def __init__(self, status: int, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.reason = reason

    @property
    def answer(self) -> Response:
        return error(self.status, str(self))


def error(status: int, sentence: str) -> Response:
    """Return an answer that tells what is wrong."""
    return JSONResponse({"error": sentence}, status_code=status)


@dataclass(frozen=True, slots=True)
class Visitor:
    """A supervisor that proved which attempt it speaks for."""

    row: Row
    fence: int
    token: str

    @property
    def attempt_id(self) -> UUID:
        return self.row.attempt.id


class Door:
    """Lets in, or says why not."""

    def __init__(self, db: Db) -> None:
        self._db = db

    async def admit(self, request: Request, *, finished_too: bool = False) -> Visitor:
        """Return who speaks, or raise Turned. ``finished_too``: whoever repeats its result may."""
        visitor = await self.known(request)
        refused = lease.refusal(visitor.row.attempt, visitor.fence, visitor.row.now)
        if refused is Refusal.REVOKED and finished_too:
            return visitor
        if refused is not None:
            await self.refuse(visitor.attempt_id, refused)
        return visitor

    async def known(self, request: Request) -> Visitor:
        """Check the token alone."""
        attempt_id: UUID = request.scope["attempt_id"]
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        row = await store.read(self._db, attempt_id)
        # Compared also when there is nothing to compare with, so that time tells nothing.
        expected = row.token_digest if row is not None else ""
        fits = hmac.compare_digest(digest_of(token.strip()).encode(), expected.encode())
        if row is None or kind.lower() != "bearer" or not expected or not fits:
            await self._count(attempt_id, "token")
            raise Turned(401, "token", "The token is not valid.")
        try:
            fence = int(request.headers.get(FENCE_HEADER, ""))
        except ValueError as wrong:
            raise Turned(400, "fence", f"The header {FENCE_HEADER} must hold the attempt's number.") from wrong
        return Visitor(row, fence, token.strip())

    async def refuse(self, attempt_id: UUID, refused: Refusal) -> None:
        """Record a refusal and raise it."""
        await self._count(attempt_id, refused)
        raise Turned(_STATUS[refused], refused, _SENTENCE[refused])

    async def _count(self, attempt_id: UUID, reason: str) -> None:
        REFUSED.labels(reason).inc()
        telemetry.log.warning("the gateway refused a request", attempt_id=str(attempt_id), reason=reason)
        await self._db.execute(_COUNT, attempt_id, reason)
