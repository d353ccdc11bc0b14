"""Runs: what they do, why, and the two things a person may say about them: stop, and yes or no."""

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from dispatch_common import ids
from dispatch_common.events import ApprovalAnswered, CancelAsked
from dispatch_common.lifecycle import TERMINAL, RunState
from services.console import problems
from services.console.api.work import At, Limit
from services.console.auth import Principal, approver, operator, reader
from services.console.desk import Desk
from services.console.problems import conflict
from services.console.reads import agents as agent_reads
from services.console.reads import run_detail
from services.console.reads import runs as run_reads
from services.console.reads.ids import resolve
from services.console.schemas import Accepted, Page, RunDetail, RunOut, Why
from services.console.schemas_admin import Comment
from services.console.why import why

router: Final = APIRouter(prefix="/v1/runs", tags=["runs"], responses=problems.ANSWERS)


@router.get("", dependencies=[Depends(reader)])
async def list_runs(
    at: At,
    state: Annotated[list[RunState] | None, Query()] = None,
    live: bool = False,
    agent: str | None = None,
    role: str | None = None,
    task: str | None = None,
    repository: str | None = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Page[RunOut]:
    """List runs, newest first. ``live`` leaves out those that have ended."""
    return await run_reads.list_runs(
        at.db,
        org=at.org,
        states=state,
        live=live,
        agent=agent,
        role=role,
        task=await resolve(at.db, "task", task, org=at.org) if task else None,
        repository=repository,
        limit=limit,
        cursor=cursor,
    )


@router.get("/{run}", dependencies=[Depends(reader)])
async def get_run(run: str, at: At) -> RunDetail:
    """Return a run with its steps, decisions, approvals, attempts, effects and usage."""
    return await run_detail.detail(at.db, await resolve(at.db, "run", run, org=at.org))


@router.get("/{run}/why", dependencies=[Depends(reader)])
async def explain(run: str, at: At) -> Why:
    """Say why a run is where it is, what moves it on, and who must act."""
    return await answer_why(at, await resolve(at.db, "run", run, org=at.org))


async def answer_why(at: Desk, run_id: UUID) -> Why:
    """Return the answer for one run."""
    found = await run_reads.one_run(at.db, run_id)
    assert found is not None, "the id was resolved just now"
    detail = await run_detail.detail(at.db, run_id)
    position, before, agents = None, list[str](), list[Any]()
    if detail.state is RunState.QUEUED:
        position, before = await agent_reads.place_in_queue(at.db, run_id)
        agents = await agent_reads.agents(at.db, org=at.org)
    now = await at.db.fetchval("SELECT clock_timestamp()")
    return why(detail, found[1], now=now, position=position, before=before, agents=agents)


@router.post("/{run}/cancel", status_code=202)
async def cancel(
    run: str, at: At, who: Annotated[Principal, Depends(operator)], body: Comment | None = None
) -> Accepted:
    """Ask for a run to stop. A run that waits ends at once; one at work ends when the stop is confirmed."""
    return await ask_cancel(at, await resolve(at.db, "run", run, org=at.org), who, (body or Comment()).comment)


async def ask_cancel(at: Desk, run_id: UUID, who: Principal, comment: str) -> Accepted:
    """Say CancelAsked, unless it cannot matter any more."""
    async with at.db.transaction() as tx:
        state = RunState(await tx.conn.fetchval("SELECT state FROM runs WHERE id = $1", run_id))
        if state in TERMINAL:
            raise conflict(f"The run has ended already: it is {state}.", f"See: dispatch why {ids.short(run_id)}")
        if state is RunState.CANCELLING:
            return Accepted(run=run_id, state=state, sentence="It is already being stopped.")
        tx.say(
            CancelAsked(id=ids.fresh(), org=at.org, time=await tx.now(), run_id=run_id, by=who.actor, comment=comment)
        )
    return Accepted(run=run_id, state=state, sentence="It is being stopped.")


@router.post("/{run}/approve", status_code=202)
async def approve(
    run: str, at: At, who: Annotated[Principal, Depends(approver)], body: Comment | None = None
) -> Accepted:
    """Say yes to what a run waits for. Policy judges whether the answer counts."""
    return await answer_approval(at, run, who, "approve", (body or Comment()).comment)


@router.post("/{run}/deny", status_code=202)
async def deny(run: str, at: At, who: Annotated[Principal, Depends(approver)], body: Comment | None = None) -> Accepted:
    """Say no to what a run waits for."""
    return await answer_approval(at, run, who, "deny", (body or Comment()).comment)


async def answer_approval(
    at: Desk, run: str, who: Principal, answer: Literal["approve", "deny"], comment: str
) -> Accepted:
    """Say ApprovalAnswered for the approval that the run waits for, unless it waits for none."""
    run_id = await resolve(at.db, "run", run, org=at.org)
    async with at.db.transaction() as tx:
        state = RunState(await tx.conn.fetchval("SELECT state FROM runs WHERE id = $1", run_id))
        pending = await tx.conn.fetchrow(_PENDING, run_id)
        if pending is None:
            raise conflict(f"The run waits for no approval: it is {state}.", f"See: dispatch why {ids.short(run_id)}")
        if answer == "approve" and pending["requested_by"] == who.actor.id:
            raise conflict("Who asked for a run cannot approve it.", "Ask another approver.", code="own_request")
        said = ids.fresh()
        tx.say(
            ApprovalAnswered(
                id=said,
                org=at.org,
                time=await tx.now(),
                run_id=run_id,
                approval_id=pending["id"],
                approve=answer == "approve",
                by=who.actor,
                comment=comment,
            )
        )
    sentence = "Approved; policy judges it again." if answer == "approve" else "Denied; policy records it."
    return Accepted(run=run_id, state=state, sentence=sentence, answer=said)


_PENDING: Final = """
SELECT id, requested_by FROM approvals
WHERE run_id = $1 AND state = 'pending' AND expires_at > clock_timestamp() ORDER BY created_at DESC LIMIT 1
"""
