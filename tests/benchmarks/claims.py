"""Claims per second with 1,000 and 100,000 queued runs: the ratio of the two shows whether the cost stays flat."""

import time
from datetime import UTC, datetime
from typing import Any

from dispatch_common import ids
from dispatch_common.db import Db, open_db
from dispatch_common.settings import Settings
from dispatch_common.values import Actor, Grant, Priority, TaskSnapshot, WakeReason
from services.dispatcher import store
from services.dispatcher.app import Dispatcher
from services.dispatcher.run import Run, RunState, Task
from services.dispatcher.sweep import Sweep

_AGENTS = 50
_SLOTS = 8
_PROJECTS = 20
_SECONDS = 4.0


async def measure(database_url: str, queued: int) -> dict[str, Any]:
    """Return claims per second with ``queued`` runs waiting; slots are given back between rounds."""
    async with open_db(database_url, "dispatcher") as db:
        await _agents(db)
        dispatcher = Dispatcher(Settings(database_url=database_url))
        sweep = Sweep(db, dispatcher.catalog, dispatcher.rules, "default")
        await _fill(db, queued + 30_000 if queued < 30_000 else queued)
        await db.execute(
            "DELETE FROM run_queue WHERE run_id IN (SELECT run_id FROM run_queue ORDER BY sort_key OFFSET $1)", queued
        )
        await db.execute("ANALYZE")
        claimed, spent = 0, 0.0
        while spent < _SECONDS:
            began = time.perf_counter()
            await sweep.claims()
            spent += time.perf_counter() - began
            claimed += await _give_back(db)
        return {"queued": queued, "claims_per_second": round(claimed / spent), "claimed": claimed}


async def _give_back(db: Db) -> int:
    """Free all slots and put the runs back into the queue, as untouched as they were."""
    freed = await db.execute("UPDATE agent_slots SET attempt_id = NULL WHERE attempt_id IS NOT NULL")
    await db.execute(
        """WITH back AS (
               UPDATE runs SET state = 'queued',
                   body = body || '{"state": "queued", "attempt_id": null, "attempt": 0, "version": 1}'::jsonb
               WHERE state = 'assigned' RETURNING id, body)
           INSERT INTO run_queue (run_id, org, line, project, skills, sort_key)
           SELECT id, 'default', 'coder', 'P' || (hashtext(id::text) % 20), '[]'::jsonb, hashtext(id::text) FROM back
           ON CONFLICT DO NOTHING"""
    )
    await db.execute("TRUNCATE run_steps, outbox")
    return int(freed.rpartition(" ")[2])


async def _agents(db: Db) -> None:
    spec = {"role": "coder", "maxConcurrentTasks": _SLOTS, "backend": "scripted", "permissionSet": "standard"}
    await db.execute(
        """INSERT INTO resources (org, kind, name, generation, spec, digest, applied_by)
           SELECT 'default', 'Agent', 'agent-' || n, 1, $2, '', 'bench' FROM generate_series(1, $1::int) n
           ON CONFLICT DO NOTHING""",
        _AGENTS,
        spec,
    )


async def _fill(db: Db, count: int) -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    for start in range(0, count, 5000):
        pairs = [_queued(number, now) for number in range(start, min(start + 5000, count))]
        async with db.transaction() as tx:
            await store.save_tasks(tx.conn, [task for _, task in pairs])
            await store.insert_runs(tx.conn, [run for run, _ in pairs])
            await store.write(tx.conn, store.Writes(queued=pairs))


def _queued(number: int, now: datetime) -> tuple[Run, Task]:
    snapshot = TaskSnapshot(
        source="bench",
        provider="api",
        object_id=str(number),
        key=f"B-{number}",
        title="A queued run",
        project=f"P{number % _PROJECTS}",
        priority=Priority.NONE,
        read_at=now,
        digest="",
    )
    task = Task(id=ids.derived("bench-task", number), org="default", version=1, snapshot=snapshot)
    run = Run(
        id=ids.derived("bench-run", number),
        org="default",
        task_id=task.id,
        lane="coder",
        state=RunState.QUEUED,
        task_version=1,
        trigger="label:agent:coder",
        role="coder",
        wake_reason=WakeReason.TICKET_ASSIGNMENT,
        actor=Actor(id="bench"),
        grant=Grant(),
        queued_at=now,
    )
    return run, task
