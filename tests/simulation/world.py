"""The state of a whole system at one moment: the services' tables, what is under way, what lives and stands."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from agent_runner.lease import Lease
from dispatch_common.events import (
    ApprovalAnswered,
    AttemptRequested,
    AttemptStopAsked,
    DeliveryDecided,
    Fact,
    PolicyAsked,
    PolicyDecided,
    PublishRequested,
    PublishStopAsked,
    ResultPublished,
    ResultVerified,
    RunEnded,
)
from dispatch_common.invariants import ALWAYS, AcceptedSeen, DemandSeen, EffectSeen, Invariant, StepSeen
from services.dispatcher.run import Rules, Run, Task
from services.executor.attempt import Attempt, Terms
from services.policy.approval import Approval
from services.policy.question import Policies
from services.result_publisher.protocol import Effect, Kind
from tests.simulation.parts import Parts

START: Final = datetime(2026, 11, 21, 8, tzinfo=UTC)

RULES: Final = Rules(recheck=timedelta(seconds=30), longest_recheck=timedelta(hours=2))
TERMS: Final = Terms(lease=timedelta(seconds=60), hold=timedelta(seconds=60), margin=timedelta(seconds=5))

Action = tuple[Any, ...]
Name = tuple[UUID, int]


@dataclass(frozen=True, slots=True)
class Item:
    """A work item at its source, as people see it."""

    labels: tuple[str, ...]
    version: int = 1
    closed: bool = False
    asks: int = 0
    readings: int = 0


@dataclass(frozen=True, slots=True)
class Supervisor:
    """A supervisor and its agent, as they really are. ``lease`` None: it has none yet, and no agent lives."""

    lease: Lease | None = None
    asked_at: datetime | None = None  #: when it asked for its lease last
    is_alive: bool = True
    is_frozen: bool = False
    told: bool = False  #: its start was reported
    stops: bool = False  #: it heard that it shall end
    asked: int = 0  #: questions asked
    waits: bool = False  #: for an answer to the last one
    result: str | None = None  #: the agent ended with this, and the result is on disk
    has_reported: bool = False

    @property
    def works(self) -> bool:
        """Whether the agent really lives and can do something."""
        return self.is_alive and self.lease is not None and self.result is None and not self.is_frozen


@dataclass(frozen=True, slots=True)
class Publication:
    """One row of the publisher, and what its worker holds in memory: a write intended, or written and not recorded."""

    request: PublishRequested | RunEnded | PublishStopAsked
    wanted: tuple[Kind, ...] = ()
    state: str = "asked"
    verified: ResultVerified | None = None
    answer: ResultPublished | None = None
    stop: bool = False
    effects: tuple[Effect, ...] = ()
    hand: tuple[Any, ...] = ()
    leased_until: datetime | None = None
    lands_late: Kind | None = None


@dataclass(frozen=True)
class Setting:
    """What a world is like: its agents, its people, what can go wrong and how often."""

    slots: tuple[tuple[str, int, str], ...] = (("vega", 1, "coder"),)
    items: tuple[tuple[str, tuple[str, ...]], ...] = (("one", ("coder",)),)
    provider: str = "api"
    careful: bool = False  #: policy wants a person for every launch
    outcomes: tuple[str, ...] = ("clean",)  #: what agents come to; all but the first is a misfortune
    misfortune: tuple[tuple[str, int], ...] = ()  #: what can happen, how often
    rules: Rules = RULES
    terms: Terms = TERMS
    parts: Parts = field(default_factory=Parts)
    policies: Policies = field(default_factory=Policies)
    promises: tuple[Invariant, ...] = ALWAYS


_TABLES: Final = (
    "budget", "items", "flying", "lost", "tasks", "runs", "slots", "decisions", "approvals", "unheard", "attempts",
    "requests", "starting", "supervisors", "publications", "steps",
)  # fmt: skip


class World:
    """Mutable while one action is performed on a fresh copy of it; never changed afterwards."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.now = START
        self.order = 0
        self.budget: dict[str, int] = dict(setting.misfortune)
        self.items: dict[str, Item] = {}
        self.flying: dict[tuple[str, UUID], Fact] = {}
        self.lost: dict[tuple[str, UUID], Fact] = {}
        self.taken: frozenset[tuple[str, UUID]] = frozenset()
        self.tasks: dict[UUID, Task] = {}
        self.runs: dict[UUID, Run] = {}
        self.slots: dict[tuple[str, int], UUID | None] = {(name, number): None for name, number, _ in setting.slots}
        self.decisions: dict[Name, PolicyDecided | PolicyAsked | None] = {}  # None: nobody's question any more
        self.approvals: dict[UUID, tuple[Approval, ...]] = {}
        self.unheard: dict[UUID, tuple[Any, datetime, int]] = {}
        self.attempts: dict[UUID, Attempt] = {}
        self.requests: dict[UUID, AttemptRequested | AttemptStopAsked] = {}
        self.starting: dict[UUID, bool] = {}
        self.supervisors: dict[UUID, Supervisor] = {}
        self.publications: dict[Name, Publication] = {}
        self.steps: dict[UUID, tuple[StepSeen, ...]] = {}
        self.outside: tuple[EffectSeen, ...] = ()
        self.accepted: tuple[AcceptedSeen, ...] = ()
        self.demands: tuple[DemandSeen, ...] = ()

    def copy(self) -> "World":
        other = World.__new__(World)
        other.__dict__.update(self.__dict__)
        for table in _TABLES:
            setattr(other, table, dict(getattr(self, table)))
        other.order += 1
        return other

    @property
    def parts(self) -> Parts:
        return self.setting.parts

    @property
    def moment(self) -> datetime:
        """Return now, told apart from other actions at the same time. Only for what nobody decides by."""
        return self.now + timedelta(microseconds=self.order)

    # --- facts ---

    def say(self, *facts: Fact) -> None:
        """Commit facts and hand them to the network. A crash before they are published is a delay, no more."""
        for fact in facts:
            for service in hearers(fact):
                self.flying[service, fact.id] = fact

    def spend(self, what: str) -> None:
        """Note that a misfortune happened once more."""
        self.budget[what] -= 1

    def can(self, what: str) -> bool:
        return self.budget.get(what, 0) > 0


def hearers(fact: Fact) -> tuple[str, ...]:
    """Return who hears a fact, as the services' charters say."""
    match fact:
        case PolicyAsked() | ApprovalAnswered():
            return ("policy",)
        case AttemptRequested() | AttemptStopAsked():
            return ("executor",)
        case PublishRequested() | PublishStopAsked() | RunEnded():
            return ("publisher",)
        case DeliveryDecided():
            return ()
        case _:
            return ("dispatcher",)


def with_row(table: dict[Any, Any], key: Any, **changes: Any) -> None:
    """Replace a row by one with some fields changed."""
    table[key] = replace(table[key], **changes)
