"""Identities. Fresh ones come from here alone; derived ones make every re-emission recognisable."""

from typing import Final, NewType
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

TaskId = NewType("TaskId", UUID)
RunId = NewType("RunId", UUID)
AttemptId = NewType("AttemptId", UUID)

_NAMESPACE: Final = uuid5(NAMESPACE_URL, "https://dispatch.dev/ids")


def fresh() -> UUID:
    """Return a new random id."""
    return uuid4()


def derived(*parts: object) -> UUID:
    """Return the id that these parts always have. Order matters; parts are compared by their text."""
    return uuid5(_NAMESPACE, "\x1f".join(str(part) for part in parts))


def short(run_id: UUID) -> str:
    """Return the first eight hex digits, as people see and type them."""
    return run_id.hex[:8]
