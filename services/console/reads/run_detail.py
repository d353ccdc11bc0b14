"""Everything that is known of one run: its steps, decisions, approvals, attempts, effects, and what they add up to."""

from typing import Any, Final
from uuid import UUID

from dispatch_common.db import Db
from dispatch_common.values import Pull, Usage
from dispatch_common.view import RunBody
from services.console.reads.runs import one_run
from services.console.schemas import (
    AnswerOut,
    ApprovalOut,
    AttemptOut,
    DecisionOut,
    EffectOut,
    RunDetail,
    StepOut,
)

_STEPS: Final = """
SELECT number, from_state, to_state, code, sentence, next_action, cause, at FROM run_steps
WHERE run_id = $1 AND number > $2 ORDER BY number LIMIT $3
"""
_PULL: Final = """
SELECT answer->'pull' FROM publications WHERE run_id = $1 AND answer IS NOT NULL ORDER BY revision DESC LIMIT 1
"""
_ANSWERS: Final = "SELECT * FROM approval_answers WHERE approval_id = ANY($1::uuid[]) ORDER BY at"
_APPROVALS: Final = "SELECT * FROM approvals"


async def steps(db: Db, run_id: UUID, *, after: int = 0, limit: int = 1000) -> list[StepOut]:
    """Return the steps behind a number, in order."""
    return [StepOut.model_validate(dict(row)) for row in await db.fetch(_STEPS, run_id, after, limit)]


async def _approvals(db: Db, rows: list[Any]) -> list[ApprovalOut]:
    """Return approvals from their rows, with what people answered."""
    answers: dict[UUID, list[AnswerOut]] = {}
    for row in await db.fetch(_ANSWERS, [row["id"] for row in rows]) if rows else []:
        answer = AnswerOut.model_validate({**dict(row), "by": row["by_name"] or row["by_id"]})
        answers.setdefault(row["approval_id"], []).append(answer)
    return [
        ApprovalOut.model_validate({**dict(row), "run": row["run_id"], "answers": answers.get(row["id"], [])})
        for row in rows
    ]


async def approvals(db: Db, *, org: str, state: str | None, limit: int = 100) -> list[ApprovalOut]:
    """Return approvals, newest first."""
    rows = await db.fetch(
        f"{_APPROVALS} WHERE org = $1 AND ($2::text IS NULL OR state = $2) ORDER BY created_at DESC LIMIT $3",
        org,
        state,
        limit,
    )
    return await _approvals(db, rows)


async def approvals_of(db: Db, run_id: UUID) -> list[ApprovalOut]:
    """Return a run's approvals, oldest first."""
    rows = await db.fetch(f"{_APPROVALS} WHERE run_id = $1 ORDER BY created_at", run_id)
    return await _approvals(db, rows)


async def decisions_of(db: Db, run_id: UUID) -> list[DecisionOut]:
    """Return what policy answered, in the order it was asked."""
    rows = await db.fetch("SELECT * FROM decisions WHERE run_id = $1 ORDER BY ask, at", run_id)
    return [DecisionOut.model_validate({**dict(row), "reasons": row["body"].get("reasons", [])}) for row in rows]


async def attempts_of(db: Db, run_id: UUID) -> list[AttemptOut]:
    """Return a run's attempts, in order."""
    return [_attempt(row) for row in await db.fetch("SELECT * FROM attempts WHERE run_id = $1 ORDER BY fence", run_id)]


def _attempt(row: Any) -> AttemptOut:
    answer: dict[str, Any] = row["answer"] or {}
    agent: dict[str, Any] = row["request"].get("agent") or {}
    result: dict[str, Any] = answer.get("result") or {}
    return AttemptOut(
        id=row["id"],
        number=row["fence"],
        state=row["state"],
        agent=agent.get("name", ""),
        backend=agent.get("backend", ""),
        executor=row["executor"],
        outcome=answer.get("outcome"),
        family=answer.get("family"),
        sentence=answer.get("sentence", ""),
        files_changed=result.get("files_changed", 0),
        summary=result.get("summary", ""),
        usage=Usage.model_validate(answer.get("usage") or {}),
        **{name: row[name] for name in ("lease_until", "last_event_at", "created_at", "started_at", "finished_at")},
    )


async def effects_of(db: Db, run_id: UUID) -> list[EffectOut]:
    """Return the writes to the outside, in the order they were meant."""
    rows = await db.fetch("SELECT * FROM effects WHERE run_id = $1 ORDER BY revision, created_at, key", run_id)
    return [EffectOut.model_validate(dict(row)) for row in rows]


async def published_pull(db: Db, run_id: UUID) -> Pull | None:
    """Return the pull that the publisher reported, if it did."""
    answer = await db.fetchval(_PULL, run_id)
    return Pull.model_validate(answer) if answer else None


def total(attempts: list[AttemptOut]) -> Usage:
    """Return what all attempts used together. Money is known only when every attempt's is."""
    money = [attempt.usage.money_microusd for attempt in attempts]
    return Usage(
        wall_ms=sum(attempt.usage.wall_ms for attempt in attempts),
        cpu_ms=sum(attempt.usage.cpu_ms for attempt in attempts),
        peak_memory_mib=max((attempt.usage.peak_memory_mib for attempt in attempts), default=0),
        input_tokens=sum(attempt.usage.input_tokens for attempt in attempts),
        output_tokens=sum(attempt.usage.output_tokens for attempt in attempts),
        money_microusd=None if not money or None in money else sum(each or 0 for each in money),
    )


async def detail(db: Db, run_id: UUID) -> RunDetail:
    """Return a run with everything that is known of it."""
    found = await one_run(db, run_id)
    assert found is not None, "the id was resolved just now and runs are not deleted"
    out, body = found
    attempts = await attempts_of(db, run_id)
    return RunDetail(
        **out.model_dump(),
        actor=body.actor,
        instruction=body.instruction,
        parent=body.parent,
        family=body.family,
        grant=body.grant,
        steps=await steps(db, run_id),
        decisions=await decisions_of(db, run_id),
        approvals=await approvals_of(db, run_id),
        attempts=attempts,
        effects=await effects_of(db, run_id),
        pull=body.pull or await published_pull(db, run_id),
        usage=total(attempts),
        **_result(body, attempts),
    )


def _result(body: RunBody, attempts: list[AttemptOut]) -> dict[str, Any]:
    if body.result is not None:
        return {"files_changed": body.result.files_changed, "summary": body.result.summary}
    last = attempts[-1] if attempts else None
    return {"files_changed": last.files_changed if last else 0, "summary": last.summary if last else ""}
