"""Plane's rate limit as one key sees it: so many calls in any sixty seconds, shared with everybody who uses the key."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

WINDOW: Final = 60.0


@dataclass(slots=True)
class Pace:
    """Decides when the next call may go out. ``reserve`` calls are left to others who use the same key. No I/O."""

    reserve: int = 0
    _sent: deque[float] = field(default_factory=deque[float])
    _left: int | None = None
    _closed_until: float = 0.0

    def wait(self, now: float) -> float:
        """Return the seconds until a call may go out; 0 means now."""
        if now < self._closed_until:
            return self._closed_until - now
        self._forget(now)
        if self._left is None or self._left > self.reserve:
            return 0.0
        # Others may hold the rest of the window: then look again after a second, one call at a time.
        return max(1.0, self._sent[0] + WINDOW - now) if self._sent else 0.0

    def sent(self, now: float) -> None:
        """Note that a call goes out."""
        self._sent.append(now)
        if self._left is not None:
            self._left -= 1

    def answered(self, remaining: int | None) -> None:
        """Take what the answer says is left."""
        if remaining is not None:
            self._left = remaining

    def refused(self, now: float, retry_after: float) -> None:
        """Take a 429: nothing goes out before ``retry_after`` seconds have passed."""
        self._closed_until = max(self._closed_until, now + retry_after)
        self._left = None

    def _forget(self, now: float) -> None:
        """Give back the calls that have left the window."""
        while self._sent and self._sent[0] <= now - WINDOW:
            self._sent.popleft()
            if self._left is not None:
                self._left += 1
