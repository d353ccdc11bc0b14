"""Reading and writing the dispatcher's rows: many at once, in one order of locks (tasks, then runs, each by id)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson

from dispatch_common.lifecycle import RunState
from dispatch_common.values import TaskSnapshot
from services.dispatcher.run import Run, Step, Task

_TASK: Final = "t.id, t.org, t.version, t.snapshot::text AS snapshot, t.wanted, t.asks_seen"
_TASKS: Final = f"SELECT {_TASK} FROM tasks t WHERE t.id = ANY($1::uuid[]) ORDER BY t.id FOR UPDATE"
_BY_ID: Final = f"""
SELECT r.body::text AS body, {_TASK} FROM runs r JOIN tasks t ON t.id = r.task_id
WHERE r.id = ANY($1::uuid[]) ORDER BY r.id FOR UPDATE OF r
"""
_BY_TASK: Final = f"""
SELECT r.body::text AS body, {_TASK} FROM runs r JOIN tasks t ON t.id = r.task_id
WHERE r.id = ANY($1::uuid[]) OR (r.task_id = ANY($2::uuid[]) AND r.live) ORDER BY r.id FOR UPDATE OF r
"""
_SAVE_TASKS: Final = """
INSERT INTO tasks (id, org, source, object_id, key, version, digest, snapshot, wanted, asks_seen, read_at)
SELECT u.id, u.org, u.source, u.object_id, u.key, u.version, u.digest, u.snapshot::jsonb, u.wanted::jsonb,
       u.asks::jsonb, u.at
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[],
            $9::text[], $10::text[], $11::timestamptz[])
    AS u(id, org, source, object_id, key, version, digest, snapshot, wanted, asks, at)
ON CONFLICT (id) DO UPDATE SET key = excluded.key, version = excluded.version, digest = excluded.digest,
    snapshot = excluded.snapshot, wanted = excluded.wanted, asks_seen = excluded.asks_seen,
    read_at = excluded.read_at, updated_at = clock_timestamp()
"""
#: One statement, one round trip. Its parts touch different rows, so their order does not matter.
_WRITE: Final = """
WITH saved AS (
    UPDATE runs SET state = u.state, version = u.version, body = u.body::jsonb, next_check = u.next_check,
        updated_at = clock_timestamp()
    FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::timestamptz[])
        AS u(id, state, version, body, next_check)
    WHERE runs.id = u.id),
stepped AS (
    INSERT INTO run_steps (run_id, number, org, from_state, to_state, code, sentence, next_action, cause)
    SELECT * FROM unnest($6::uuid[], $7::bigint[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[],
                         $13::text[], $14::uuid[])),
queued AS (
    INSERT INTO run_queue (run_id, org, line, project, skills, sort_key)
    SELECT u.id, u.org, u.line, u.project, u.skills::jsonb, u.sort_key
    FROM unnest($15::uuid[], $16::text[], $17::text[], $18::text[], $19::text[], $20::bigint[])
        AS u(id, org, line, project, skills, sort_key)
    ON CONFLICT (run_id) DO UPDATE
        SET line = excluded.line, sort_key = excluded.sort_key, skills = excluded.skills),
unqueued AS (DELETE FROM run_queue WHERE run_id = ANY($21::uuid[]))
UPDATE agent_slots SET attempt_id = NULL WHERE attempt_id = ANY($22::uuid[])
"""
_INSERT_RUNS: Final = """
INSERT INTO runs (id, org, task_id, lane, state, version, body, next_check)
SELECT u.id, u.org, u.task_id, u.lane, u.state, u.version, u.body::jsonb, u.next_check
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::timestamptz[])
    AS u(id, org, task_id, lane, state, version, body, next_check)
"""


async def lock_tasks(conn: Any, ids: Iterable[UUID]) -> dict[UUID, Task]:
    """Lock and return tasks."""
    return {row["id"]: _task(row) for row in await conn.fetch(_TASKS, sorted(set(ids)))}


async def lock_runs(conn: Any, run_ids: Iterable[UUID], task_ids: Iterable[UUID]) -> list[tuple[Run, Task]]:
    """Lock runs by id, and the live runs of tasks; return each with its task, which is only read."""
    runs, tasks = sorted(set(run_ids)), sorted(set(task_ids))
    rows = await (conn.fetch(_BY_TASK, runs, tasks) if tasks else conn.fetch(_BY_ID, runs))
    return [(Run.model_validate_json(row["body"]), _task(row)) for row in rows]


async def save_tasks(conn: Any, tasks: Sequence[Task]) -> None:
    """Insert or update tasks."""
    if not tasks:
        return
    snapshots = [task.snapshot for task in tasks]
    await conn.execute(
        _SAVE_TASKS,
        [task.id for task in tasks],
        [task.org for task in tasks],
        [s.source for s in snapshots],
        [s.object_id for s in snapshots],
        [s.key for s in snapshots],
        [task.version for task in tasks],
        [s.digest for s in snapshots],
        [s.model_dump_json() for s in snapshots],
        [_list(task.wanted) for task in tasks],
        [_list(task.asks_seen) for task in tasks],
        [s.read_at for s in snapshots],
    )


async def insert_runs(conn: Any, runs: Sequence[Run]) -> None:
    """Write new runs. The partial unique index refuses a second live run of a task and lane."""
    if runs:
        await conn.execute(
            _INSERT_RUNS,
            [run.id for run in runs],
            [run.org for run in runs],
            [run.task_id for run in runs],
            [run.lane for run in runs],
            [run.state.value for run in runs],
            [run.version for run in runs],
            [run.model_dump_json() for run in runs],
            [run.next_check for run in runs],
        )


@dataclass(frozen=True, slots=True)
class Writes:
    """What a batch changes, besides tasks and new runs."""

    runs: Sequence[Run] = ()
    steps: Sequence[tuple[Run, int, Step]] = ()
    queued: Sequence[tuple[Run, Task]] = ()
    unqueued: Sequence[UUID] = ()
    freed: Sequence[UUID] = ()  #: attempts whose slots are given back


async def write(conn: Any, writes: Writes) -> None:
    """Write changed runs, steps, the queue and the slots."""
    runs, steps, queued = writes.runs, writes.steps, writes.queued
    await conn.execute(
        _WRITE,
        [run.id for run in runs],
        [run.state.value for run in runs],
        [run.version for run in runs],
        [run.model_dump_json() for run in runs],
        [run.next_check for run in runs],
        [run.id for run, _, _ in steps],
        [number for _, number, _ in steps],
        [run.org for run, _, _ in steps],
        [step.source and step.source.value for _, _, step in steps],
        [step.to.value for _, _, step in steps],
        [step.code for _, _, step in steps],
        [step.sentence for _, _, step in steps],
        [step.next_action for _, _, step in steps],
        [step.cause for _, _, step in steps],
        [run.id for run, _ in queued],
        [run.org for run, _ in queued],
        [run.line for run, _ in queued],
        [task.snapshot.project for _, task in queued],
        [_list(task.snapshot.labels) for _, task in queued],
        [run.sort_key(task.snapshot.priority) for run, task in queued],
        list(writes.unqueued),
        list(writes.freed),
    )


def is_queued(run: Run) -> bool:
    return run.state is RunState.QUEUED


def _task(row: Any) -> Task:
    snapshot = TaskSnapshot.model_validate_json(row["snapshot"])
    return Task(
        id=row["id"],
        org=row["org"],
        version=row["version"],
        snapshot=snapshot,
        wanted=tuple(row["wanted"]),
        asks_seen=tuple(row["asks_seen"]),
    )


def _list(values: Sequence[str]) -> str:
    """Return a JSON list as text: inside an array parameter a list would be taken for a further dimension."""
    return orjson.dumps(list(values)).decode()
