"""The receiver's SQL: deliveries as they come, are read, handed over and decided; refusals; memberships."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg
import orjson

from dispatch_common.db import AWAY, Db, Tx
from dispatch_common.events import DeliveryDecided
from dispatch_common.plane_types import Member
from services.webhook_receiver.arrival import Arrival, Stored, distinct

#: What the database may answer while it goes away, comes back, or has no room. Only DATA says that a row is at fault.
TROUBLE: Final = (*AWAY, asyncpg.PostgresError, asyncpg.InternalClientError)
DATA: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError)
#: How long a claim of deliveries holds when the process that made it dies.
LEASE: Final = timedelta(seconds=60)
#: The same for the claim that is made together with the insert.
FIRST_LEASE: Final = timedelta(seconds=10)
#: Decided deliveries are kept so long; a repetition that comes later still is read like any other.
KEPT: Final = timedelta(days=90)
REFUSALS_KEPT: Final = timedelta(days=30)
MOST_REFUSALS: Final = 10_000

_INSERT: Final = """
INSERT INTO deliveries (id, org, source, provider, event, external_id, dedupe_key, object_id, actor_id, headers, body,
                        received_at, state, sentence, run_ids, tries, next_check, traceparent)
SELECT u.id, u.org, u.source, u.provider, u.event, u.external_id, u.dedupe_key, u.object_id, u.actor_id,
       u.headers::jsonb, u.body, u.received_at, 'received', '', '[]'::jsonb, u.tries,
       clock_timestamp() + u.tries * $15::interval, u.traceparent
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::text[], $11::bytea[], $12::timestamptz[], $13::text[], $14::bigint[])
     AS u(id, org, source, provider, event, external_id, dedupe_key, object_id, actor_id, headers, body, received_at,
          traceparent, tries)
ON CONFLICT (org, source, dedupe_key) DO NOTHING
RETURNING id
"""
_KNOWN: Final = """
SELECT d.id, d.org, d.source, d.dedupe_key FROM deliveries d
JOIN unnest($1::text[], $2::text[], $3::text[]) AS u(org, source, dedupe_key) USING (org, source, dedupe_key)
"""
_CLAIM: Final = """
UPDATE deliveries SET next_check = clock_timestamp() + $2::interval, tries = tries + 1
WHERE id IN (SELECT id FROM deliveries WHERE next_check <= clock_timestamp() AND org = $1 AND state = 'received'
             ORDER BY next_check LIMIT $3 FOR UPDATE SKIP LOCKED)
RETURNING id, source, provider, event, object_id, actor_id, body, received_at, tries, traceparent
"""
_TRACKED: Final = """
SELECT EXISTS (SELECT FROM deliveries WHERE org = $1 AND source = $2 AND object_id = $3
               AND (task_id IS NOT NULL OR state = 'handed'
                    OR (state = 'received' AND tries > 0 AND NOT id = ANY($4::uuid[]))))
"""
_DECIDE: Final = """
UPDATE deliveries SET state = 'decided', outcome = $2, sentence = $3, next_check = NULL
WHERE id = ANY($1::uuid[]) AND state <> 'decided'
"""
_HAND: Final = """
UPDATE deliveries SET state = 'handed', sentence = '', next_check = clock_timestamp() + $2::interval
WHERE id = ANY($1::uuid[]) AND state = 'received'
RETURNING id
"""
_LATER: Final = """
UPDATE deliveries SET next_check = clock_timestamp() + $2::interval, sentence = $3, tries = tries - $4
WHERE id = ANY($1::uuid[]) AND state = 'received'
"""
_AGAIN: Final = """
UPDATE deliveries SET state = 'received', next_check = clock_timestamp(), sentence = 'Nobody answered; read again.'
WHERE id IN (SELECT id FROM deliveries WHERE next_check <= clock_timestamp() AND org = $1 AND state = 'handed'
             ORDER BY next_check LIMIT 200 FOR UPDATE SKIP LOCKED)
"""
_DECIDED: Final = """
UPDATE deliveries SET state = 'decided', outcome = u.outcome, sentence = u.sentence, task_id = u.task_id,
       run_ids = u.run_ids::jsonb, next_check = NULL
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[]) AS u(id, outcome, sentence, task_id, run_ids)
WHERE deliveries.id = u.id AND state <> 'decided'
"""
_AUTHOR: Final = """
SELECT actor_id FROM deliveries
WHERE org = $1 AND source = $2 AND object_id = $3 AND event = ANY($4::text[]) AND actor_id <> ''
ORDER BY received_at LIMIT 1
"""
_REFUSE: Final = """
INSERT INTO refused_deliveries (id, org, source, code, sentence, size, digest, remote, received_at)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[],
                     $9::timestamptz[])
"""
_PRUNE: Final = (
    "DELETE FROM deliveries WHERE state = 'decided' AND received_at < clock_timestamp() - $1::interval",
    "DELETE FROM refused_deliveries WHERE received_at < clock_timestamp() - $1::interval",
)
_PRUNE_REFUSALS: Final = """
DELETE FROM refused_deliveries WHERE id IN (
    SELECT id FROM refused_deliveries ORDER BY received_at DESC OFFSET $1)
"""
_REMEMBER: Final = """
INSERT INTO memberships (org, source, actor_id, name, role, fetched_at)
SELECT $1, $2, u.id, u.name, u.role, clock_timestamp()
FROM unnest($3::text[], $4::text[], $5::bigint[]) AS u(id, name, role)
ON CONFLICT (org, source, actor_id) DO UPDATE SET
    name = excluded.name, role = excluded.role, fetched_at = excluded.fetched_at
"""


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that waits to be looked at."""

    id: UUID
    source: str
    provider: str
    event: str
    object_id: str
    actor_id: str
    body: bytes
    received_at: datetime
    tries: int
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that was not taken, in short."""

    id: UUID
    org: str
    source: str
    code: str
    sentence: str
    size: int
    digest: str
    remote: str
    received_at: datetime


async def insert(db: Db, arrivals: list[Arrival], *, taken: Collection[UUID] = ()) -> list[Stored]:
    """Store the arrivals in one statement; each event once, however often it comes.

    Those in ``taken`` are claimed with it by this process, which takes them up at once.
    """
    fresh, first = distinct(arrivals)
    columns = ("id", "org", "source", "provider", "event", "external_id", "dedupe_key", "object_id", "actor_id")
    rows = await db.fetch(
        _INSERT,
        *([getattr(each, name) for each in fresh] for name in columns),
        [orjson.dumps(dict(each.headers)).decode() for each in fresh],
        [each.body for each in fresh],
        [each.received_at for each in fresh],
        [each.traceparent for each in fresh],
        [int(each.id in taken) for each in fresh],
        FIRST_LEASE,
    )
    new = {row["id"] for row in rows}
    known = await _known(db, [each for each in fresh if each.id not in new])
    answers: list[Stored] = []
    for each in arrivals:
        kept = known.get(each.identity, first[each.identity])
        answers.append(Stored(kept, duplicate=kept != each.id))
    return answers


async def _known(db: Db, arrivals: Sequence[Arrival]) -> dict[tuple[str, str, str], UUID]:
    if not arrivals:
        return {}
    rows = await db.fetch(
        _KNOWN,
        [each.org for each in arrivals],
        [each.source for each in arrivals],
        [each.dedupe_key for each in arrivals],
    )
    return {(row["org"], row["source"], row["dedupe_key"]): row["id"] for row in rows}


def due(arrival: Arrival) -> Due:
    """Return an arrival that was claimed with its insert as the worker takes it."""
    return Due(
        id=arrival.id,
        source=arrival.source,
        provider=arrival.provider,
        event=arrival.event,
        object_id=arrival.object_id,
        actor_id=arrival.actor_id,
        body=arrival.body,
        received_at=arrival.received_at,
        tries=1,
        traceparent=arrival.traceparent,
    )


async def body_of(db: Db, delivery_id: UUID) -> bytes | None:
    return await db.fetchval("SELECT body FROM deliveries WHERE id = $1", delivery_id)


async def claim(db: Db, org: str, *, most: int = 200) -> list[Due]:
    """Take deliveries that are due, for as long as the lease holds."""
    rows = await db.fetch(_CLAIM, org, LEASE, most)
    due = [Due(**dict(row)) for row in rows]
    return sorted(due, key=lambda each: each.received_at)


async def tracked(db: Db, org: str, source: str, object_id: str, besides: Iterable[UUID]) -> bool:
    """Tell whether an earlier delivery about the object was taken up, or is in the hands of another process."""
    return await db.fetchval(_TRACKED, org, source, object_id, list(besides))


async def author(db: Db, org: str, source: str, object_id: str, events: Sequence[str]) -> str:
    """Return who created an object, as its own verified delivery said; empty when that never came."""
    return await db.fetchval(_AUTHOR, org, source, object_id, list(events)) or ""


async def decide(db: Db, ids: Sequence[UUID], outcome: str, sentence: str) -> None:
    """Note a decision that needs nobody else."""
    await db.execute(_DECIDE, list(ids), outcome, sentence)


async def hand(tx: Tx, ids: Sequence[UUID], recheck: timedelta) -> set[UUID]:
    """Note that the deliveries are handed over with this transaction; return those that nobody handed over before."""
    return {row["id"] for row in await tx.conn.fetch(_HAND, list(ids), recheck)}


async def later(db: Db, ids: Sequence[UUID], wait: timedelta, sentence: str, *, counted: bool = True) -> None:
    """Look at the deliveries again after ``wait``."""
    await db.execute(_LATER, list(ids), wait, sentence, 0 if counted else 1)


async def again(db: Db, org: str) -> int:
    """Take back what was handed over and never decided."""
    done = await db.execute(_AGAIN, org)
    return int(done.rpartition(" ")[2])


async def decided(tx: Tx, facts: Sequence[DeliveryDecided]) -> None:
    """Store the dispatcher's decisions; the first one about a delivery stands."""
    rows = {delivery: fact for fact in reversed(facts) for delivery in fact.delivery_ids}
    await tx.conn.execute(
        _DECIDED,
        list(rows),
        [fact.outcome.value for fact in rows.values()],
        [fact.sentence for fact in rows.values()],
        [fact.task_id for fact in rows.values()],
        [orjson.dumps([str(run) for run in fact.run_ids]).decode() for fact in rows.values()],
    )


async def refuse(db: Db, refusals: Sequence[Refused]) -> None:
    """Keep what was refused, without bodies."""
    columns = ("id", "org", "source", "code", "sentence", "size", "digest", "remote", "received_at")
    await db.execute(_REFUSE, *([getattr(each, name) for each in refusals] for name in columns))


async def remember(db: Db, org: str, source: str, members: Sequence[Member]) -> None:
    """Keep who has which role at the source, for people who look."""
    known = [each for each in members if each.role is not None]
    ids, names = [each.id for each in known], [each.name for each in known]
    await db.execute(_REMEMBER, org, source, ids, names, [each.role for each in known])


async def prune(db: Db) -> None:
    """Forget what is older than it is kept for."""
    for statement, kept in zip(_PRUNE, (KEPT, REFUSALS_KEPT), strict=True):
        await db.execute(statement, kept)
    await db.execute(_PRUNE_REFUSALS, MOST_REFUSALS)
