"""Every fact that crosses a service boundary, one frozen class each. Those about attempts stand in ``events_attempt``.

A fact is past tense and self-contained. Grow a class by optional fields; break it by a new class and a ``.v2`` type.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import orjson
from pydantic import AwareDatetime, ValidationError

from dispatch_common.errors import MalformedFact
from dispatch_common.events_attempt import (
    AttemptFinished,
    AttemptOutcome,
    AttemptPreparing,
    AttemptRequested,
    AttemptStarted,
    AttemptStopAsked,
    QuestionAsked,
)
from dispatch_common.events_result import (
    PublishOutcome,
    PublishRequested,
    PublishStopAsked,
    ResultPublished,
    ResultVerified,
    Verification,
)
from dispatch_common.fact import AttemptFact, Fact, RunFact
from dispatch_common.families import ErrorFamily
from dispatch_common.lifecycle import RunState
from dispatch_common.values import (
    Actor,
    Ask,
    Grant,
    Judged,
    Reason,
    Stage,
    TaskSnapshot,
    Verdict,
    Wanted,
)

__all__ = [
    "FACTS",
    "AnswerGiven",
    "ApprovalAnswered",
    "ApprovalDecided",
    "ApprovalOutcome",
    "AttemptFact",
    "AttemptFinished",
    "AttemptOutcome",
    "AttemptPreparing",
    "AttemptRequested",
    "AttemptStarted",
    "AttemptStopAsked",
    "CancelAsked",
    "DeliveryDecided",
    "DeliveryOutcome",
    "Fact",
    "PolicyAsked",
    "PolicyDecided",
    "PublishOutcome",
    "PublishRequested",
    "PublishStopAsked",
    "QuestionAsked",
    "ResourceApplied",
    "ResultPublished",
    "ResultVerified",
    "RunEnded",
    "RunFact",
    "TaskReceived",
    "Verification",
    "decode",
]


# --- said by the webhook-receiver ---


class TaskReceived(Fact):
    """A verified delivery (or several, coalesced) led to a fresh reading of a task at its source."""

    type = "dispatch.task.received.v1"
    source = "webhook-receiver"
    delivery_ids: tuple[UUID, ...]
    snapshot: TaskSnapshot
    wanted: tuple[Wanted, ...] = ()
    asks: tuple[Ask, ...] = ()
    actor: Actor
    may_start: bool
    refusal: str = ""  #: why the actor may not start a run, for people


# --- said by the dispatcher ---


class DeliveryOutcome(StrEnum):
    """What became of a delivery."""

    CREATED = "created"
    COALESCED = "coalesced"
    CANCELLED = "cancelled"
    IGNORED = "ignored"
    REFUSED = "refused"


class DeliveryDecided(Fact):
    """The dispatcher has taken a TaskReceived and says what became of it."""

    type = "dispatch.delivery.decided.v1"
    source = "dispatcher"
    delivery_ids: tuple[UUID, ...]
    outcome: DeliveryOutcome
    sentence: str
    task_id: UUID | None = None
    run_ids: tuple[UUID, ...] = ()


class PolicyAsked(RunFact):
    """May this run go on? ``ask`` numbers the questions of a run; the answer repeats it."""

    type = "dispatch.run.policy-asked.v1"
    source = "dispatcher"
    ask: int
    stage: Stage
    judged: Judged


class RunEnded(RunFact):
    """A run reached a terminal state."""

    type = "dispatch.run.ended.v1"
    source = "dispatcher"
    task_id: UUID
    state: RunState
    family: ErrorFamily | None = None
    sentence: str
    next_action: str = ""
    snapshot: TaskSnapshot
    agent: str | None = None
    attempts: int = 0


# --- said by policy ---


class PolicyDecided(RunFact):
    """Policy's answer to one PolicyAsked; the same ask gets the same answer."""

    type = "dispatch.run.policy-decided.v1"
    source = "policy"
    ask: int
    stage: Stage
    decision_id: UUID
    verdict: Verdict
    reasons: tuple[Reason, ...]
    grant: Grant | None = None  #: for allow
    digest: str = ""
    approval_id: UUID | None = None  #: for escalate: the approval that is waited for
    expires_at: AwareDatetime | None = None


class ApprovalOutcome(StrEnum):
    """How an approval ended."""

    GRANTED = "granted"
    REFUSED = "refused"
    EXPIRED = "expired"


class ApprovalDecided(RunFact):
    """An approval that policy asked for has ended."""

    type = "dispatch.run.approval-decided.v1"
    source = "policy"
    approval_id: UUID
    outcome: ApprovalOutcome
    by: Actor | None = None
    sentence: str


# --- said by the console ---


class ApprovalAnswered(RunFact):
    """A person answered an approval. Policy decides whether that person's answer counts."""

    type = "dispatch.run.approval-answered.v1"
    source = "console"
    approval_id: UUID
    approve: bool
    by: Actor
    comment: str = ""


class CancelAsked(RunFact):
    """Somebody wants the run to stop."""

    type = "dispatch.run.cancel-asked.v1"
    source = "console"
    by: Actor
    comment: str = ""


class AnswerGiven(RunFact):
    """A person answered an agent's question."""

    type = "dispatch.run.answer-given.v1"
    source = "console"
    question_id: str
    text: str
    by: Actor


class ResourceApplied(Fact):
    """A resource was created, changed or (``spec`` None) deleted."""

    type = "dispatch.resource.applied.v1"
    source = "console"
    kind: str
    name: str
    generation: int
    spec: dict[str, Any] | None


def _leaves(cls: type[Fact]) -> Iterator[type[Fact]]:
    for sub in cls.__subclasses__():
        if "type" in sub.__dict__:
            yield sub
        yield from _leaves(sub)


#: Every fact class by its type.
FACTS: Final[Mapping[str, type[Fact]]] = MappingProxyType({cls.type: cls for cls in _leaves(Fact)})


def decode(raw: bytes) -> Fact:
    """Return the fact in a CloudEvents document; MalformedFact when it is none of ours."""
    try:
        envelope = orjson.loads(raw)
        return FACTS[envelope["type"]].from_envelope(envelope)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise MalformedFact(f"not a fact: {error}") from error
