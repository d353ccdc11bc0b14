"""The values of an attempt's life: what is known of one, how it ended, and what one event changes of it. PURE."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from dispatch_common.events import AttemptOutcome
from dispatch_common.families import ErrorFamily
from dispatch_common.values import ResultRef, Usage


class State(StrEnum):
    """Where an attempt stands."""

    ACCEPTED = "accepted"  #: stored; nothing of it exists anywhere
    LAUNCHING = "launching"  #: one executor prepares and starts it; its supervisor may already live
    RUNNING = "running"  #: its agent's process was seen alive
    COLLECTING = "collecting"  #: its supervisor has left; the executor takes what it kept
    FINISHED = "finished"  #: nothing of it lives; the answer is stored


class Say(StrEnum):
    """Which fact is said about an attempt; what it tells is read from the attempt."""

    PREPARING = "preparing"
    STARTED = "started"
    QUESTION = "question"
    FINISHED = "finished"


class Refusal(StrEnum):
    """Why something an attempt's supervisor says is not taken."""

    FENCED = "fenced"  #: a newer attempt of the run exists
    REVOKED = "revoked"  #: the attempt is over, or its deadline has passed


@dataclass(frozen=True, slots=True)
class Answer:
    """How an attempt ended: the content of its AttemptFinished."""

    outcome: AttemptOutcome
    sentence: str
    family: ErrorFamily | None = None
    next_action: str = ""
    result: ResultRef | None = None
    usage: Usage = field(default_factory=Usage)
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """What the agent asked a person last."""

    id: str
    text: str
    grace_until: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is known of one attempt. ``newest``: the highest fence known of its run; above its own, it is revoked."""

    id: UUID
    run_id: UUID
    fence: int
    state: State = State.ACCEPTED
    executor: str = ""  #: who took it; who holds it, from LAUNCHING on
    newest: int = 0
    deadline: datetime | None = None  #: nothing of it may live after this
    lease_until: datetime | None = None  #: LAUNCHING: at first the executor's hold, then as granted to the supervisor
    stop: str | None = None  #: why it shall end, for people
    base_commit: str | None = None
    question: OpenQuestion | None = None
    answer: Answer | None = None

    @property
    def is_open(self) -> bool:
        return self.state is not State.FINISHED

    @property
    def is_revoked(self) -> bool:
        return self.newest > self.fence

    def but(self, **changes: Any) -> "Attempt":
        """Return it with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Change:
    """What one event does to one attempt. ``ignored`` tells why it does nothing."""

    attempt: Attempt
    says: tuple[Say, ...] = ()
    ignored: str = ""


@dataclass(frozen=True, slots=True)
class Terms:
    """The executor's own patience.

    ``margin``: what passes between a lease's end and the certainty that its supervisor has killed everything; the
    supervisor itself kills before the lease ends.
    """

    lease: timedelta = timedelta(seconds=20)
    hold: timedelta = timedelta(seconds=30)  #: how long a silent executor keeps an attempt that it launches
    margin: timedelta = timedelta(seconds=5)


TERMS: Final = Terms()
