"""The values of the publication protocol: effects, what is seen and answered outside, and the moves between. PURE."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final
from uuid import UUID

from dispatch_common.events import PublishOutcome
from dispatch_common.ids import short


class Kind(StrEnum):
    """One kind of write to the outside, in the order they happen."""

    BRANCH = "branch"
    PULL = "pull"
    COMMENT = "comment"
    LINK = "link"
    STATE = "state"


class EffectState(StrEnum):
    """What is recorded of an effect. An effect that is not recorded has not begun."""

    INTENT = "intent"  #: the write may be under way
    UNKNOWN = "unknown"  #: nobody knows; it is read back before anything else
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


SETTLED: Final = frozenset({EffectState.DONE, EffectState.SKIPPED, EffectState.FAILED})


class Seen(StrEnum):
    """What a look at the outside found."""

    ABSENT = "absent"  #: nothing is there and writing is right
    STANDS = "stands"  #: what was wanted is there
    FOREIGN = "foreign"  #: something else has its place; writing would overwrite it
    WITHDRAWN = "withdrawn"  #: a person changed, closed or deleted it; that stands
    GONE = "gone"  #: the place itself is gone or refuses us; no try can help
    UNREADABLE = "unreadable"  #: the look told nothing


class Answer(StrEnum):
    """How an attempt to write ended."""

    DONE = "done"
    EXISTS = "exists"  #: the target refused because something is there: look at it
    REFUSED = "refused"  #: the target refused for good
    NOT_SENT = "not_sent"  #: it certainly did not happen (rate limit, no connection)
    UNKNOWN = "unknown"  #: it may have happened (timeout, broken connection, 5xx)


@dataclass(frozen=True, slots=True)
class Found:
    """What the outside calls the thing that was made."""

    ref: str = ""  #: a commit, a comment's id, a state's id
    url: str = ""
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """One effect as it is recorded. ``begun``: a write was once intended. ``tries`` counts writes and vain looks."""

    kind: Kind
    state: EffectState
    begun: bool = False
    tries: int = 0
    not_before: datetime | None = None
    sentence: str = ""
    found: Found | None = None
    stopped: bool = False  #: skipped because a stop was asked

    @property
    def settled(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in SETTLED


@dataclass(frozen=True, slots=True)
class Publication:
    """Everything the protocol looks at. ``wanted`` is in order; ``effects`` holds at most one entry per kind."""

    wanted: tuple[Kind, ...]
    effects: tuple[Effect, ...] = ()
    stop: bool = False

    def effect(self, kind: Kind) -> Effect | None:
        """Return what is recorded of ``kind``."""
        return next((effect for effect in self.effects if effect.kind is kind), None)

    def with_effect(self, effect: Effect) -> "Publication":
        """Return the publication after ``effect`` was recorded."""
        others = tuple(other for other in self.effects if other.kind is not effect.kind)
        return replace(self, effects=(*others, effect))


@dataclass(frozen=True, slots=True)
class Rules:
    """How long doubts wait and how often an effect is tried."""

    in_flight: timedelta = timedelta(seconds=15)  #: longer than any single write may take
    doubt: timedelta = timedelta(seconds=3)  #: before the first look after a timeout
    again: timedelta = timedelta(seconds=2)  #: base of the backoff between tries
    max_tries: int = 12


RULES: Final = Rules()


@dataclass(frozen=True, slots=True)
class Look:
    """Read the outside once for this kind."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class Write:
    """Commit ``effect`` (an intent), and only then write."""

    effect: Effect


@dataclass(frozen=True, slots=True)
class Record:
    """Commit ``effect``."""

    effect: Effect


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done before ``until``."""

    until: datetime


@dataclass(frozen=True, slots=True)
class Finish:
    """Every effect has settled."""

    outcome: PublishOutcome
    sentence: str


Move = Look | Write | Record | Wait | Finish

#: What people call them.
PLAIN: Final[Mapping[Kind, str]] = MappingProxyType(
    {
        Kind.BRANCH: "the branch",
        Kind.PULL: "the pull request",
        Kind.COMMENT: "the comment on the work item",
        Kind.LINK: "the link on the work item",
        Kind.STATE: "the work item's state",
    }
)


#: What a publication is for; the rest tells people about it.
PRODUCT: Final = (Kind.BRANCH, Kind.PULL)


def key(run_id: UUID, revision: int, kind: Kind) -> str:
    """Return the idempotency key of an effect: run, revision and kind, never the attempt."""
    return f"{run_id}/{revision}/{kind.value}"


def branch_name(run_id: UUID) -> str:
    """Return the branch of a run."""
    return f"agent/{short(run_id)}"


def wanted_kinds(*, product: bool, tracker: bool) -> tuple[Kind, ...]:
    """Return the effects wanted: ``product`` when there are commits, ``tracker`` when a work item can be told."""
    if not product:
        return (Kind.COMMENT,) if tracker else ()
    return (*PRODUCT, Kind.COMMENT, Kind.LINK, Kind.STATE) if tracker else PRODUCT
