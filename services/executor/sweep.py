"""Finds what is left to do, from the database and the launcher alone: a restarted executor goes on where the old ended.

A handler's wake-up is only a hint; whatever was begun and not finished is found here.
"""

import asyncio
import contextlib
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from dispatch_common import telemetry
from dispatch_common.clock import monotonic
from dispatch_common.db import AWAY
from dispatch_common.service import Context
from dispatch_common.values import RepositorySpec
from services.executor import facts, lease, store
from services.executor.attempt import Attempt, Terms
from services.executor.gateway.results import Results
from services.executor.launchers import Launched, Launcher, LaunchFailed, LaunchState
from services.executor.reconcile import Do, reconcile
from services.executor.store import Row
from services.executor.worker import Worker

#: How long an accepted attempt waits for the executor that took it before another one may launch it.
_TAKE_OVER: Final = timedelta(seconds=30)
#: How long a supervisor whose attempt is over may take to leave by itself.
_TO_LEAVE: Final = timedelta(seconds=20)
_PICK_POLL: Final = 1.0

_ACCEPTED: Final = """
SELECT id, run_id FROM attempts
WHERE state = 'accepted' AND (executor = $1 OR created_at < clock_timestamp() - $2::interval)
ORDER BY created_at LIMIT $3
"""
_OWN: Final = "SELECT id FROM attempts WHERE executor = $1 AND state IN ('launching', 'running', 'collecting')"
_OVERDUE: Final = """
SELECT id FROM attempts
WHERE state <> 'finished' AND (lease_until < $1 OR (state = 'accepted' AND (request ->> 'deadline')::timestamptz < $1))
ORDER BY created_at LIMIT 200
"""
_HOLD: Final = """
UPDATE attempts SET lease_until = greatest(lease_until, least(clock_timestamp() + $3::interval,
    coalesce((request ->> 'deadline')::timestamptz, 'infinity')))
WHERE id IN (SELECT id FROM attempts WHERE id = ANY($1::uuid[]) AND state = 'launching' AND executor = $2
             ORDER BY run_id, fence FOR UPDATE)
"""
_REPOSITORIES: Final = """
SELECT DISTINCT request -> 'repository' AS repository FROM attempts
WHERE jsonb_typeof(request -> 'repository') = 'object' AND created_at > clock_timestamp() - interval '7 days'
"""
_OPEN: Final = "SELECT id FROM attempts WHERE state <> 'finished'"


class Sweep:
    """The rounds of one executor."""

    def __init__(
        self,
        ctx: Context,
        worker: Worker,
        launcher: Launcher,
        results: Results,
        *,
        executor: str,
        terms: Terms,
        wake: asyncio.Event,
    ) -> None:
        self._ctx = ctx
        self._worker = worker
        self._launcher = launcher
        self._results = results
        self._executor = executor
        self._terms = terms
        self._wake = wake
        self._back_since: datetime | None = None
        self._looked_at = monotonic()

    async def first(self) -> None:
        """Look around as soon as there is a database: supervisors wait for us."""
        while True:
            try:
                return await self.reconcile()
            except AWAY as error:
                telemetry.log.warning("the first look waits for the database", reason=str(error))
                await asyncio.sleep(_PICK_POLL / 4)

    async def pick(self) -> None:
        """Launch accepted attempts, for ever: at once when woken, else every second."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PICK_POLL):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self.pick_once()
            except AWAY as error:
                telemetry.log.warning("attempts wait for the database", reason=str(error))

    async def pick_once(self) -> None:
        """Launch as many accepted attempts as there is room for."""
        room = self._worker.room()
        found = await self._ctx.db.fetch(_ACCEPTED, self._executor, _TAKE_OVER, room) if room else []
        if not found:
            return
        launched: list[UUID] = []
        async with self._ctx.db.transaction() as tx:
            rows = await store.lock_runs(tx, [row["run_id"] for row in found])
            now = await tx.now()
            changed: list[Attempt] = []
            for row in rows:
                if row.attempt.id not in {each["id"] for each in found}:
                    continue
                others = [other.attempt for other in rows if other.attempt.run_id == row.attempt.run_id]
                change = lease.launch(row.attempt, others, executor=self._executor, now=now, terms=self._terms)
                if change.ignored:
                    continue
                changed.append(change.attempt)
                tx.say(*facts.about(change.attempt, change.says, facts.Origin(row.org, now, None, row.traceparent)))
                if change.attempt.is_open:
                    launched.append(change.attempt.id)
            await store.update(tx, changed)
        self._worker.begin([await store.request_of(self._ctx.db, each) for each in launched])

    async def hold(self) -> None:
        """Keep what is being prepared."""
        if self._worker.preparing:
            await self._ctx.db.execute(_HOLD, list(self._worker.preparing), self._executor, self._terms.hold)

    async def reconcile(self) -> None:
        """Compare what the rows say with what lives here, and bring both together."""
        here = {each.attempt_id for each in await self._launcher.adopt()}
        own = {record["id"] for record in await self._ctx.db.fetch(_OWN, self._executor)}
        self._worker.held = own | self._worker.preparing
        for attempt_id in own | here:
            row = await store.read(self._ctx.db, attempt_id)
            if row is None or attempt_id in self._worker.preparing:
                continue  # of another database: it gets no lease from us, so it leaves; or about to be launched
            if row.attempt.is_open and row.attempt.executor != self._executor:
                continue
            try:
                # Looked at after the row was read: what the row forbids cannot have begun in between.
                await self._do(row, await self._launcher.state(attempt_id))
            except LaunchFailed as error:
                telemetry.log.warning("an attempt is looked at again", attempt_id=str(attempt_id), reason=str(error))

    async def _do(self, row: Row, found: Launched) -> None:
        attempt = row.attempt
        if found.state is LaunchState.ALIVE:
            await self._worker.listen(attempt.id)
        match reconcile(attempt, found.state):
            case Do.NOTHING:
                pass
            case Do.START:
                self._worker.begin([await store.request_of(self._ctx.db, attempt.id)])
            case Do.STOP:
                await self._launcher.stop(attempt.id, attempt.stop or "It was asked to stop.")
            case Do.KILL:
                if attempt.is_open or _may_be_killed(row):
                    await self._launcher.kill(attempt.id)
            case Do.COLLECT:
                await self._worker.collect(row)
            case Do.LOST:
                await self._worker.lose(row)
            case Do.REMOVE:
                await self._worker.forget(attempt)

    async def expire(self) -> None:
        """End what nobody can be renewing any more, on this host or on one that is gone."""
        now = await self._now()
        overdue = await self._ctx.db.fetch(_OVERDUE, now)
        back_since = self._back_since or now
        for record in overdue:
            await self._results.end(
                record["id"],
                lambda attempt: lease.expired(attempt, now=now, back_since=back_since, terms=self._terms),
            )

    async def _now(self) -> datetime:
        """Return Postgres's clock; after a gap in these rounds everybody gets a full chance to renew."""
        try:
            now: datetime = await self._ctx.db.fetchval("SELECT clock_timestamp()")
        except AWAY:
            self._back_since = None
            raise
        gap = monotonic() - self._looked_at
        self._looked_at = monotonic()
        if self._back_since is None or gap > self._terms.lease.total_seconds() / 2:
            self._back_since = now
        return now

    async def tidy(self) -> None:
        """Remove prepared checkouts that nobody uses."""
        repositories = [RepositorySpec.model_validate(r["repository"]) for r in await self._ctx.db.fetch(_REPOSITORIES)]
        alive = [record["id"] for record in await self._ctx.db.fetch(_OPEN)]
        await self._worker.sweep_checkouts(repositories, alive)


def _may_be_killed(row: Row) -> bool:
    return row.finished_at is None or row.now > row.finished_at + _TO_LEAVE
