"""One verified request, as it is stored: as a row, or as a record of the spool while there is no database."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

_LENGTH: Final = 4
_TEXTS: Final = (
    "org",
    "source",
    "provider",
    "event",
    "external_id",
    "dedupe_key",
    "object_id",
    "actor_id",
)


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is known of a request when it is answered. ``body`` is what was signed, byte by byte."""

    id: UUID
    org: str
    source: str
    provider: str
    event: str
    dedupe_key: str
    body: bytes
    received_at: datetime
    external_id: str = ""
    object_id: str = ""
    actor_id: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    traceparent: str | None = None

    @property
    def identity(self) -> tuple[str, str, str]:
        """Return what two requests share when they are the same event."""
        return self.org, self.source, self.dedupe_key

    def encode(self) -> bytes:
        """Return the arrival as one record: a length, a JSON head, the body."""
        head: dict[str, Any] = {name: getattr(self, name) for name in _TEXTS}
        head |= {
            "id": str(self.id),
            "received_at": self.received_at.isoformat(),
            "headers": self.headers,
            "traceparent": self.traceparent,
        }
        raw = orjson.dumps(head)
        return len(raw).to_bytes(_LENGTH, "big") + raw + self.body

    @staticmethod
    def decode(record: bytes) -> "Arrival":
        length = int.from_bytes(record[:_LENGTH], "big")
        head = orjson.loads(record[_LENGTH : _LENGTH + length])
        return Arrival(
            **{name: head[name] for name in _TEXTS},
            id=UUID(head["id"]),
            received_at=datetime.fromisoformat(head["received_at"]),
            headers=tuple((name, value) for name, value in head["headers"]),
            traceparent=head["traceparent"],
            body=record[_LENGTH + length :],
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of an arrival: under which id it is kept, and whether it was there before."""

    id: UUID
    duplicate: bool = False


def distinct(arrivals: list[Arrival]) -> tuple[list[Arrival], dict[tuple[str, str, str], UUID]]:
    """Return one arrival per event, the first, and the id that each event has."""
    first: dict[tuple[str, str, str], Arrival] = {}
    for each in arrivals:
        first.setdefault(each.identity, each)
    return list(first.values()), {identity: each.id for identity, each in first.items()}


def storable(text: str) -> str:
    """Return text that PostgreSQL can keep: no NUL, no half of a surrogate pair."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def cleaned(arrival: Arrival) -> Arrival:
    """Return the arrival with texts that can be kept."""
    return replace(
        arrival,
        **{name: storable(getattr(arrival, name)) for name in _TEXTS},
        headers=tuple((name, storable(value)) for name, value in arrival.headers),
    )
