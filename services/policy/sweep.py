"""What is overdue: approvals nobody answered, decided ones nothing followed from, those whose run is over. Bounded."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from prometheus_client import Gauge

from dispatch_common import ids
from dispatch_common.backoff import backoff
from dispatch_common.db import Db
from dispatch_common.events import ApprovalDecided
from services.policy import store
from services.policy.approval import expired
from services.policy.handlers import conclude
from services.policy.uptime import Uptime

_WAITING: Final = Gauge("dispatch_approvals_waiting", "Approvals that wait for a person.")
_MOST: Final = 200
_EMISSIONS: Final = 12
_RUN_IS_OVER: Final = """
UPDATE approvals a
SET state = CASE WHEN a.state = 'pending' THEN 'void' ELSE a.state END, next_check = NULL
FROM ended_runs r
WHERE r.id = a.run_id AND (a.state = 'pending' OR a.next_check IS NOT NULL)
"""
_NOBODY_ASKS: Final = """
UPDATE decisions d SET next_check = NULL, question = NULL FROM ended_runs r
WHERE r.id = d.run_id AND d.next_check IS NOT NULL
"""
_UNHEARD: Final = """
SELECT id, decided, emissions FROM approvals WHERE next_check <= clock_timestamp()
ORDER BY next_check LIMIT $1 FOR UPDATE SKIP LOCKED
"""
_SAID: Final = "UPDATE approvals SET emissions = $2, next_check = clock_timestamp() + $3::interval WHERE id = $1"


def sweep(db: Db, uptime: Uptime) -> Callable[[], Awaitable[None]]:
    """Return the sweep over one database."""

    async def once() -> None:
        await close_for_ended_runs(db)
        await expire(db, uptime)
        await say_again(db)
        await count(db)

    return once


async def close_for_ended_runs(db: Db) -> None:
    """Void what waits for a run that has ended; nobody needs to answer it."""
    await db.execute(_RUN_IS_OVER)
    await db.execute(_NOBODY_ASKS)


async def count(db: Db) -> None:
    """Show how many approvals wait for people."""
    _WAITING.set(await db.fetchval("SELECT count(*) FROM approvals WHERE state = 'pending'"))


async def expire(db: Db, uptime: Uptime) -> int:
    """End approvals whose time is over; return how many."""
    async with db.transaction() as tx:
        now = await tx.now()
        since = uptime.beat(now)
        ended = 0
        for org, approval in await store.overdue(tx, _MOST):
            done = expired(approval, now, since)
            if done is not None:
                await conclude(tx, org, done, now)
                ended += 1
        return ended


async def say_again(db: Db) -> int:
    """Say decided approvals again while no later question shows that they were heard; return how many."""
    async with db.transaction() as tx:
        now = await tx.now()
        rows = await tx.conn.fetch(_UNHEARD, _MOST)
        for row in rows:
            emissions = row["emissions"] + 1
            again = ids.derived("approval-decided", row["id"], emissions)
            tx.say(ApprovalDecided.model_validate(row["decided"]).model_copy(update={"id": again, "time": now}))
            pause = backoff(timedelta(seconds=30), emissions) if emissions < _EMISSIONS else None
            await tx.conn.execute(_SAID, row["id"], emissions, pause)
        return len(rows)
