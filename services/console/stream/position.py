"""Where a viewer stands in a stream: what Last-Event-ID says. PURE."""

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Final, Self
from uuid import UUID

from services.console.problems import Problem

_MARK: Final = re.compile(r"([0-9a-f]{8})-(\d{1,19})")
_RUN: Final = re.compile(r"(\d{1,18})\.(?:([0-9a-f]{8}-\d{1,19})|-)\.(?:([0-9a-f]{32})-(\d{1,18})|-)")


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
        """Read a Last-Event-ID of the stream of facts."""
        found = _MARK.fullmatch(text.strip())
        if found is None:
            raise _unreadable(text)
        return cls(found[1], int(found[2]))


@dataclass(frozen=True, slots=True)
class RunMark:
    """How much of a run was seen: its steps by number, its agent's events by attempt and number.

    ``mark`` only says where to go on reading; what was seen is decided by ``attempt`` and ``seq``.
    """

    step: int = 0
    mark: Mark | None = None
    attempt: UUID | None = None
    seq: int = 0

    def __str__(self) -> str:
        event = "-" if self.attempt is None else f"{self.attempt.hex}-{self.seq}"
        return f"{self.step}.{self.mark or '-'}.{event}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a Last-Event-ID of a run's stream."""
        found = _RUN.fullmatch(text.strip())
        if found is None:
            raise _unreadable(text)
        mark = Mark.parse(found[2]) if found[2] else None
        attempt = UUID(found[3]) if found[3] else None
        return cls(int(found[1]), mark, attempt, int(found[4] or 0))

    def after_step(self, number: int) -> "RunMark":
        return replace(self, step=number)

    def after_event(self, mark: Mark | None, attempt: UUID, seq: int) -> "RunMark":
        return replace(self, mark=mark or self.mark, attempt=attempt, seq=seq)


def _unreadable(text: str) -> Problem:
    return Problem(
        422,
        "invalid_event_id",
        f"'{text[:80]}' is not an event id of this stream.",
        field="Last-Event-ID",
        remedy="Send back the id of the last event as it came, or leave it out to begin anew.",
    )
