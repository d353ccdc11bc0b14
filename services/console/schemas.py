"""What the API answers about tasks, runs, agents and deliveries: stable shapes, documented by the OpenAPI document."""

from typing import Any, Generic, TypeVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from dispatch_common.lifecycle import RunState
from dispatch_common.values import Actor, Grant, Pull, Reason, TaskSnapshot, Usage

T = TypeVar("T")


class Out(BaseModel):
    """An answer."""

    model_config = ConfigDict(frozen=True)


class Page(Out, Generic[T]):
    """One page of a list, newest first. ``next`` goes into ``cursor`` for the page after it."""

    items: list[T]
    next: str | None = None


class TaskOut(Out):
    """A task as it was last read at its source."""

    id: UUID
    source: str
    key: str
    title: str
    url: str
    project: str
    repository: str | None
    labels: tuple[str, ...]
    priority: str
    closed: bool
    version: int
    runs: int
    live_run: UUID | None
    read_at: AwareDatetime
    created_at: AwareDatetime
    updated_at: AwareDatetime


class TaskDetail(TaskOut):
    """A task with all that was read of it."""

    snapshot: TaskSnapshot


class TaskRef(Out):
    """The task of a run."""

    id: UUID
    source: str
    key: str
    title: str
    url: str


class RunOut(Out):
    """A run. ``sentence`` says why it is in its state, ``next_action`` what moves it on."""

    id: UUID
    short: str
    state: RunState
    terminal: bool
    task: TaskRef
    lane: str
    role: str
    agent: str | None
    repository: str | None
    wake_reason: str
    attempt: int
    code: str
    sentence: str
    next_action: str
    created_at: AwareDatetime
    updated_at: AwareDatetime


class StepOut(Out):
    """One step of a run."""

    number: int
    from_state: RunState | None
    to_state: RunState
    code: str
    sentence: str
    next_action: str
    cause: UUID | None
    at: AwareDatetime


class DecisionOut(Out):
    """Policy's answer to one question about a run."""

    id: UUID
    ask: int
    stage: str
    verdict: str
    reasons: list[Reason]
    policy_generation: str
    at: AwareDatetime


class AnswerOut(Out):
    """What somebody said to an approval, and whether it counted."""

    id: UUID
    by: str
    approve: bool
    counted: bool
    sentence: str
    comment: str
    at: AwareDatetime


class ApprovalOut(Out):
    """A request for a person's consent."""

    id: UUID
    run: UUID
    stage: str
    state: str
    requested_by: str
    approvers: list[str]
    reasons: list[Reason]
    answered_by: str | None
    comment: str
    created_at: AwareDatetime
    expires_at: AwareDatetime
    answered_at: AwareDatetime | None
    answers: list[AnswerOut]


class AttemptOut(Out):
    """One execution of a run."""

    id: UUID
    number: int
    state: str
    agent: str
    backend: str
    executor: str
    outcome: str | None
    family: str | None
    sentence: str
    files_changed: int
    summary: str
    usage: Usage
    lease_until: AwareDatetime | None
    last_event_at: AwareDatetime | None
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    finished_at: AwareDatetime | None


class EffectOut(Out):
    """One write to the outside."""

    key: str
    kind: str
    state: str
    target: str
    sentence: str
    revision: int
    tries: int
    created_at: AwareDatetime
    done_at: AwareDatetime | None


class RunDetail(RunOut):
    """A run with everything that is known of it."""

    actor: Actor
    instruction: str
    parent: UUID | None
    family: str | None
    grant: Grant | None
    steps: list[StepOut]
    decisions: list[DecisionOut]
    approvals: list[ApprovalOut]
    attempts: list[AttemptOut]
    effects: list[EffectOut]
    pull: Pull | None
    usage: Usage
    files_changed: int
    summary: str


class BusyWith(Out):
    """A run that holds a slot."""

    run: UUID
    short: str
    key: str
    title: str
    state: RunState
    since: AwareDatetime


class AgentOut(Out):
    """An agent of the catalog and what it does at present."""

    name: str
    display_name: str
    role: str
    status: str
    backend: str
    model: str | None
    skills: tuple[str, ...]
    slots: int
    in_use: int
    draining: int
    runs: list[BusyWith]


class Why(Out):
    """Why a run is where it is, and what moves it on. ``who``: nobody, user, operator or approver."""

    run: UUID
    short: str
    state: RunState
    answer: str
    because: list[Reason]
    next: str
    who: str
    until: AwareDatetime | None = None
    position: int | None = None
    waiting_before: list[str] = Field(default_factory=list[str])
    agents: list[AgentOut] = Field(default_factory=list[AgentOut])


class Accepted(Out):
    """The wish was taken; ``sentence`` says what happens next."""

    run: UUID
    state: RunState
    sentence: str
    answer: UUID | None = None  #: how an answer to an approval is found among the approval's answers


class DeliveryOut(Out):
    """One inbound request and what became of it."""

    id: UUID
    source: str
    provider: str
    event: str
    state: str
    outcome: str | None
    sentence: str
    object_id: str
    actor_id: str
    task: UUID | None
    runs: list[str]
    received_at: AwareDatetime


class DeliveryDetail(DeliveryOut):
    """A delivery with its headers; secrets among them are not kept."""

    external_id: str
    headers: dict[str, Any]
    size: int
    tries: int
