"""Stored secrets: how a row of ``secrets`` is sealed and opened. The console writes the rows; others open what they need.

A value leaves this module only to the caller that asked for it by name. Nothing here logs.
"""

from dataclasses import dataclass
from typing import Any, Final, Protocol

from dispatch_common.secrets import Kek

#: The purpose of every secret that people store; other purposes (sessions, caches) use keys of their own.
PURPOSE: Final = "stored-secret"

_READ: Final = "SELECT purpose, ciphertext, previous FROM secrets WHERE org = $1 AND name = $2"


class _Reads(Protocol):
    async def fetchrow(self, sql: str, *args: Any) -> Any:
        """Return one row, or None."""
        ...


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A secret's value and, while a rotation is under way, the one before it."""

    current: bytes
    previous: bytes | None = None

    @property
    def accepted(self) -> tuple[bytes, ...]:
        """Return every value that is good at present, the newest first."""
        return (self.current,) if self.previous is None else (self.current, self.previous)

    def __repr__(self) -> str:
        return "StoredSecret(…)"


def seal(kek: Kek, *, org: str, name: str, value: bytes) -> bytes:
    """Return what is stored of a secret's value."""
    return kek.seal(purpose=PURPOSE, owner=_owner(org, name), plaintext=value)


def unseal(kek: Kek, *, org: str, name: str, sealed: bytes, purpose: str = PURPOSE) -> bytes:
    """Return a stored value, or raise SecretUnreadable."""
    return kek.open(purpose=purpose, owner=_owner(org, name), sealed=sealed)


async def read(db: _Reads, kek: Kek, *, org: str, name: str) -> StoredSecret | None:
    """Return a secret by name, None when there is none. ``db`` is a Db or a connection."""
    row = await db.fetchrow(_READ, org, name)
    if row is None:
        return None
    previous = row["previous"]
    return StoredSecret(
        current=unseal(kek, org=org, name=name, sealed=row["ciphertext"], purpose=row["purpose"]),
        previous=None if previous is None else unseal(kek, org=org, name=name, sealed=previous, purpose=row["purpose"]),
    )


def _owner(org: str, name: str) -> str:
    return f"{org}/{name}"
