"""Policy's tables: decisions, approvals, answers. The statements, and rows to values and back; it decides nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from prometheus_client import Counter

from dispatch_common import ids
from dispatch_common.db import Tx
from dispatch_common.events import ApprovalAnswered, ApprovalDecided, PolicyAsked, PolicyDecided
from dispatch_common.values import Actor, Grant, Reason, Stage
from services.policy.answering import Consequence
from services.policy.approval import Answered, Approval, ApprovalState, Base

#: What a decision's row says while its base commit is looked for, and when a later ask made it nobody's question.
PINNING: Final = "pinning"
OUTDATED: Final = "outdated"
#: Silence after which a decided approval is said again.
SAY_AGAIN: Final = timedelta(seconds=30)

_JUDGED: Final = Counter("dispatch_decisions_total", "Questions that policy answered.", ["stage", "verdict"])
_APPROVED: Final = Counter("dispatch_approvals_ended_total", "Approvals that came to an end.", ["outcome"])

_DECISIONS: Final = "SELECT run_id, ask, verdict, body FROM decisions WHERE run_id = ANY($1)"
_DECIDE: Final = """
INSERT INTO decisions (id, org, run_id, ask, stage, verdict, body, judged, policy_generation, question, tries,
                       next_check)
SELECT id, $1, run_id, ask, stage, verdict, body::jsonb, judged::jsonb, $2, question::jsonb, 0,
       CASE WHEN question IS NOT NULL THEN clock_timestamp() END
FROM unnest($3::uuid[], $4::uuid[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[])
     AS r(id, run_id, ask, stage, verdict, body, judged, question)
ON CONFLICT (run_id, ask) DO NOTHING RETURNING run_id, ask
"""
_PINNED: Final = """
UPDATE decisions SET verdict = $2, body = $3, policy_generation = $4, question = NULL, next_check = NULL, at = $5
WHERE id = $1 AND verdict = 'pinning'
"""
_CLAIM: Final = """
UPDATE decisions SET tries = tries + 1, next_check = clock_timestamp() + interval '60 seconds'
WHERE id IN (SELECT id FROM decisions WHERE next_check <= clock_timestamp() ORDER BY next_check LIMIT $1
             FOR UPDATE SKIP LOCKED)
RETURNING id, tries, question
"""
_LATER: Final = "UPDATE decisions SET next_check = clock_timestamp() + $2 WHERE id = $1 AND verdict = 'pinning'"
_OUTDATED: Final = """
UPDATE decisions SET verdict = 'outdated', question = NULL, next_check = NULL WHERE id = $1 AND verdict = 'pinning'
"""
_LOCK_DECISION: Final = "SELECT run_id FROM decisions WHERE id = $1 AND verdict = 'pinning' FOR UPDATE"
_APPROVALS: Final = "SELECT * FROM approvals WHERE run_id = ANY($1) ORDER BY run_id, id FOR UPDATE"
_BY_ID: Final = "SELECT * FROM approvals WHERE id = ANY($1) AND org = $2 ORDER BY run_id, id FOR UPDATE"
_OVERDUE: Final = """
SELECT * FROM approvals WHERE state = 'pending' AND expires_at <= clock_timestamp()
ORDER BY run_id, id LIMIT $1 FOR UPDATE SKIP LOCKED
"""
_KEEP: Final = """
INSERT INTO approvals (id, org, run_id, stage, digest, state, ask, requested_by, requester_name, "grant", reasons,
                       approvers, base, answered_by, comment, created_at, expires_at, answered_at, emissions)
SELECT id, org, run_id, stage, digest, state, ask, requested_by, requester_name, "grant", reasons, approvers,
       base, answered_by, comment, created_at, expires_at, answered_at, 0
FROM jsonb_to_recordset($1) AS r(id uuid, org text, run_id uuid, stage text, digest text, state text, ask bigint,
    requested_by text, requester_name text, "grant" jsonb, reasons jsonb, approvers jsonb, base jsonb,
    answered_by text, comment text, created_at timestamptz, expires_at timestamptz, answered_at timestamptz)
ON CONFLICT (id) DO UPDATE SET state = excluded.state, ask = excluded.ask, answered_by = excluded.answered_by,
    comment = excluded.comment, expires_at = excluded.expires_at, answered_at = excluded.answered_at
"""
_ENDED: Final = "UPDATE approvals SET decided = $2, next_check = clock_timestamp() + $3 WHERE id = $1"
_SETTLE: Final = """
UPDATE approvals a SET next_check = NULL FROM unnest($1::uuid[], $2::bigint[]) AS q(run_id, ask)
WHERE a.run_id = q.run_id AND a.ask < q.ask AND a.next_check IS NOT NULL
"""
_ANSWER: Final = """
INSERT INTO approval_answers (id, org, approval_id, run_id, by_id, by_name, approve, comment, counted, sentence, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO NOTHING
"""
_ROLES: Final = "SELECT name, roles FROM principal_roles WHERE org = $1 AND name = ANY($2)"


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of one ask. ``decided`` is None while its base commit is looked for."""

    run_id: UUID
    ask: int
    decided: PolicyDecided | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A base commit that is wanted: for which decision, how often it was looked for, what was asked."""

    decision_id: UUID
    tries: int
    asked: PolicyAsked


async def decisions(tx: Tx, run_ids: Sequence[UUID]) -> dict[UUID, dict[int, Stored]]:
    """Return every stored answer of some runs, by run and ask."""
    found: dict[UUID, dict[int, Stored]] = {}
    for row in await tx.conn.fetch(_DECISIONS, run_ids):
        decided = None if row["verdict"] in {PINNING, OUTDATED} else PolicyDecided.model_validate(row["body"])
        found.setdefault(row["run_id"], {})[row["ask"]] = Stored(row["run_id"], row["ask"], decided)
    return found


async def approvals(tx: Tx, run_ids: Sequence[UUID]) -> dict[UUID, tuple[Approval, ...]]:
    """Lock and return the approvals of some runs."""
    found: dict[UUID, tuple[Approval, ...]] = {}
    for row in await tx.conn.fetch(_APPROVALS, run_ids):
        found[row["run_id"]] = (*found.get(row["run_id"], ()), approval(row))
    return found


async def approvals_by_id(tx: Tx, org: str, approval_ids: Sequence[UUID]) -> dict[UUID, Approval]:
    """Lock and return approvals."""
    return {row["id"]: approval(row) for row in await tx.conn.fetch(_BY_ID, approval_ids, org)}


async def overdue(tx: Tx, most: int) -> list[tuple[str, Approval]]:
    """Lock and return approvals whose term has ended unanswered, with their org; rows others hold are passed over."""
    return [(row["org"], approval(row)) for row in await tx.conn.fetch(_OVERDUE, most)]


async def decide(tx: Tx, org: str, consequences: Sequence[Consequence], generation: str) -> set[tuple[UUID, int]]:
    """Store answers (and questions that wait for a base commit); return those that were not stored before."""
    if not consequences:
        return set()
    columns = zip(*(_decision(each) for each in consequences), strict=True)
    rows = await tx.conn.fetch(_DECIDE, org, generation, *(list(column) for column in columns))
    for each in consequences:
        if each.decided is not None:
            _JUDGED.labels(each.asked.stage, each.decided.verdict).inc()
    return {(row["run_id"], row["ask"]) for row in rows}


async def pinned(tx: Tx, decision_id: UUID, decided: PolicyDecided, generation: str, now: datetime) -> None:
    """Store the answer to a question that has waited for its base commit."""
    body = decided.model_dump(mode="json")
    _JUDGED.labels(decided.stage, decided.verdict).inc()
    await tx.conn.execute(_PINNED, decision_id, decided.verdict.value, body, generation, now)


async def claim(tx: Tx, most: int) -> list[Wanted]:
    """Take base commits that are wanted now; nobody else takes them for a minute."""
    rows = await tx.conn.fetch(_CLAIM, most)
    return [Wanted(row["id"], row["tries"], PolicyAsked.model_validate(row["question"])) for row in rows]


async def look_later(tx: Tx, decision_id: UUID, delay: timedelta) -> None:
    """Look for a base commit again after a while."""
    await tx.conn.execute(_LATER, decision_id, delay)


async def outdated(tx: Tx, decision_id: UUID) -> None:
    """Close a question that a later one has replaced; nobody waits for its answer."""
    await tx.conn.execute(_OUTDATED, decision_id)


async def lock_pinning(tx: Tx, decision_id: UUID) -> bool:
    """Lock a question that waits for its base commit; False when it is answered."""
    return await tx.conn.fetchval(_LOCK_DECISION, decision_id) is not None


async def keep(tx: Tx, org: str, changed: Iterable[Approval]) -> None:
    """Store approvals as they are now."""
    rows = [_approval_row(org, each) for each in changed]
    if rows:
        await tx.conn.execute(_KEEP, rows)


async def settle(tx: Tx, asks: Iterable[tuple[UUID, int]]) -> None:
    """Note that later asks have come: what was said about earlier approvals of these runs has been heard."""
    pairs = list(asks)
    if pairs:
        await tx.conn.execute(_SETTLE, [run_id for run_id, _ in pairs], [ask for _, ask in pairs])


async def ended(tx: Tx, org: str, done: Answered, fact: ApprovalDecided) -> None:
    """Store an approval that has ended with the fact that says so, to be said again while nothing follows from it."""
    await keep(tx, org, [done.approval])
    _APPROVED.labels(fact.outcome).inc()
    await tx.conn.execute(_ENDED, done.approval.id, fact.model_dump(mode="json"), SAY_AGAIN)


async def record_answer(tx: Tx, fact: ApprovalAnswered, *, counted: bool, sentence: str, now: datetime) -> None:
    """Keep what a person answered, whether it counted, and why."""
    by = fact.by
    values = (fact.approval_id, fact.run_id, by.id, by.name, fact.approve, fact.comment, counted, sentence, now)
    await tx.conn.execute(_ANSWER, fact.id, fact.org, *values)


async def roles(tx: Tx, org: str, actors: Iterable[Actor]) -> dict[str, frozenset[str]]:
    """Return the roles of those actors that proved to be principals, by actor id."""
    names = {actor.id.removeprefix("principal:"): actor.id for actor in actors if actor.id.startswith("principal:")}
    if not names:
        return {}
    rows = await tx.conn.fetch(_ROLES, org, list(names))
    return {names[row["name"]]: frozenset(row["roles"]) for row in rows}


def approval(row: Any) -> Approval:
    """Return the approval in a row."""
    return Approval(
        id=row["id"],
        run_id=row["run_id"],
        ask=row["ask"],
        stage=Stage(row["stage"]),
        digest=row["digest"],
        grant=Grant.model_validate(row["grant"]),
        base=Base(**row["base"]) if row["base"] else None,
        requester=Actor(id=row["requested_by"], name=row["requester_name"]),
        state=ApprovalState(row["state"]),
        reasons=tuple(Reason.model_validate(each) for each in row["reasons"]),
        approvers=tuple(row["approvers"]),
        answered_by=row["answered_by"],
        comment=row["comment"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        answered_at=row["answered_at"],
    )


def _decision(each: Consequence) -> tuple[Any, ...]:
    asked, decided = each.asked, each.decided
    return (
        decided.decision_id if decided else ids.derived("decision", asked.run_id, asked.ask),
        asked.run_id,
        asked.ask,
        asked.stage.value,
        decided.verdict.value if decided else PINNING,
        decided.model_dump_json() if decided else "{}",
        asked.judged.model_dump_json(),
        None if decided else asked.model_dump_json(),
    )


def _approval_row(org: str, each: Approval) -> dict[str, Any]:
    return {
        "id": str(each.id),
        "org": org,
        "run_id": str(each.run_id),
        "stage": each.stage.value,
        "digest": each.digest,
        "state": each.state.value,
        "ask": each.ask,
        "requested_by": each.requester.id,
        "requester_name": each.requester.name,
        "grant": each.grant.model_dump(mode="json"),
        "reasons": [reason.model_dump(mode="json") for reason in each.reasons],
        "approvers": list(each.approvers),
        "base": asdict(each.base) if each.base else {},
        "answered_by": each.answered_by,
        "comment": each.comment,
        "created_at": each.created_at.isoformat(),
        "expires_at": each.expires_at.isoformat(),
        "answered_at": each.answered_at.isoformat() if each.answered_at else None,
    }
