"""What can be made to go wrong in the local Plane on purpose, and its rate limit. No I/O."""

import re
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

WINDOW: Final = 60.0


class Fault(StrEnum):
    """What happens instead of the plain answer."""

    REFUSE = "refuse"  #: 503 before anything is done
    FAIL_AFTER = "fail_after"  #: the write is done, the answer is 500 (its broker was down)
    DROP_BEFORE = "drop_before"  #: the connection ends, nothing was done
    DROP_AFTER = "drop_after"  #: the write is done, the connection ends without an answer
    DELAY = "delay"  #: the answer comes ``seconds`` later
    RATE_LIMIT = "rate_limit"  #: 429 with Retry-After ``seconds``


@dataclass(slots=True)
class Switch:
    """One fault, for the next ``times`` requests whose ``METHOD path`` matches."""

    fault: Fault
    pattern: re.Pattern[str]
    times: int
    seconds: float


@dataclass(slots=True)
class Faults:
    """The switches that are on."""

    switches: list[Switch] = field(default_factory=list[Switch])

    def add(self, fault: Fault, pattern: str = ".*", *, times: int = 1, seconds: float = 0.0) -> None:
        self.switches.append(Switch(fault, re.compile(pattern), times, seconds))

    def clear(self) -> None:
        self.switches.clear()

    def take(self, method: str, path: str) -> Switch | None:
        """Return the first switch that matches this request, and count it."""
        for switch in self.switches:
            if switch.pattern.search(f"{method} {path}"):
                switch.times -= 1
                if switch.times <= 0:
                    self.switches.remove(switch)
                return switch
        return None


@dataclass(slots=True)
class Throttle:
    """So many calls per key in any sixty seconds, as Plane counts them."""

    per_minute: int = 60
    calls: dict[str, deque[float]] = field(default_factory=dict[str, deque[float]])

    def take(self, key: str, now: float) -> tuple[int, float]:
        """Return how many calls are left and 0, or -1 and the seconds until one is free."""
        taken = self.calls.setdefault(key, deque())
        while taken and taken[0] <= now - WINDOW:
            taken.popleft()
        if len(taken) >= self.per_minute:
            return -1, taken[0] + WINDOW - now if taken else WINDOW
        taken.append(now)
        return self.per_minute - len(taken), 0.0
