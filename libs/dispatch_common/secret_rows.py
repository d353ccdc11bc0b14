"""Stored secrets: how a row of table ``secrets`` is sealed, rotated, opened. The console writes them."""

from typing import Any, Final, Protocol

from pydantic import SecretStr

from dispatch_common.secrets import Kek

_PUT: Final = """
INSERT INTO secrets (org, name, purpose, key_id, ciphertext) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (org, name) DO UPDATE SET
    previous = CASE WHEN $6 THEN secrets.ciphertext END,
    purpose = excluded.purpose, key_id = excluded.key_id, ciphertext = excluded.ciphertext, set_at = clock_timestamp()
"""


class Queries(Protocol):
    """What can run a query: a Db, or the connection of a transaction."""

    async def fetchrow(self, query: str, /, *args: Any) -> Any: ...
    async def execute(self, query: str, /, *args: Any) -> Any: ...


def owner_of(org: str, name: str) -> str:
    """Return what a secret's ciphertext is bound to: nobody can move it to another name."""
    return f"secrets/{org}/{name}"


async def put(
    db: Queries, kek: Kek, *, org: str, name: str, value: SecretStr, purpose: str = "secret", keep_previous: bool = True
) -> None:
    """Store a secret. The value before stays valid beside it until the next change, unless told otherwise."""
    sealed = kek.seal(purpose=purpose, owner=owner_of(org, name), plaintext=value.get_secret_value().encode())
    await db.execute(_PUT, org, name, purpose, kek.key_id, sealed, keep_previous)


async def live(db: Queries, kek: Kek, *, org: str, name: str) -> tuple[SecretStr, ...]:
    """Return the secret's values that are valid now, newest first; nothing when there is no such secret."""
    row = await db.fetchrow("SELECT purpose, ciphertext, previous FROM secrets WHERE org = $1 AND name = $2", org, name)
    if row is None:
        return ()
    sealed = [each for each in (row["ciphertext"], row["previous"]) if each is not None]
    owner = owner_of(org, name)
    return tuple(SecretStr(kek.open(purpose=row["purpose"], owner=owner, sealed=each).decode()) for each in sealed)
