"""The runner's clocks: the wall clock for what people read, and one that also counts while the machine sleeps."""

import time
from datetime import UTC, datetime
from typing import Final

# A lease runs out at the executor while this machine is suspended; CLOCK_MONOTONIC would not notice.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> datetime:
    """Return the present as an aware UTC datetime."""
    return datetime.now(UTC)


def elapsed() -> float:
    """Return seconds on a clock that never goes back and does not stop."""
    return time.clock_gettime(_CLOCK)
