"""The publisher's tables: every statement on publications and effects. The only writer of both."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from dispatch_common.db import Db, Tx
from dispatch_common.events import ResultPublished, ResultVerified
from services.result_publisher import record
from services.result_publisher.protocol import Effect, key
from services.result_publisher.record import Checked, Stored

Name = tuple[UUID, int]

_INSERT: Final = """
INSERT INTO publications (run_id, revision, org, state, request, verified, answer, stop_asked, next_check)
SELECT u.run_id, u.revision, u.org, u.state, u.request, u.verified, u.answer, u.stop_asked,
       CASE WHEN u.state <> 'finished' THEN clock_timestamp() END
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::jsonb[], $6::jsonb[], $7::jsonb[], $8::text[])
     AS u(run_id, revision, org, state, request, verified, answer, stop_asked)
ON CONFLICT DO NOTHING
RETURNING run_id, revision
"""

_READ: Final = """
SELECT p.*, clock_timestamp() AS now FROM publications p
JOIN unnest($1::uuid[], $2::bigint[]) AS u(run_id, revision) USING (run_id, revision)
"""

_STOP: Final = """
UPDATE publications p SET stop_asked = coalesce(p.stop_asked, u.sentence), next_check = clock_timestamp()
FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS u(run_id, revision, sentence)
WHERE p.run_id = u.run_id AND p.revision = u.revision AND p.state <> 'finished'
"""

_STOP_OTHERS: Final = """
UPDATE publications p SET stop_asked = coalesce(p.stop_asked, u.sentence), next_check = clock_timestamp()
FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS u(run_id, below, sentence)
WHERE p.run_id = u.run_id AND p.revision > 0 AND p.revision < u.below AND p.state <> 'finished'
"""

#: A publication waits for the older revisions of its run: at most one of them writes.
_CLAIM: Final = """
UPDATE publications p SET leased_until = clock_timestamp() + $2::interval
FROM (
    SELECT run_id, revision FROM publications d
    WHERE next_check <= clock_timestamp() AND (leased_until IS NULL OR leased_until < clock_timestamp())
      AND NOT EXISTS (
          SELECT 1 FROM publications o
          WHERE o.run_id = d.run_id AND o.revision > 0 AND o.revision < d.revision AND o.state <> 'finished')
    ORDER BY next_check LIMIT $1 FOR UPDATE SKIP LOCKED
) AS due
WHERE p.run_id = due.run_id AND p.revision = due.revision
RETURNING p.run_id, p.revision
"""

_RENEW: Final = """
UPDATE publications SET leased_until = clock_timestamp() + $3::interval WHERE run_id = $1 AND revision = $2
"""

_RELEASE: Final = """
UPDATE publications SET leased_until = NULL,
    next_check = CASE WHEN state = 'finished' THEN NULL
                      WHEN stop_asked IS NOT NULL AND NOT $4 THEN clock_timestamp()
                      ELSE $3 END
WHERE run_id = $1 AND revision = $2
"""

_LOCK: Final = "SELECT state, stop_asked FROM publications WHERE run_id = $1 AND revision = $2 FOR UPDATE"

_EFFECT: Final = """
INSERT INTO effects
    (key, org, run_id, revision, kind, state, target, request, outcome, sentence, tries, next_check, done_at)
VALUES ($1, $2, $3, $4, $5, $6::text, $7, $8, $9, $10, $11, $12, CASE WHEN $6::text = 'done' THEN clock_timestamp() END)
ON CONFLICT (key) DO UPDATE SET
    state = excluded.state, outcome = excluded.outcome, sentence = excluded.sentence,
    tries = excluded.tries, next_check = excluded.next_check, done_at = excluded.done_at
WHERE effects.state IN ('intent', 'unknown')
"""

_VERIFIED: Final = """
UPDATE publications SET state = $3::text, verified = $4,
    next_check = CASE WHEN $3::text = 'finished' THEN NULL ELSE next_check END
WHERE run_id = $1 AND revision = $2 AND state = 'asked'
RETURNING true
"""

_FINISHED: Final = """
UPDATE publications SET state = 'finished', answer = coalesce(answer, $3), next_check = NULL
WHERE run_id = $1 AND revision = $2 AND (state <> 'finished' OR answer IS NULL)
RETURNING true
"""


async def insert(tx: Tx, rows: Sequence[dict[str, Any]]) -> set[Name]:
    """Store new publications and return the names of those that were not there before."""
    names = ("run_id", "revision", "org", "state", "request", "verified", "answer", "stop_asked")
    columns = [[row.get(name) for row in rows] for name in names]
    return {(row["run_id"], row["revision"]) for row in await tx.conn.fetch(_INSERT, *columns)}


async def read(tx: Tx, names: Sequence[Name]) -> list[Any]:
    """Return the rows of these publications."""
    return await tx.conn.fetch(_READ, [name[0] for name in names], [name[1] for name in names])


async def ask_stop(tx: Tx, stops: Sequence[tuple[UUID, int, str]]) -> None:
    """Note that these publications shall stop."""
    await tx.conn.execute(_STOP, *(list(column) for column in zip(*stops, strict=True)))


async def ask_stop_below(tx: Tx, stops: Sequence[tuple[UUID, int, str]]) -> None:
    """Note that every unfinished publication of these runs with a smaller revision shall stop."""
    await tx.conn.execute(_STOP_OTHERS, *(list(column) for column in zip(*stops, strict=True)))


async def claim(db: Db, most: int, lease: timedelta) -> list[Name]:
    """Take publications that are due; nobody else takes them until the lease is over or given back."""
    return [(row["run_id"], row["revision"]) for row in await db.fetch(_CLAIM, most, lease)]


async def renew(db: Db, name: Name, lease: timedelta) -> None:
    """Keep a publication."""
    await db.execute(_RENEW, *name, lease)


async def release(db: Db, name: Name, until: datetime, *, knew_of_stop: bool) -> None:
    """Give a publication back until then; a stop that its worker did not know of is looked at at once."""
    await db.execute(_RELEASE, *name, until, knew_of_stop)


async def load(db: Db, name: Name) -> Stored:
    """Return a publication with its effects and the database's time."""
    async with db.transaction() as tx:
        row = (await read(tx, [name]))[0]
        effects = await tx.conn.fetch("SELECT * FROM effects WHERE run_id = $1 AND revision = $2", *name)
        return record.stored(row, effects, row["now"])


async def now(db: Db) -> datetime:
    """Return the database's time."""
    return await db.fetchval("SELECT clock_timestamp()")


async def put_effect(db: Db, work: Stored, effect: Effect, *, fresh_write: bool = False) -> bool:
    """Record an effect. A first write is not recorded (False) when a stop was asked meanwhile."""
    async with db.transaction() as tx:
        row = await tx.conn.fetchrow(_LOCK, work.run_id, work.revision)
        if row["state"] == "finished" or (fresh_write and row["stop_asked"] is not None):
            return False
        await tx.conn.execute(
            _EFFECT,
            key(work.run_id, work.revision, effect.kind),
            work.org,
            work.run_id,
            work.revision,
            effect.kind.value,
            effect.state.value,
            work.place(effect.kind),
            work.intended(effect.kind),
            record.outcome_of(effect),
            effect.sentence,
            effect.tries,
            effect.not_before,
        )
        return True


async def put_verified(db: Db, work: Stored, fact: ResultVerified | None, checked: Checked, *, state: str) -> None:
    """Record the checks' outcome and say it; once, whoever comes second."""
    said = fact.model_dump(mode="json") if fact else {}
    async with db.transaction() as tx:
        body = {**said, "checked": checked.model_dump(mode="json")}
        if await tx.conn.fetchval(_VERIFIED, work.run_id, work.revision, state, body) and fact:
            tx.say(fact)


async def put_finished(db: Db, work: Stored, fact: ResultPublished | None) -> None:
    """Record the end of a publication and say it; once, whoever comes second."""
    async with db.transaction() as tx:
        body = fact.model_dump(mode="json") if fact else {}
        if await tx.conn.fetchval(_FINISHED, work.run_id, work.revision, body) and fact:
            tx.say(fact)
