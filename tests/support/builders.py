"""Rows as the owning services write them, for tests of those who read. Each builder returns the id it made."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from nats.aio.client import Client

from dispatch_common import clock, ids, streams
from dispatch_common.db import Db
from dispatch_common.lifecycle import RunState
from dispatch_common.values import (
    Actor,
    AgentSpec,
    Grant,
    Priority,
    Pull,
    Reason,
    RepositorySpec,
    TaskSnapshot,
    WakeReason,
)
from services.dispatcher.run import Run

START = datetime(2026, 11, 21, 8, tzinfo=UTC)
ALICE = Actor(id="plane:alice", name="Alice")

_TASK = """
INSERT INTO tasks (id, org, source, object_id, key, version, digest, snapshot, wanted, asks_seen, read_at)
VALUES ($1, 'default', 'plane', $2, $3, 1, '', $4, '[]', '[]', $5)
"""
_RUN = """
INSERT INTO runs (id, org, task_id, lane, state, version, body, next_check, created_at)
VALUES ($1, 'default', $2, 'main', $3, 1, $4, clock_timestamp() + interval '1 hour', $5)
"""
_STEP = """
INSERT INTO run_steps (run_id, number, org, from_state, to_state, code, sentence, next_action)
SELECT $1, coalesce(max(number), 0) + 1, 'default', $2, $3, $4, $5, $6 FROM run_steps WHERE run_id = $1
"""
_APPROVAL = """
INSERT INTO approvals (id, org, run_id, stage, digest, state, requested_by, "grant", reasons, approvers, expires_at,
                       comment, requester_name, base)
VALUES ($1, 'default', $2, 'launch', 'd', $3, $4, '{}', $5, '[]', clock_timestamp() + $6::interval, '', '', '{}')
"""
_ATTEMPT = """
INSERT INTO attempts (id, org, run_id, fence, state, executor, request, answer, token_digest, launch)
VALUES ($1, 'default', $2, $3, $4, 'host-1', $5, $6, '', '{}')
"""
_RESOURCE = """
INSERT INTO resources (org, kind, name, generation, spec, digest, applied_by)
VALUES ('default', $1, $2, 1, $3, '', 'test')
"""
_QUEUED = """
INSERT INTO run_queue (run_id, org, line, project, skills, sort_key) VALUES ($1, 'default', $2, 'DISP', '[]', $3)
"""
_SLOT = """
INSERT INTO agent_slots (org, agent, number, role, draining, attempt_id) VALUES ('default', $1, $2, $3, false, $4)
"""
_DELIVERY = """
INSERT INTO deliveries (id, org, source, provider, event, dedupe_key, object_id, headers, body, state, outcome,
                        sentence, run_ids, external_id, actor_id)
VALUES ($1, 'default', 'plane', 'plane', 'issue.updated', $2, 'item-1', '{}', '\\x7b7d', $3, $4, $5, $6, '', 'alice')
"""


async def a_task(db: Db, *, key: str = "DISP-1", title: str = "Fix the flaky test", **fields: Any) -> UUID:
    """A task that was read at its source."""
    snapshot = TaskSnapshot(
        source="plane",
        provider="plane",
        object_id=key,
        key=key,
        title=title,
        project="DISP",
        repository="sample",
        priority=Priority.HIGH,
        labels=("agent:coder",),
        read_at=START,
        digest="d",
        **fields,
    )
    task_id = ids.fresh()
    await db.execute(_TASK, task_id, ids.fresh().hex, key, snapshot.model_dump(mode="json"), START)
    return task_id


async def a_run(
    db: Db,
    task_id: UUID | None = None,
    *,
    run_id: UUID | None = None,
    title: str = "Fix the flaky test",
    agent: str | None = None,
    created_at: datetime = START,
    **body: Any,
) -> UUID:
    """A run that was just requested."""
    task_id = task_id or await a_task(db, title=title)
    run = Run(
        id=run_id or ids.fresh(),
        org="default",
        task_id=task_id,
        lane="main",
        task_version=1,
        trigger="label:agent:coder",
        role="coder",
        wake_reason=WakeReason.TICKET_ASSIGNMENT,
        actor=ALICE,
        agent=AgentSpec(name=agent, role="coder", backend="scripted") if agent else None,
        repository=RepositorySpec(name="sample", url="/srv/sample.git"),
        grant=Grant(),
        **body,
    )
    await db.execute(_RUN, run.id, task_id, run.state.value, run.model_dump(mode="json"), created_at)
    await a_step(db, run.id, None, run.state, "run.requested", "Alice put the label agent:coder.")
    return run.id


async def a_step(
    db: Db, run_id: UUID, source: RunState | None, to: RunState, code: str, sentence: str, next_action: str = ""
) -> None:
    """One more step in a run's history."""
    await db.execute(_STEP, run_id, source and source.value, to.value, code, sentence, next_action)


async def moved(
    db: Db,
    run_id: UUID,
    to: RunState,
    sentence: str = "It went on.",
    *,
    code: str = "test.moved",
    next_action: str = "",
    **body: Any,
) -> None:
    """The dispatcher moved a run."""
    row = await db.fetchrow("SELECT state, body FROM runs WHERE id = $1", run_id)
    assert row is not None
    changed = Run.model_validate(row["body"]).model_copy(update={"state": to, **body}).model_dump(mode="json")
    await db.execute("UPDATE runs SET state = $2, body = $3 WHERE id = $1", run_id, to.value, changed)
    await a_step(db, run_id, RunState(row["state"]), to, code, sentence, next_action)


async def queued(db: Db, run_id: UUID, *, line: str = "coder", sort_key: int = 1) -> None:
    """The run stands in the queue."""
    await moved(db, run_id, RunState.QUEUED, "Policy allowed it.", code="policy.allowed", queued_at=START)
    await db.execute(
        _QUEUED,
        run_id,
        line,
        sort_key,
    )


async def an_approval(
    db: Db, run_id: UUID, *, state: str = "pending", requested_by: str = "plane:alice", lasts: timedelta | None = None
) -> UUID:
    """Policy asked for a person's consent."""
    approval_id = ids.fresh()
    reason = Reason(code="trust.outsider", sentence="An outsider wrote a part of it.").model_dump()
    await db.execute(_APPROVAL, approval_id, run_id, state, requested_by, [reason], lasts or timedelta(days=1))
    return approval_id


async def awaiting_approval(db: Db, *, requested_by: str = "plane:alice") -> tuple[UUID, UUID]:
    """A run that waits for approval, and the approval."""
    run_id = await a_run(db)
    approval_id = await an_approval(db, run_id, requested_by=requested_by)
    sentence = "An outsider wrote a part of it."
    await moved(db, run_id, RunState.AWAITING_APPROVAL, sentence, code="policy.escalated", approval_id=approval_id)
    return run_id, approval_id


async def an_attempt(
    db: Db,
    run_id: UUID,
    *,
    fence: int = 1,
    state: str = "running",
    agent: str = "vega",
    answer: dict[str, Any] | None = None,
) -> UUID:
    """An executor has an attempt of the run."""
    attempt_id = ids.fresh()
    request = {"agent": AgentSpec(name=agent, role="coder", backend="scripted").model_dump(mode="json")}
    await db.execute(_ATTEMPT, attempt_id, run_id, fence, state, request, answer)
    return attempt_id


async def at_work(
    db: Db, *, agent: str = "vega", title: str = "Fix the flaky test", slot: int = 1
) -> tuple[UUID, UUID]:
    """A run whose agent works, in a slot; and the attempt."""
    run_id = await a_run(db, title=title, agent=agent)
    attempt_id = await an_attempt(db, run_id, agent=agent)
    spec = AgentSpec(name=agent, role="coder", backend="scripted")
    await moved(db, run_id, RunState.RUNNING, f"{agent} is at work.", attempt=1, attempt_id=attempt_id, agent=spec)
    await a_slot(db, agent, slot, attempt_id)
    return run_id, attempt_id


async def a_slot(db: Db, agent: str, number: int = 1, attempt_id: UUID | None = None, *, role: str = "coder") -> None:
    """One unit of an agent's capacity."""
    await db.execute(
        _SLOT,
        agent,
        number,
        role,
        attempt_id,
    )


async def a_resource(db: Db, kind: str, name: str, **spec: Any) -> None:
    """A resource that was applied."""
    await db.execute(_RESOURCE, kind, name, spec)


async def an_agent(db: Db, name: str = "vega", *, role: str = "coder", slots: int = 1, status: str = "active") -> None:
    """An agent of the catalog."""
    await a_resource(
        db,
        "Agent",
        name,
        role=role,
        maxConcurrentTasks=slots,
        backend="scripted",
        permissionSet="standard",
        status=status,
        displayName=name.title(),
    )


async def a_delivery(
    db: Db, *, outcome: str | None = "created", sentence: str = "DISP-1 is new.", runs: tuple[UUID, ...] = ()
) -> UUID:
    """A delivery that was received, and decided if it has an outcome."""
    delivery_id = ids.fresh()
    state = "decided" if outcome else "received"
    await db.execute(
        _DELIVERY, delivery_id, ids.fresh().hex, state, outcome, sentence, [str(run_id) for run_id in runs]
    )
    return delivery_id


async def completed(db: Db, run_id: UUID, sentence: str = "A pull request is open.") -> None:
    """The run ended well."""
    pull = Pull(branch=f"agent/{run_id.hex[:8]}", commit="c" * 40, url="http://127.0.0.1/pulls/sample/1", number=1)
    await moved(db, run_id, RunState.COMPLETED, sentence, code="result.published", pull=pull, attempt_id=None)


async def agent_says(
    nc: Client,
    run_id: UUID,
    attempt_id: UUID,
    seq: int,
    event: dict[str, Any] | None = None,
    *,
    at: datetime | None = None,
) -> None:
    """The run gateway publishes one event of the agent."""
    line = {
        "attempt": str(attempt_id),
        "seq": seq,
        "at": (at or clock.now()).isoformat(),
        "event": event or {"kind": "text", "text": f"line {seq}"},
    }
    headers = {"Nats-Msg-Id": f"{attempt_id}.{seq}"}
    await nc.jetstream().publish(streams.agent_subject(run_id), orjson.dumps(line), headers=headers)
