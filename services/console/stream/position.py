"""Where a viewer stands in a stream: what Last-Event-ID says. PURE."""

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from dispatch_common.errors import InvalidInput

_MARK: Final = re.compile(r"([0-9a-f]{8})-(\d{1,19})")
_MOMENT: Final = re.compile(r"\d{1,17}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RUN: Final = re.compile(r"(\d{1,18})\.(?:([0-9a-f]{8}-\d{1,19})|-)\.(\d{1,18})-(\d{1,18})")


def epoch_of(created: str) -> str:
    """Return the short name of a stream's life: a stream made anew has another one."""
    return hashlib.blake2s(created.encode(), digest_size=4).hexdigest()


@dataclass(frozen=True, slots=True)
class Mark:
    """A message of a stream: everything up to it was seen."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a mark."""
        found = _MARK.fullmatch(text.strip())
        if found is None:
            raise _unreadable(text)
        return cls(found[1], int(found[2]))


@dataclass(frozen=True, slots=True)
class FactMark:
    """A viewer's place in the stream of facts. ``snapshot``: when it was last told what stands, not what happened.

    What the services say again of the time before a snapshot is no news to this viewer, also when it comes back later.
    """

    mark: Mark
    snapshot: datetime | None = None

    def __str__(self) -> str:
        return str(self.mark) if self.snapshot is None else f"{self.mark}.{_microseconds(self.snapshot)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a Last-Event-ID of the stream of facts."""
        mark, _, snapshot = text.strip().partition(".")
        if not snapshot:
            return cls(Mark.parse(mark))
        if not _MOMENT.fullmatch(snapshot):
            raise _unreadable(text)
        return cls(Mark.parse(mark), _EPOCH + timedelta(microseconds=int(snapshot)))


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class RunMark:
    """How much of a run was seen: its steps by number, its agent's events by fence and number.

    ``mark`` only says where to go on reading; what was seen is decided by ``fence`` and ``seq``.
    """

    step: int = 0
    mark: Mark | None = None
    fence: int = 0
    seq: int = 0

    def __str__(self) -> str:
        return f"{self.step}.{self.mark or '-'}.{self.fence}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a Last-Event-ID of a run's stream."""
        found = _RUN.fullmatch(text.strip())
        if found is None:
            raise _unreadable(text)
        return cls(int(found[1]), Mark.parse(found[2]) if found[2] else None, int(found[3]), int(found[4]))

    def after_step(self, number: int) -> "RunMark":
        return replace(self, step=number)

    def after_event(self, mark: Mark | None, fence: int, seq: int) -> "RunMark":
        return replace(self, mark=mark or self.mark, fence=fence, seq=seq)

    def moved(self, mark: Mark) -> "RunMark":
        return replace(self, mark=mark)


def _unreadable(text: str) -> InvalidInput:
    return InvalidInput(
        f"'{text[:80]}' is not an event id of this stream.",
        field="Last-Event-ID",
        remedy="Send back the id of the last event as it came, or leave it out to begin anew.",
    )
