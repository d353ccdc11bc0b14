"""The facts about attempts: what the dispatcher asks of executors, and what executors report."""

from enum import StrEnum
from uuid import UUID

from pydantic import AwareDatetime

from dispatch_common.fact import AttemptFact
from dispatch_common.families import ErrorFamily
from dispatch_common.values import Actor, AgentSpec, Grant, RepositorySpec, ResultRef, TaskSnapshot, Usage, WakeReason


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
    next_action: str = ""  #: what a person can do about it
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
