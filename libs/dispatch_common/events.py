"""Every fact that crosses a service boundary, one frozen class each, as CloudEvents 1.0 JSON.

A fact is past tense and self-contained. Grow a class by optional fields; break it by a new class and a ``.v2`` type.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar, Final, Self
from uuid import UUID

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from dispatch_common.errors import MalformedFact
from dispatch_common.families import ErrorFamily
from dispatch_common.lifecycle import RunState
from dispatch_common.values import (
    Actor,
    AgentSpec,
    Ask,
    Grant,
    Judged,
    Pull,
    Reason,
    RepositorySpec,
    ResultRef,
    Stage,
    TaskSnapshot,
    Usage,
    Verdict,
    WakeReason,
    Wanted,
)

_ENVELOPE: Final = ("id", "org", "time", "cause", "traceparent")


class Fact(BaseModel):
    """One fact. ``id`` is what inboxes dedupe by; ``cause`` is the id of the fact that led to it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: ClassVar[str]
    source: ClassVar[str]  #: the service that says it

    id: UUID
    org: str = "default"
    time: AwareDatetime
    cause: UUID | None = None
    traceparent: str | None = None

    @property
    def about(self) -> str:
        """Return the CloudEvents subject: the run or task this fact is about."""
        return str(getattr(self, "run_id", None) or getattr(self, "task_id", None) or self.id)

    @property
    def nats_subject(self) -> str:
        """Return the subject it is published on: its type, then the org."""
        return f"{self.type}.{self.org}"

    def encode(self) -> bytes:
        """Return the CloudEvents JSON document."""
        data = self.model_dump(mode="json", exclude=set(_ENVELOPE))
        head: dict[str, Any] = {
            "specversion": "1.0",
            "id": str(self.id),
            "source": f"/dispatch/{self.source}",
            "type": self.type,
            "subject": self.about,
            "time": self.time.isoformat(),
            "datacontenttype": "application/json",
            "org": self.org,
            "data": data,
        }
        if self.cause is not None:
            head["cause"] = str(self.cause)
        if self.traceparent is not None:
            head["traceparent"] = self.traceparent
        return orjson.dumps(head)

    @classmethod
    def from_envelope(cls, envelope: Mapping[str, Any]) -> Self:
        """Build the fact from a decoded CloudEvents document of this class's type."""
        known = {name: envelope[name] for name in _ENVELOPE if envelope.get(name) is not None}
        return cls.model_validate({**envelope["data"], **known})


class RunFact(Fact):
    """A fact about one run."""

    run_id: UUID


class AttemptFact(RunFact):
    """A fact about one attempt. ``fence`` is the attempt's number; only the newest may write."""

    attempt_id: UUID
    fence: int


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


class AttemptRequested(AttemptFact):
    """The run holds a slot; an executor should start this attempt. Asked again, the executor answers again."""

    type = "dispatch.attempt.requested.v1"
    source = "dispatcher"
    task_id: UUID
    task_version: int
    snapshot: TaskSnapshot
    instruction: str
    wake_reason: WakeReason
    actor: Actor
    agent: AgentSpec
    repository: RepositorySpec | None
    grant: Grant
    continuation: str = ""  #: what the attempt before got done, for the prompt
    deadline: AwareDatetime | None = None  #: the executor lets nothing of the attempt live after this


class AttemptStopAsked(AttemptFact):
    """This attempt shall end now. The executor confirms with AttemptFinished once nothing of it lives."""

    type = "dispatch.attempt.stop-asked.v1"
    source = "dispatcher"
    sentence: str


class PublishRequested(RunFact):
    """This result shall be checked and, if accepted, published. ``revision`` counts publications of a run."""

    type = "dispatch.result.publish-requested.v1"
    source = "dispatcher"
    task_id: UUID
    revision: int
    attempt_id: UUID
    fence: int
    snapshot: TaskSnapshot
    agent: AgentSpec
    repository: RepositorySpec | None
    grant: Grant
    result: ResultRef
    approved_digest: str | None = None  #: the result digest a person approved, path rules included


class PublishStopAsked(RunFact):
    """Effects of this revision that have not begun shall not begin. Confirmed with ResultPublished."""

    type = "dispatch.result.stop-asked.v1"
    source = "dispatcher"
    revision: int
    sentence: str


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


# --- said by the executor ---


class AttemptPreparing(AttemptFact):
    """An executor took the attempt."""

    type = "dispatch.attempt.preparing.v1"
    source = "executor"
    executor: str


class AttemptStarted(AttemptFact):
    """The agent's process is alive."""

    type = "dispatch.attempt.started.v1"
    source = "executor"
    base_commit: str | None = None


class AttemptOutcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"  #: because it was asked to


class AttemptFinished(AttemptFact):
    """Nothing of the attempt lives any more."""

    type = "dispatch.attempt.finished.v1"
    source = "executor"
    outcome: AttemptOutcome
    family: ErrorFamily | None = None
    sentence: str
    result: ResultRef | None = None
    usage: Usage = Usage()
    retry_at: AwareDatetime | None = None  #: when the provider said that trying again can help


class QuestionAsked(AttemptFact):
    """The agent asks a person and waits."""

    type = "dispatch.attempt.question-asked.v1"
    source = "executor"
    question_id: str
    text: str
    grace_until: AwareDatetime


# --- said by the result-publisher ---


class Verification(StrEnum):
    """What the publisher's checks say of a result."""

    ACCEPTED = "accepted"
    NEEDS_APPROVAL = "needs_approval"
    REFUSED = "refused"


class ResultVerified(RunFact):
    """The result was imported and checked. After ACCEPTED the publisher goes on by itself."""

    type = "dispatch.result.verified.v1"
    source = "result-publisher"
    revision: int
    verification: Verification
    reasons: tuple[Reason, ...] = ()
    result_digest: str = ""
    paths: tuple[str, ...] = ()  #: those that want a person


class PublishOutcome(StrEnum):
    """How a publication ended."""

    PUBLISHED = "published"
    NOTHING = "nothing"  #: the attempt changed no file; the work item was told
    FAILED = "failed"
    STOPPED = "stopped"


class ResultPublished(RunFact):
    """Every effect of this revision is done, skipped or given up; none is in flight."""

    type = "dispatch.result.published.v1"
    source = "result-publisher"
    revision: int
    outcome: PublishOutcome
    family: ErrorFamily | None = None
    sentence: str
    pull: Pull | None = None


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
