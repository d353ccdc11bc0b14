"""The attempts table: rows in, values out, and back. Only the executor writes it.

``launch`` keeps what the columns do not: base_commit, question, isolation, context and archive (blobs), report (digest
of the result as it was posted), refused (counts by reason).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
from pydantic import TypeAdapter

from dispatch_common.db import Db, Tx
from dispatch_common.events import AttemptRequested, AttemptStopAsked
from services.executor.attempt import Answer, Attempt, OpenQuestion, State

_COLUMNS: Final = """
    a.id, a.org, a.run_id, a.fence, a.state, a.executor, a.answer, a.token_digest, a.launch, a.stop_asked,
    a.lease_until, a.last_seq, a.finished_at, a.request -> 'deadline' AS deadline,
    a.request ->> 'traceparent' AS traceparent, clock_timestamp() AS now,
    (SELECT max(b.fence) FROM attempts b WHERE b.run_id = a.run_id) AS newest
"""
_OF_RUNS: Final = f"SELECT {_COLUMNS} FROM attempts a WHERE a.run_id = ANY($1::uuid[]) ORDER BY a.run_id, a.fence"
_LOCK_RUNS: Final = f"{_OF_RUNS} FOR UPDATE OF a"
_LOCK: Final = f"SELECT {_COLUMNS} FROM attempts a WHERE a.id = ANY($1::uuid[]) ORDER BY a.run_id, a.fence FOR UPDATE"
_READ: Final = f"SELECT {_COLUMNS} FROM attempts a WHERE a.id = $1"
_INSERT: Final = """
INSERT INTO attempts
    (id, org, run_id, fence, state, executor, request, answer, stop_asked, lease_until, launch, started_at, finished_at)
SELECT u.id, u.org, u.run_id, u.fence, u.state, u.executor, u.request, u.answer, u.stop, u.lease, u.launch,
    CASE WHEN u.started THEN clock_timestamp() END,
    CASE WHEN u.state = 'finished' THEN clock_timestamp() END
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::bigint[], $5::text[], $6::text[], $7::jsonb[], $8::jsonb[],
            $9::text[], $10::timestamptz[], $11::jsonb[], $12::boolean[])
    AS u(id, org, run_id, fence, state, executor, request, answer, stop, lease, launch, started)
"""
_UPDATE: Final = """
UPDATE attempts a SET state = u.state, executor = u.executor, answer = u.answer, stop_asked = u.stop,
    lease_until = u.lease, launch = a.launch || u.launch,
    started_at = CASE WHEN u.state = 'running' THEN coalesce(a.started_at, clock_timestamp()) ELSE a.started_at END,
    finished_at = CASE WHEN u.state = 'finished' THEN coalesce(a.finished_at, clock_timestamp()) END
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::text[], $6::timestamptz[], $7::jsonb[])
    AS u(id, state, executor, answer, stop, lease, launch)
WHERE a.id = u.id
"""


@dataclass(frozen=True, slots=True)
class Row:
    """An attempt with what belongs to its row and not to its life."""

    attempt: Attempt
    org: str
    token_digest: str
    launch: dict[str, Any]
    last_seq: int
    traceparent: str | None
    finished_at: datetime | None
    now: datetime  #: when it was read, by Postgres's clock


@dataclass(frozen=True, slots=True)
class New:
    """An attempt that has no row yet, and the fact that brought it."""

    attempt: Attempt
    asked: AttemptRequested | AttemptStopAsked


async def lock_runs(tx: Tx, run_ids: Iterable[UUID]) -> list[Row]:
    """Return and lock all attempts of some runs."""
    return [_row(record) for record in await tx.conn.fetch(_LOCK_RUNS, sorted(set(run_ids)))]


async def lock(tx: Tx, attempt_ids: Iterable[UUID]) -> list[Row]:
    """Return and lock some attempts, those of one run in the order of their fences."""
    return [_row(record) for record in await tx.conn.fetch(_LOCK, sorted(set(attempt_ids)))]


async def of_runs(db: Db | Tx, run_ids: Iterable[UUID]) -> list[Row]:
    """Return all attempts of some runs, without locking."""
    source = db.conn if isinstance(db, Tx) else db
    return [_row(record) for record in await source.fetch(_OF_RUNS, sorted(set(run_ids)))]


async def read(db: Db, attempt_id: UUID) -> Row | None:
    """Return one attempt as it is now."""
    record = await db.fetchrow(_READ, attempt_id)
    return None if record is None else _row(record)


async def request_of(db: Db, attempt_id: UUID) -> AttemptRequested:
    """Return what was asked for; a tombstone has no such request and is never launched."""
    return AttemptRequested.model_validate(await db.fetchval("SELECT request FROM attempts WHERE id = $1", attempt_id))


async def insert(tx: Tx, news: Sequence[New]) -> None:
    """Write new rows, all at once."""
    if not news:
        return
    them = [new.attempt for new in news]
    await tx.conn.execute(
        _INSERT,
        [one.id for one in them],
        [new.asked.org for new in news],
        [one.run_id for one in them],
        [one.fence for one in them],
        [one.state.value for one in them],
        [one.executor for one in them],
        [orjson.Fragment(new.asked.model_dump_json()) for new in news],
        [_answer_out(one) for one in them],
        [one.stop for one in them],
        [one.lease_until for one in them],
        [_launch_out(one) for one in them],
        [new.attempt.answer is not None and isinstance(new.asked, AttemptRequested) for new in news],
    )


async def update(tx: Tx, attempts: Sequence[Attempt]) -> None:
    """Write changed rows, all at once. They were locked in this transaction."""
    if not attempts:
        return
    await tx.conn.execute(
        _UPDATE,
        [one.id for one in attempts],
        [one.state.value for one in attempts],
        [one.executor for one in attempts],
        [_answer_out(one) for one in attempts],
        [one.stop for one in attempts],
        [one.lease_until for one in attempts],
        [_launch_out(one) for one in attempts],
    )


async def mint(tx: Tx, attempt_id: UUID, token_digest: str, launch: Mapping[str, Any]) -> None:
    """Make a token the attempt's own; one that was minted before is not valid any more."""
    await tx.conn.execute(
        "UPDATE attempts SET token_digest = $2, launch = launch || $3 WHERE id = $1", attempt_id, token_digest, launch
    )


async def note(tx: Tx, attempt_id: UUID, **launch: Any) -> None:
    """Add to what is kept of a launch."""
    await tx.conn.execute("UPDATE attempts SET launch = launch || $2 WHERE id = $1", attempt_id, launch)


def _row(record: Any) -> Row:
    launch = record["launch"]
    question = launch.get("question")
    attempt = Attempt(
        id=record["id"],
        run_id=record["run_id"],
        fence=record["fence"],
        state=State(record["state"]),
        executor=record["executor"],
        newest=record["newest"] or record["fence"],
        deadline=datetime.fromisoformat(record["deadline"]) if record["deadline"] else None,
        lease_until=record["lease_until"],
        stop=record["stop_asked"],
        base_commit=launch.get("base_commit"),
        question=OpenQuestion(question["id"], question["text"], datetime.fromisoformat(question["grace_until"]))
        if question
        else None,
        answer=_answer_in(record["answer"]),
    )
    return Row(
        attempt,
        record["org"],
        record["token_digest"],
        launch,
        record["last_seq"],
        record["traceparent"],
        record["finished_at"],
        record["now"],
    )


def _launch_out(attempt: Attempt) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    if attempt.base_commit is not None:
        kept["base_commit"] = attempt.base_commit
    if attempt.question is not None:
        question = attempt.question
        kept["question"] = {
            "id": question.id,
            "text": question.text,
            "grace_until": question.grace_until.isoformat(),
        }
    return kept


_ANSWER: Final[TypeAdapter[Answer]] = TypeAdapter(Answer)


def _answer_out(attempt: Attempt) -> Any:
    return None if attempt.answer is None else _ANSWER.dump_python(attempt.answer, mode="json")


def _answer_in(kept: dict[str, Any] | None) -> Answer | None:
    return None if kept is None else _ANSWER.validate_python(kept)
