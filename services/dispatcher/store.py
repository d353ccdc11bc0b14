"""Reading and writing the dispatcher's rows: many at once, in one order of locks (tasks, then runs, each by id)."""

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import orjson

from dispatch_common.lifecycle import RunState
from services.dispatcher.run import Run, Step, Task

_TASKS: Final = """
SELECT id, org, version, snapshot, wanted, asks_seen FROM tasks
WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE
"""
_RUNS: Final = """
SELECT body FROM runs WHERE id = ANY($1::uuid[]) OR (task_id = ANY($2::uuid[]) AND live) ORDER BY id FOR UPDATE
"""
_SNAPSHOTS: Final = "SELECT id, org, version, snapshot, wanted, asks_seen FROM tasks WHERE id = ANY($1::uuid[])"
_SAVE_TASKS: Final = """
INSERT INTO tasks (id, org, source, object_id, key, version, digest, snapshot, wanted, asks_seen, read_at)
SELECT u.id, u.org, u.source, u.object_id, u.key, u.version, u.digest, u.snapshot, u.wanted::jsonb, u.asks::jsonb, u.at
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::jsonb[],
            $9::text[], $10::text[], $11::timestamptz[])
    AS u(id, org, source, object_id, key, version, digest, snapshot, wanted, asks, at)
ON CONFLICT (id) DO UPDATE SET key = excluded.key, version = excluded.version, digest = excluded.digest,
    snapshot = excluded.snapshot, wanted = excluded.wanted, asks_seen = excluded.asks_seen,
    read_at = excluded.read_at, updated_at = clock_timestamp()
"""
_UPDATE_RUNS: Final = """
UPDATE runs SET state = u.state, version = u.version, body = u.body, next_check = u.next_check,
    updated_at = clock_timestamp()
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::jsonb[], $5::timestamptz[])
    AS u(id, state, version, body, next_check)
WHERE runs.id = u.id
"""
_INSERT_RUNS: Final = """
INSERT INTO runs (id, org, task_id, lane, state, version, body, next_check)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::jsonb[],
                     $8::timestamptz[])
"""
_STEPS: Final = """
INSERT INTO run_steps (run_id, number, org, from_state, to_state, code, sentence, next_action, cause)
SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                     $9::uuid[])
"""
_QUEUE: Final = """
INSERT INTO run_queue (run_id, org, line, project, skills, sort_key)
SELECT u.id, u.org, u.line, u.project, u.skills::jsonb, u.sort_key
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[])
    AS u(id, org, line, project, skills, sort_key)
ON CONFLICT (run_id) DO UPDATE SET line = excluded.line, sort_key = excluded.sort_key, skills = excluded.skills
"""
_UNQUEUE: Final = "DELETE FROM run_queue WHERE run_id = ANY($1::uuid[])"
_RELEASE: Final = "UPDATE agent_slots SET attempt_id = NULL WHERE attempt_id = ANY($1::uuid[])"
_DROP_DRAINED: Final = "DELETE FROM agent_slots WHERE draining AND attempt_id IS NULL"


async def lock_tasks(conn: Any, ids: Iterable[UUID]) -> dict[UUID, Task]:
    """Lock and return tasks."""
    return {row["id"]: _task(row) for row in await conn.fetch(_TASKS, sorted(set(ids)))}


async def lock_runs(conn: Any, run_ids: Iterable[UUID], task_ids: Iterable[UUID]) -> dict[UUID, Run]:
    """Lock and return runs by id, and the live runs of tasks."""
    rows = await conn.fetch(_RUNS, sorted(set(run_ids)), sorted(set(task_ids)))
    runs = [Run.model_validate(row["body"]) for row in rows]
    return {run.id: run for run in runs}


async def read_tasks(conn: Any, ids: Iterable[UUID]) -> dict[UUID, Task]:
    """Return tasks without locking them: a run reads its task's snapshot and never writes it."""
    return {row["id"]: _task(row) for row in await conn.fetch(_SNAPSHOTS, sorted(set(ids)))}


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
        [s.model_dump(mode="json") for s in snapshots],
        [_list(task.wanted) for task in tasks],
        [_list(task.asks_seen) for task in tasks],
        [s.read_at for s in snapshots],
    )


async def update_runs(conn: Any, runs: Sequence[Run]) -> None:
    """Write changed runs."""
    if runs:
        await conn.execute(
            _UPDATE_RUNS,
            [run.id for run in runs],
            [run.state.value for run in runs],
            [run.version for run in runs],
            [_body(run) for run in runs],
            [run.next_check for run in runs],
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
            [_body(run) for run in runs],
            [run.next_check for run in runs],
        )


async def insert_steps(conn: Any, steps: Sequence[tuple[Run, int, Step]]) -> None:
    """Append steps: (run, number, step)."""
    if steps:
        await conn.execute(
            _STEPS,
            [run.id for run, _, _ in steps],
            [number for _, number, _ in steps],
            [run.org for run, _, _ in steps],
            [step.source and step.source.value for _, _, step in steps],
            [step.to.value for _, _, step in steps],
            [step.code for _, _, step in steps],
            [step.sentence for _, _, step in steps],
            [step.next_action for _, _, step in steps],
            [step.cause for _, _, step in steps],
        )


async def enqueue(conn: Any, waiting: Sequence[tuple[Run, Task]]) -> None:
    """Put queued runs into the queue."""
    if waiting:
        await conn.execute(
            _QUEUE,
            [run.id for run, _ in waiting],
            [run.org for run, _ in waiting],
            [run.line for run, _ in waiting],
            [task.snapshot.project for _, task in waiting],
            [_list(task.snapshot.labels) for _, task in waiting],
            [run.sort_key(task.snapshot.priority) for run, task in waiting],
        )


async def dequeue(conn: Any, run_ids: Sequence[UUID]) -> None:
    """Take runs out of the queue."""
    if run_ids:
        await conn.execute(_UNQUEUE, list(run_ids))


async def release(conn: Any, attempt_ids: Sequence[UUID]) -> None:
    """Give slots back; a draining one disappears."""
    if attempt_ids:
        await conn.execute(_RELEASE, list(attempt_ids))
        await conn.execute(_DROP_DRAINED)


def is_queued(run: Run) -> bool:
    return run.state is RunState.QUEUED


def _task(row: Any) -> Task:
    return Task.model_validate(dict(row))


def _body(run: Run) -> dict[str, Any]:
    return run.model_dump(mode="json")


def _list(values: Sequence[str]) -> str:
    """Return a JSON list as text: inside an array parameter a list would be taken for a further dimension."""
    return orjson.dumps(list(values)).decode()
