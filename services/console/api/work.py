"""Tasks, agents, approvals and deliveries: what there is to do, who does it, what came in."""

import asyncio
from typing import Annotated, Final

import httpx
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from dispatch_common import clock
from dispatch_common.resources import Agent, Repository, load_all
from services.console import problems
from services.console.auth import bearer, operator, reader
from services.console.desk import Desk, desk
from services.console.problems import Problem, unavailable
from services.console.reads import agents as agent_reads
from services.console.reads import deliveries as delivery_reads
from services.console.reads import run_detail
from services.console.reads import runs as run_reads
from services.console.reads.ids import resolve
from services.console.schemas import AgentOut, ApprovalOut, DeliveryDetail, DeliveryOut, Page, TaskDetail, TaskOut
from services.console.schemas_admin import NewTask, TaskTaken

router: Final = APIRouter(prefix="/v1", tags=["work"], responses=problems.ANSWERS)
Limit = Annotated[int, Query(ge=1, le=500)]
At = Annotated[Desk, Depends(desk)]
#: What was checked here and is unknown to the receiver is news that it has not heard yet.
_HEARD_OF_SECONDS: Final = 5.0
_PATIENCE: Final = httpx.Timeout(15.0, connect=3.0)


@router.post("/tasks", status_code=202, response_model=TaskTaken, dependencies=[Depends(operator)])
async def create_task(task: NewTask, request: Request, at: At) -> Response:
    """Ask for work. The webhook-receiver takes it in; the delivery tells what becomes of it."""
    task = await _known(task, at)
    if not at.settings.receiver_url:
        raise unavailable("The console does not know the webhook-receiver.", "Set DISPATCH_RECEIVER_URL.")
    headers = {"Authorization": f"Bearer {bearer(request)}", "Content-Type": "application/json"}
    if key := request.headers.get("idempotency-key"):
        headers["Idempotency-Key"] = key
    answer = await _hand_over(f"{at.settings.receiver_url.rstrip('/')}/v1/tasks", task, headers)
    return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))


async def _hand_over(url: str, task: NewTask, headers: dict[str, str]) -> httpx.Response:
    """Give the task to the receiver. It hears of new resources a moment after the console, so it is asked again."""
    deadline = clock.monotonic() + _HEARD_OF_SECONDS
    try:
        async with httpx.AsyncClient(timeout=_PATIENCE, trust_env=False) as client:
            while True:
                answer = await client.post(url, content=task.model_dump_json(exclude_none=True), headers=headers)
                if answer.status_code != 422 or clock.monotonic() > deadline:
                    return answer
                await asyncio.sleep(0.25)
    except httpx.HTTPError as error:
        raise unavailable(
            "The webhook-receiver does not answer.", "Try again; with the same idempotency key nothing is done twice."
        ) from error


async def _known(task: NewTask, at: Desk) -> NewTask:
    """Return the task with its agent's own name; refuse what names nothing that exists, and say what does."""
    repositories = await load_all(at.db.pool, Repository, org=at.org)
    agents = await load_all(at.db.pool, Agent, org=at.org)
    if task.repository not in repositories:
        raise _unknown("repository", task.repository, list(repositories), "Apply a Repository resource first.")
    roles = sorted({agent.role for agent in agents.values()})
    if task.role not in roles:
        raise _unknown("role", task.role, roles, "Apply an Agent with that role first.")
    if task.agent is None:
        return task
    named = _called(task.agent, agents)
    if named is None:
        raise _unknown("agent", task.agent, list(agents), "Apply an Agent resource first.")
    if agents[named].role != task.role:
        raise Problem(
            422,
            "invalid_input",
            f"The agent '{named}' has the role '{agents[named].role}', not '{task.role}'.",
            field="agent",
            remedy="Name its role, or another agent.",
        )
    return task.model_copy(update={"agent": named})


def _called(name: str, agents: dict[str, Agent]) -> str | None:
    """Return the agent that people call so: by its name or display name, in any case."""
    wanted = name.casefold()
    return next((key for key, each in agents.items() if wanted in (key.casefold(), each.display_name.casefold())), None)


def _unknown(field: str, name: str, known: list[str], remedy: str) -> Problem:
    have = f"There are: {', '.join(sorted(known)[:20])}. " if known else ""
    return Problem(422, "unknown_" + field, f"There is no {field} '{name}'.", field=field, remedy=have + remedy)


@router.get("/tasks", dependencies=[Depends(reader)])
async def list_tasks(at: At, source: str | None = None, limit: Limit = 50, cursor: str | None = None) -> Page[TaskOut]:
    """List tasks, newest first."""
    return await run_reads.list_tasks(at.db, org=at.org, source=source, limit=limit, cursor=cursor)


@router.get("/tasks/{task}", dependencies=[Depends(reader)])
async def get_task(task: str, at: At) -> TaskDetail:
    """Return a task, by its id or the beginning of one."""
    return await run_reads.one_task(at.db, await resolve(at.db, "task", task, org=at.org))


@router.get("/agents", dependencies=[Depends(reader)])
async def list_agents(at: At) -> Page[AgentOut]:
    """List the agents with their slots and what they are busy with."""
    return Page(items=await agent_reads.agents(at.db, org=at.org))


@router.get("/approvals", dependencies=[Depends(reader)])
async def list_approvals(at: At, state: str | None = None, limit: Limit = 100) -> Page[ApprovalOut]:
    """List approvals, newest first; ``state=pending`` for those that wait."""
    return Page(items=await run_detail.approvals(at.db, org=at.org, state=state, limit=limit))


@router.get("/deliveries", dependencies=[Depends(reader)])
async def list_deliveries(
    at: At, source: str | None = None, outcome: str | None = None, limit: Limit = 50, cursor: str | None = None
) -> Page[DeliveryOut]:
    """List what came in, newest first, with what became of it and why. Refused requests are listed too."""
    return await delivery_reads.list_deliveries(
        at.db, org=at.org, source=source, outcome=outcome, limit=limit, cursor=cursor
    )


@router.get("/deliveries/{delivery}", dependencies=[Depends(reader)])
async def get_delivery(delivery: str, at: At) -> DeliveryDetail:
    """Return one delivery."""
    return await delivery_reads.one_delivery(at.db, await resolve(at.db, "delivery", delivery, org=at.org))
