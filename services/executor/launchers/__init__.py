"""How an attempt is started, looked at, stopped and found again: one small interface, the same promises everywhere.

A launcher acts on one attempt id at most once: asked to start it again it says what became of the first time. It never
decides what an ending means and never talks to the broker or the database.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from agent_runner.protocol import LaunchSpec, ResultReport, SupervisorNote
from dispatch_common.errors import Transient


class LaunchFailed(Transient):
    """The supervisor could not be started."""


class LaunchState(StrEnum):
    """What a launcher finds of an attempt."""

    UNKNOWN = "unknown"  #: never started here (or its folder was removed)
    ALIVE = "alive"  #: its supervisor lives
    ENDED = "ended"  #: its supervisor ended in order; collect() has the result, if somebody may want it
    LOST = "lost"  #: its supervisor died without an ending; nothing of it lives any more


@dataclass(frozen=True, slots=True)
class Launched:
    """One attempt as the launcher sees it."""

    attempt_id: UUID
    state: LaunchState
    note: SupervisorNote | None = None  #: what the supervisor last wrote of itself
    spec: LaunchSpec | None = None


class Launcher(Protocol):
    """Starts attempts and knows what lives. Every call may be repeated."""

    async def start(self, spec: LaunchSpec, token: str) -> Launched:
        """Start the attempt's supervisor, unless it was ever started; the token is kept in a file of mode 0600."""
        ...

    async def state(self, attempt_id: UUID) -> Launched:
        """Return what is there. When the supervisor is dead, what it left behind is killed first."""
        ...

    async def stop(self, attempt_id: UUID, sentence: str) -> Launched:
        """Ask the attempt to end; it reports its result as always. Returns at once."""
        ...

    async def kill(self, attempt_id: UUID) -> Launched:
        """End the attempt at once, supervisor included. Returns when nothing of it lives."""
        ...

    async def collect(self, attempt_id: UUID) -> ResultReport | None:
        """Return the result the supervisor kept, when it ended. Its blobs are in the attempt's folder."""
        ...

    async def adopt(self) -> Sequence[Launched]:
        """Return every attempt there is, alive or not, as a restarted executor finds them."""
        ...

    async def remove(self, attempt_id: UUID) -> None:
        """Forget a dead attempt and what it kept. A living one is left alone."""
        ...
