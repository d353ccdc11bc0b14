"""The process's clock, for what no database row is compared with. Due times and leases use Postgres's clock."""

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Return the present as an aware UTC datetime."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Return seconds on a clock that never goes back."""
    return time.monotonic()


def wall_ns() -> int:
    """Return nanoseconds since the epoch, as spans want it."""
    return time.time_ns()
