"""What each fact does to a run: the whole protocol from the dispatcher's side. No I/O, no clock, no randomness.

A later fact implies the earlier ones, since order is not promised; older fences, older questions and terminal runs are
answered with a Change that changes nothing and says why.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from dispatch_common.events import (
    AnswerGiven,
    ApprovalDecided,
    AttemptFinished,
    AttemptPreparing,
    AttemptStarted,
    CancelAsked,
    Fact,
    PolicyDecided,
    QuestionAsked,
    ResultPublished,
    ResultVerified,
)
from dispatch_common.families import ErrorFamily
from dispatch_common.lifecycle import FOLLOWS_TASK, HOLDS_SLOT, IN_PUBLISHER, RunState
from dispatch_common.values import AgentSpec, Ask, RepositorySpec, Stage
from services.dispatcher import consent, ending, publication
from services.dispatcher.draft import Draft, ignored
from services.dispatcher.run import Change, Rules, Run, Task

_S = RunState


class TaskMove(StrEnum):
    """What became of the task under a live run."""

    CHANGED = "changed"
    CLOSED = "closed"
    UNWANTED = "unwanted"
    SUPERSEDED = "superseded"


def is_label(key: str) -> bool:
    """Return whether a demand's key stands for a label, which can be taken back."""
    return key.startswith("label:")


@dataclass(frozen=True, slots=True)
class TaskMoved:
    """The run's task was changed, closed, or does not ask for it any more."""

    move: TaskMove
    sentence: str
    asks: tuple[Ask, ...] = ()


@dataclass(frozen=True, slots=True)
class SlotClaimed:
    """A slot was found for a queued run."""

    attempt_id: UUID
    agent: AgentSpec
    repository: RepositorySpec | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Overdue:
    """Nothing was heard of the run until its next check."""


Incoming = (
    PolicyDecided
    | ApprovalDecided
    | AttemptPreparing
    | AttemptStarted
    | AttemptFinished
    | QuestionAsked
    | AnswerGiven
    | ResultVerified
    | ResultPublished
    | CancelAsked
    | TaskMoved
    | SlotClaimed
    | Overdue
)


def decide(run: Run, task: Task, incoming: Incoming, *, cause: Fact | None, now: datetime, rules: Rules) -> Change:
    """Return what ``incoming`` does to ``run``. Total: it has an answer for every fact in every state."""
    if run.terminal:
        return ignored(run, f"the run is {run.state}")
    draft = Draft(run, task, cause, now=now, rules=rules)
    why = _apply(draft, incoming, rules)
    return ignored(run, why) if why else draft.done()


def _apply(draft: Draft, incoming: Incoming, rules: Rules) -> str:  # noqa: C901 - one case per fact, each one line
    match incoming:
        case PolicyDecided():
            return consent.policy_decided(draft, incoming)
        case ApprovalDecided():
            return consent.approval_decided(draft, incoming)
        case SlotClaimed():
            return _slot_claimed(draft, incoming, rules)
        case AttemptPreparing() | AttemptStarted() | QuestionAsked():
            return _attempt_went_on(draft, incoming)
        case AnswerGiven():
            return _answer_given(draft, incoming)
        case AttemptFinished():
            return ending.attempt_finished(draft, incoming, rules)
        case ResultVerified():
            return publication.result_verified(draft, incoming, rules)
        case ResultPublished():
            return publication.result_published(draft, incoming)
        case CancelAsked():
            who = incoming.by.name or incoming.by.id
            comment = f": {incoming.comment}" if incoming.comment else "."
            return _stop(draft, _S.CANCELLED, "run.cancelled", f"{who} cancelled it{comment}")
        case TaskMoved():
            return _task_moved(draft, incoming)
        case Overdue():
            return _overdue(draft, rules)


def _slot_claimed(draft: Draft, claimed: SlotClaimed, rules: Rules) -> str:
    run = draft.run
    if run.state is not _S.QUEUED or run.grant is None:
        return f"a slot was claimed for a run that is {run.state}"
    wall = run.grant.limits.wall_seconds
    draft.move(
        _S.ASSIGNED,
        "slot.claimed",
        claimed.sentence,
        "The executor prepares it.",
        attempt=run.attempt + 1,
        attempt_id=claimed.attempt_id,
        last_attempt_id=claimed.attempt_id,
        agent=claimed.agent,
        repository=claimed.repository,
        deadline=draft.now + rules.start_within + timedelta(seconds=wall),
        question_id=None,
        answered=False,
        wake_at=None,
    )
    draft.request_attempt()
    return ""


def _attempt_went_on(draft: Draft, fact: AttemptPreparing | AttemptStarted | QuestionAsked) -> str:
    run = draft.run
    if fact.fence != run.attempt or run.state not in HOLDS_SLOT:
        return f"attempt {fact.fence} reported to a run that is {run.state} with attempt {run.attempt}"
    agent = run.agent.name if run.agent else "The agent"
    match fact:
        case AttemptPreparing() if run.state is _S.ASSIGNED:
            draft.move(_S.PREPARING, "attempt.preparing", f"Executor {fact.executor} prepares the workspace.")
        case AttemptStarted() if run.state in (_S.ASSIGNED, _S.PREPARING):
            draft.move(_S.RUNNING, "attempt.started", f"{agent} is at work.")
        case QuestionAsked() if run.question_id != fact.question_id:
            if run.state is _S.AWAITING_ANSWER:
                return "the agent already waits for an answer"
            action = f"Answer with: dispatch answer {run.id.hex[:8]}"
            draft.set(question_id=fact.question_id, answered=False, wake_at=fact.grace_until)
            draft.move(_S.AWAITING_ANSWER, "attempt.question", f"{agent} asks: {fact.text}", action)
        case _:
            return f"the run is already {run.state}"
    return ""


def _answer_given(draft: Draft, fact: AnswerGiven) -> str:
    run = draft.run
    if run.question_id != fact.question_id or run.answered:
        return "no such question is open"
    if run.state not in (_S.AWAITING_ANSWER, _S.PARKED, _S.QUEUED, _S.REQUESTED):
        return f"an answer came to a run that is {run.state}"
    # The agent that asked may be gone before it reads this; whoever comes after it starts with the answer.
    draft.set(answered=True, instruction=_joined(run.instruction, fact.text))
    who = fact.by.name or fact.by.id
    if run.state is _S.AWAITING_ANSWER:
        draft.move(_S.RUNNING, "attempt.answered", f"{who} answered.", wake_at=None)
    elif run.state is _S.PARKED:
        draft.move(_S.QUEUED, "attempt.answered", f"{who} answered; the work goes on.", wake_at=None)
    return ""


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)


def _task_moved(draft: Draft, moved: TaskMoved) -> str:
    run = draft.run
    if moved.move is not TaskMove.CHANGED:
        if run.state is _S.CANCELLING and run.pending:
            unwanted = moved.move is TaskMove.UNWANTED
            draft.set(pending=tuple(ask for ask in run.pending if unwanted and not is_label(ask.key)))
            return ""
        to = _S.SUPERSEDED if moved.move is TaskMove.SUPERSEDED else _S.CANCELLED
        return _stop(draft, to, f"task.{moved.move}", moved.sentence)
    known = {ask.key for ask in run.pending}
    new = tuple(ask for ask in moved.asks if ask.key not in known)
    if run.state not in FOLLOWS_TASK:
        if not new:
            return "an agent is at work on the version it began with"
        draft.set(pending=run.pending + new)
        return ""
    if run.stage is Stage.PUBLISH:
        # No agent will read it for this result, which is there already; the follow-up does.
        draft.set(pending=run.pending + new)
    else:
        draft.set(instruction=_joined(run.instruction, *(ask.instruction for ask in new)))
    draft.set(task_version=draft.task.version, approval_id=None)
    if run.state is not _S.REQUESTED:
        draft.move(_S.REQUESTED, "task.changed", moved.sentence, "Policy judges the new version.", wake_at=None)
    draft.ask_policy()
    return ""


def _stop(draft: Draft, to: RunState, code: str, sentence: str) -> str:
    run = draft.run
    family = ErrorFamily.SUPERSEDED if to is _S.SUPERSEDED else ErrorFamily.CANCELLED
    if run.state in FOLLOWS_TASK:
        draft.move(to, code, sentence, family=family, pending=())
        return ""
    if run.state is _S.CANCELLING:
        return "it is already being stopped"
    was_in_publisher = run.state in IN_PUBLISHER
    draft.set(stop=sentence, stop_to=to, family=family, pending=())
    draft.move(_S.CANCELLING, code, sentence, "It ends once the stop is confirmed.")
    if was_in_publisher:
        draft.stop_publication()
    else:
        draft.stop_attempt()
    return ""


def _overdue(draft: Draft, rules: Rules) -> str:
    run = draft.run
    draft.set(checks=run.checks + 1)
    if run.holds_slot and run.deadline is not None and draft.now >= run.deadline + rules.deadline_margin:
        return ending.lost(draft, rules)
    match run.state:
        case _S.REQUESTED:
            draft.ask_policy(again=True)
        case _S.AWAITING_APPROVAL:
            draft.ask_policy()
        case _S.ASSIGNED | _S.PREPARING | _S.RUNNING:
            draft.request_attempt()
        case _S.AWAITING_ANSWER:
            draft.stop_attempt()
        case _S.VERIFYING | _S.PUBLISHING:
            draft.request_publication()
        case _S.CANCELLING if run.attempt_id is not None:
            draft.stop_attempt()
        case _S.CANCELLING:
            draft.stop_publication()
        case _S.PARKED if run.wake_at is not None and run.wake_at <= draft.now:
            draft.move(_S.QUEUED, "run.woken", "The wait is over.", queued_at=run.queued_at or draft.now, wake_at=None)
        case _:
            return f"a run that is {run.state} waits for no answer"
    return ""
