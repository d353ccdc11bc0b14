"""How long to wait before the next try."""

from datetime import timedelta
from typing import Final

LONGEST: Final = timedelta(minutes=15)


def backoff(base: timedelta, failures: int, *, spread: float = 0.0) -> timedelta:
    """Return ``base`` doubled per earlier failure, capped, and stretched by ``spread`` (0.0 to 1.0) of a quarter.

    ``spread`` is given by the caller (derived from an id), so that the same run always waits the same time.
    """
    plain = min(base * (2 ** min(failures, 30)), LONGEST)
    return plain * (1 + 0.25 * spread)


def spread_of(identity: int) -> float:
    """Return a number in [0, 1) that is fixed for an id and spread evenly over ids."""
    return (identity % 1009) / 1009
