"""Why a run is where it is, what moves it on, and who must act: from its steps, decisions and attempts. PURE."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from dispatch_common.families import TREATMENT, Actor, ErrorFamily
from dispatch_common.lifecycle import RunState
from dispatch_common.values import Reason
from dispatch_common.view import RunBody
from services.console.schemas import AgentOut, ApprovalOut, RunDetail, Why

_S = RunState

#: What moves a run on when its last step did not say, and who that waits for.
_NEXT: Final[dict[RunState, tuple[str, Actor]]] = {
    _S.REQUESTED: ("Policy decides; it is asked again if it stays silent.", Actor.NOBODY),
    _S.AWAITING_APPROVAL: ("An approver answers.", Actor.APPROVER),
    _S.QUEUED: ("It starts as soon as an agent has a free slot.", Actor.NOBODY),
    _S.ASSIGNED: ("The executor prepares the workspace.", Actor.NOBODY),
    _S.PREPARING: ("The agent starts once the workspace is ready.", Actor.NOBODY),
    _S.RUNNING: ("It goes on when the agent ends, or when its time is over.", Actor.NOBODY),
    _S.AWAITING_ANSWER: ("Somebody answers the agent's question.", Actor.USER),
    _S.VERIFYING: ("The publisher checks the result.", Actor.NOBODY),
    _S.PUBLISHING: ("The publisher writes branch, pull request and work item.", Actor.NOBODY),
    _S.PARKED: ("It is queued again when its wait is over.", Actor.NOBODY),
    _S.CANCELLING: ("It ends once the stop is confirmed.", Actor.NOBODY),
    _S.COMPLETED: ("Nothing more happens.", Actor.NOBODY),
    _S.FAILED: ("Nothing more happens by itself.", Actor.OPERATOR),
    _S.DENIED: ("Nothing more happens by itself.", Actor.APPROVER),
    _S.CANCELLED: ("Nothing more happens.", Actor.NOBODY),
    _S.SUPERSEDED: ("Nothing more happens; a newer run took its place.", Actor.NOBODY),
}


def why(
    run: RunDetail,
    body: RunBody,
    *,
    now: datetime,
    position: int | None = None,
    before: Sequence[str] = (),
    agents: Sequence[AgentOut] = (),
) -> Why:
    """Return the answer to "why is this run where it is?"."""
    fitting = [agent for agent in agents if fits(agent, body)]
    move, who = _NEXT[run.state]
    if run.state is _S.FAILED and body.family is not None:
        who = TREATMENT[body.family].acts
    return Why(
        run=run.id,
        short=run.short,
        state=run.state,
        answer=_answer(run, body, fitting, position, now),
        because=_because(run),
        next=_next(run, body, fitting) or run.next_action or move,
        who=_who(run, body, fitting, who).value,
        until=_until(run, body),
        position=position if run.state is _S.QUEUED else None,
        waiting_before=list(before) if run.state is _S.QUEUED else [],
        agents=fitting if run.state is _S.QUEUED else [],
    )


def fits(agent: AgentOut, body: RunBody) -> bool:
    """Tell whether an agent could take the run: its role, and its name when one was asked for."""
    if body.wanted_agent is not None:
        return agent.name == body.wanted_agent
    return agent.role == body.role and agent.status == "active"


def _answer(run: RunDetail, body: RunBody, agents: Sequence[AgentOut], position: int | None, now: datetime) -> str:
    match run.state:
        case _S.QUEUED:
            return _queued(body, agents, position)
        case _S.AWAITING_APPROVAL:
            return f"It waits for a person's approval. {run.sentence}".strip()
        case _S.AWAITING_ANSWER:
            return f"It waits for an answer. {run.sentence}".strip()
        case _S.PARKED if body.wake_at is not None:
            return f"It waits {until(body.wake_at, now)}. {run.sentence}".strip()
        case _S.PARKED:
            return f"It waits without a slot. {run.sentence}".strip()
        case _:
            return run.sentence or f"It is {run.state.value.replace('_', ' ')}."


def _queued(body: RunBody, agents: Sequence[AgentOut], position: int | None) -> str:
    whom = f"the agent '{body.wanted_agent}'" if body.wanted_agent else f"an agent with the role '{body.role}'"
    if not agents:
        return f"It waits for {whom}, and there is none that takes work."
    line = "" if position is None else " It is next in line." if position == 0 else f" {_runs(position)} before it."
    free = [agent for agent in agents if agent.in_use < agent.slots]
    if free:
        return f"It waits for {whom}; {_names(free)} {'has' if len(free) == 1 else 'have'} a free slot.{line}"
    busy = "; ".join(_busy(agent) for agent in agents[:3])
    return f"It waits for {whom}; every slot is taken: {busy}.{line}"


def _busy(agent: AgentOut) -> str:
    if not agent.runs:
        return f"{agent.name} ({agent.in_use}/{agent.slots})"
    with_what = ", ".join(f"{each.short} {each.key} ({each.state.value})" for each in agent.runs[:3])
    return f"{agent.name} ({agent.in_use}/{agent.slots}) with {with_what}"


def _because(run: RunDetail) -> list[Reason]:
    """Return the reasons that stand behind the state: policy's own where it decided, else the last step's."""
    if run.code.startswith(("policy.", "approval.")) and run.decisions:
        return list(run.decisions[-1].reasons)
    if run.state is _S.AWAITING_APPROVAL and (open_one := pending(run)) is not None:
        return list(open_one.reasons)
    return [Reason(code=run.code, sentence=run.sentence, next_action=run.next_action)] if run.code else []


def pending(run: RunDetail) -> ApprovalOut | None:
    """Return the approval that the run waits for."""
    waiting = [approval for approval in run.approvals if approval.state == "pending"]
    return waiting[-1] if waiting else None


def _next(run: RunDetail, body: RunBody, agents: Sequence[AgentOut]) -> str:
    if run.state is _S.QUEUED and not agents:
        if body.wanted_agent is not None:
            return f"Apply an Agent named '{body.wanted_agent}', or make it active; 'dispatch get agents' lists them."
        return (
            f"Apply an active Agent with the role '{body.role}', or make one active; 'dispatch get agents' lists them."
        )
    if run.state is _S.AWAITING_APPROVAL and (approval := pending(run)) is not None:
        people = f" ({', '.join(approval.approvers)})" if approval.approvers else ""
        return f"An approver{people} runs: dispatch approve {run.short}, or dispatch deny {run.short}"
    if run.state is _S.FAILED and not run.next_action:
        return "Mend the cause and ask again."
    return ""


def _who(run: RunDetail, body: RunBody, agents: Sequence[AgentOut], usual: Actor) -> Actor:
    if run.state is _S.QUEUED and not agents:
        return Actor.OPERATOR
    if run.state is _S.PARKED and body.question_id is not None and body.wake_at is None:
        return Actor.USER
    if run.state is _S.DENIED and body.family is ErrorFamily.APPROVAL_EXPIRED:
        return Actor.USER
    return usual


def _until(run: RunDetail, body: RunBody) -> datetime | None:
    match run.state:
        case _S.PARKED | _S.AWAITING_ANSWER:
            return body.wake_at
        case _S.AWAITING_APPROVAL:
            approval = pending(run)
            return approval.expires_at if approval else None
        case _S.ASSIGNED | _S.PREPARING | _S.RUNNING | _S.CANCELLING:
            return body.deadline
        case _:
            return None


def until(moment: datetime, now: datetime) -> str:
    """Return a moment as people say it: for 40 s, for 5 min, until 14:30 UTC."""
    seconds = (moment - now).total_seconds()
    if seconds <= 0:
        return "a moment longer"
    if seconds < 90:
        return f"{seconds:.0f} s longer"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min longer"
    return f"until {moment:%Y-%m-%d %H:%M} UTC"


def _runs(count: int) -> str:
    return "1 run stands" if count == 1 else f"{count} runs stand"


def _names(agents: Sequence[AgentOut]) -> str:
    return ", ".join(agent.name for agent in agents[:3])
