"""The dispatcher's values: a Task, a Run, and what one fact changes of them. Frozen; no behaviour beyond derivation."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from pydantic import AwareDatetime

from dispatch_common.events import Fact
from dispatch_common.families import ErrorFamily
from dispatch_common.lifecycle import HOLDS_SLOT, TERMINAL, RunState
from dispatch_common.values import (
    Actor,
    AgentSpec,
    Ask,
    Grant,
    Judged,
    Priority,
    Pull,
    RepositorySpec,
    ResultRef,
    Stage,
    TaskSnapshot,
    Value,
    WakeReason,
)

#: How long a more urgent task may overtake: the head start, so that order never needs rewriting and nothing starves.
HEAD_START: Final = {
    Priority.URGENT: timedelta(hours=24),
    Priority.HIGH: timedelta(hours=4),
    Priority.MEDIUM: timedelta(hours=1),
    Priority.LOW: timedelta(minutes=10),
    Priority.NONE: timedelta(0),
}


class Task(Value):
    """The unit of work as last read. ``wanted`` and ``asks_seen`` are keys, so that each edge counts once."""

    id: UUID
    org: str
    version: int
    snapshot: TaskSnapshot
    wanted: tuple[str, ...] = ()
    asks_seen: tuple[str, ...] = ()


class Run(Value):
    """One dispatch of a task. ``attempt`` is the newest fence; ``attempt_id`` is set while the run holds a slot."""

    id: UUID
    org: str
    task_id: UUID
    lane: str
    state: RunState = RunState.REQUESTED
    version: int = 1  #: counts steps; guards the row
    task_version: int
    trigger: str  #: the key of the Wanted or Ask that made it
    role: str
    wanted_agent: str | None = None
    instruction: str = ""
    wake_reason: WakeReason
    actor: Actor
    parent: UUID | None = None  #: the run this one follows up
    traceparent: str | None = None  #: of the fact that made it; every fact about it stays in that trace
    pending: tuple[Ask, ...] = ()  #: asks that came while an agent was at work; they make the follow-up

    ask: int = 1
    stage: Stage = Stage.LAUNCH
    grant: Grant | None = None
    approval_id: UUID | None = None

    queued_at: AwareDatetime | None = None
    attempt: int = 0
    attempt_id: UUID | None = None
    last_attempt_id: UUID | None = None
    deadline: AwareDatetime | None = None  #: the executor lets nothing of the attempt live after this
    agent: AgentSpec | None = None
    repository: RepositorySpec | None = None
    failures: int = 0  #: attempts that count against max_attempts
    setbacks: int = 0  #: failures that do not (quota, overload)
    question_id: str | None = None
    answered: bool = False

    result: ResultRef | None = None
    revision: int = 0
    result_digest: str | None = None
    approved_digest: str | None = None
    paths: tuple[str, ...] = ()
    pull: Pull | None = None

    stop: str | None = None  #: why it is being stopped, for people
    stop_to: RunState = RunState.CANCELLED
    family: ErrorFamily | None = None
    wake_at: AwareDatetime | None = None
    checks: int = 0  #: how often silence was answered by asking again, since the last step
    next_check: AwareDatetime | None = None

    @property
    def terminal(self) -> bool:
        return self.state in TERMINAL

    @property
    def holds_slot(self) -> bool:
        return self.attempt_id is not None and (self.state in HOLDS_SLOT or self.state is RunState.CANCELLING)

    @property
    def line(self) -> str:
        """Return the queue it stands in."""
        return f"{self.role}@{self.wanted_agent}" if self.wanted_agent else self.role

    def judged(self, task: Task) -> Judged:
        """Return what policy is asked about."""
        snapshot = task.snapshot
        publish = self.stage is Stage.PUBLISH
        return Judged(
            task_id=task.id,
            task_version=self.task_version,
            source=snapshot.source,
            provider=snapshot.provider,
            project=snapshot.project,
            key=snapshot.key,
            title=snapshot.title,
            labels=snapshot.labels,
            priority=snapshot.priority,
            trust=snapshot.trust,
            role=self.role,
            agent=self.wanted_agent,
            repository=snapshot.repository,
            instruction=self.instruction,
            wake_reason=self.wake_reason,
            actor=self.actor,
            result_digest=self.result_digest if publish else None,
            paths=self.paths if publish else (),
        )

    def sort_key(self, priority: Priority) -> int:
        """Return its place in the queue, in microseconds; smaller is earlier."""
        start = self.queued_at or datetime.fromtimestamp(0).astimezone()
        return int((start - HEAD_START[priority]).timestamp() * 1_000_000)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the audit: what a person reads about it, and the fact that caused it."""

    source: RunState | None
    to: RunState
    code: str
    sentence: str
    next_action: str = ""
    cause: UUID | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What one fact does to one run: the new run, its steps, what is said, or why nothing happened."""

    run: Run
    steps: tuple[Step, ...] = ()
    says: tuple[Fact, ...] = ()
    ignored: str = ""
    follow_up: Run | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """The dispatcher's own patience. Attempts are bounded by the grant."""

    recheck: timedelta = timedelta(seconds=30)
    longest_recheck: timedelta = timedelta(minutes=5)
    most_setbacks: int = 20
    #: Besides its wall clock, how long an attempt may wait for its executor and for its workspace.
    start_within: timedelta = timedelta(minutes=30)
    #: After an attempt's deadline, the time in which it has surely ended and its end was reported.
    deadline_margin: timedelta = timedelta(minutes=5)
