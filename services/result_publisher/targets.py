"""What a target of effects can do: be looked at and be written to. Both answer with values, whatever happens."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from services.result_publisher.protocol import Answer, Found, Kind, Seen


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look found."""

    seen: Seen
    found: Found | None = None
    why: str = ""
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """How a write ended."""

    answer: Answer
    found: Found | None = None
    why: str = ""
    retry_after: timedelta | None = None


class Target(Protocol):
    """The outside, for some kinds of effects of one publication. Nothing is retried inside."""

    async def look(self, kind: Kind) -> Looked:
        """Read the outside once."""
        ...

    async def write(self, kind: Kind) -> Written:
        """Write once. Called only after the intent was committed."""
        ...


@dataclass(frozen=True, slots=True)
class Nowhere:
    """A target that cannot be reached by any try, and why."""

    why: str

    async def look(self, kind: Kind) -> Looked:
        return Looked(Seen.GONE, why=self.why)

    async def write(self, kind: Kind) -> Written:
        return Written(Answer.REFUSED, why=self.why)


@dataclass(frozen=True, slots=True)
class Away:
    """A target that could not even be found at present."""

    why: str
    retry_after: timedelta

    async def look(self, kind: Kind) -> Looked:
        return Looked(Seen.UNREADABLE, why=self.why, retry_after=self.retry_after)

    async def write(self, kind: Kind) -> Written:
        return Written(Answer.NOT_SENT, why=self.why, retry_after=self.retry_after)
