"""The supervisor's own view of its lease: always shorter than the executor's. PURE: the caller brings the time."""

from dataclasses import dataclass
from typing import Final

#: What is kept back of every lease: the time it takes to kill a sandbox, fork bombs included.
_SHARE: Final = 0.15
_LEAST: Final = 0.3
_MOST: Final = 5.0


def margin(lease_seconds: float) -> float:
    """Return how long before the end of the lease everything must be dead."""
    return min(max(lease_seconds * _SHARE, _LEAST), _MOST, lease_seconds / 2)


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease counted from before it was asked for, so that it never ends after the executor's."""

    asked_at: float
    seconds: float

    @property
    def kill_at(self) -> float:
        """The moment at which the agent must be killed when no newer lease came."""
        return self.asked_at + self.seconds - margin(self.seconds)

    def left(self, now: float) -> float:
        """Return the seconds until ``kill_at``; never negative."""
        return max(0.0, self.kill_at - now)

    def renewed(self, asked_at: float, seconds: float) -> "Lease":
        """Return the newer of both: an answer that comes late shortens nothing."""
        newer = Lease(asked_at, seconds)
        return newer if newer.kill_at > self.kill_at else self
