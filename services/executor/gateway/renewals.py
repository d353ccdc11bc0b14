"""Renews leases: those that are asked for while one transaction is under way share the next one."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from dispatch_common.db import Db
from services.executor import lease, store
from services.executor.attempt import Refusal, Terms

_RENEW: Final = """
UPDATE attempts a SET lease_until = u.lease, last_seq = greatest(a.last_seq, u.seq),
    last_event_at = CASE WHEN u.seq > a.last_seq THEN clock_timestamp() ELSE a.last_event_at END
FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[]) AS u(id, lease, seq)
WHERE a.id = u.id
"""


@dataclass(frozen=True, slots=True)
class Granted:
    """A lease that is stored."""

    term: timedelta
    stop: str | None


@dataclass(slots=True)
class _Ask:
    attempt_id: UUID
    fence: int
    seq: int
    answer: "asyncio.Future[Granted | Refusal]"


class Renewals:
    """A lease is told to its supervisor only after it is stored: otherwise it could expire while it is believed."""

    def __init__(self, db: Db, terms: Terms, *, seq: Callable[[UUID], int]) -> None:
        self._db = db
        self._terms = terms
        self._seq = seq
        self._waiting: list[_Ask] = []
        self._round: asyncio.Task[None] | None = None

    async def renew(self, attempt_id: UUID, fence: int) -> Granted | Refusal:
        """Return the lease as it was stored, or why there is none."""
        ask = _Ask(attempt_id, fence, self._seq(attempt_id), asyncio.get_running_loop().create_future())
        self._waiting.append(ask)
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._rounds(), name="executor/renewals")
        return await ask.answer

    async def _rounds(self) -> None:
        while self._waiting:
            asks, self._waiting = self._waiting, []
            try:
                answers = await self._store(asks)
            except BaseException as error:  # handed on to every request that waits for this round
                for ask in asks:
                    if not ask.answer.done():
                        ask.answer.set_exception(error)
                if not isinstance(error, Exception):
                    raise
            else:
                for ask, answer in zip(asks, answers, strict=True):
                    if not ask.answer.done():
                        ask.answer.set_result(answer)

    async def _store(self, asks: list[_Ask]) -> list[Granted | Refusal]:
        async with self._db.transaction() as tx:
            rows = {row.attempt.id: row.attempt for row in await store.lock(tx, [ask.attempt_id for ask in asks])}
            now = await tx.now()
            answers: list[Granted | Refusal] = []
            for ask in asks:
                attempt = rows.get(ask.attempt_id)
                if attempt is None:
                    answers.append(Refusal.REVOKED)
                    continue
                change, granted = lease.renew(attempt, ask.fence, now=now, terms=self._terms)
                rows[attempt.id] = change.attempt
                answers.append(granted if isinstance(granted, Refusal) else Granted(granted, attempt.stop))
            renewed = {
                ask.attempt_id: ask.seq for ask, got in zip(asks, answers, strict=True) if isinstance(got, Granted)
            }
            ids = list(renewed)
            await tx.conn.execute(_RENEW, ids, [rows[each].lease_until for each in ids], list(renewed.values()))
        return answers
