"""The agent's events of attempts that have ended, as they were archived with the result."""

from uuid import UUID

from services.console.desk import Desk


async def exists(at: Desk, run_id: UUID) -> bool:
    """Tell whether every attempt of the run is archived."""
    return False


async def lines(at: Desk, run_id: UUID) -> list[bytes]:
    """Return the archived events of a run, in order."""
    return []
