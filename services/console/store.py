"""What the console writes: resources and secrets, each change with the fact that says so."""

from typing import Any, Final

from dispatch_common import ids
from dispatch_common.db import Db, Tx
from dispatch_common.events import ResourceApplied
from dispatch_common.resources import KINDS, Spec
from services.console.applying import Change, Key, Stored, digest
from services.console.schemas_admin import ResourceOut, SecretOut

#: One apply at a time, so that what was checked is what is stored. Any constant; ours alone in this database.
_LOCK: Final = "SELECT pg_advisory_xact_lock(7310942051)"
_PUT: Final = """
INSERT INTO resources (org, kind, name, generation, spec, digest, applied_by) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (org, kind, name) DO UPDATE SET generation = excluded.generation, spec = excluded.spec,
    digest = excluded.digest, applied_by = excluded.applied_by, applied_at = clock_timestamp()
"""
_LIST: Final = """
SELECT kind, name, generation, spec, applied_by, applied_at FROM resources
WHERE org = $1 AND spec IS NOT NULL AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR name = $3)
ORDER BY kind, name
"""


async def lock_resources(tx: Tx, org: str) -> dict[Key, Stored]:
    """Keep others from applying until the transaction ends, and return what is stored."""
    await tx.conn.execute(_LOCK)
    rows = await tx.conn.fetch("SELECT kind, name, generation, spec FROM resources WHERE org = $1", org)
    return {(row["kind"], row["name"]): Stored(row["generation"], row["spec"]) for row in rows}


def known(stored: dict[Key, Stored]) -> dict[str, dict[str, Spec]]:
    """Return the specs that stand, by kind and name. Kinds of a newer version are passed over."""
    specs: dict[str, dict[str, Spec]] = {}
    for (kind, name), row in stored.items():
        if row.spec is not None and kind in KINDS:
            specs.setdefault(kind, {})[name] = KINDS[kind].model_validate(row.spec)
    return specs


async def put_resources(tx: Tx, org: str, changes: list[Change], *, by: str) -> None:
    """Store what differs and say it."""
    for change in changes:
        if change.outcome == "unchanged":
            continue
        await tx.conn.execute(
            _PUT, org, change.kind, change.name, change.generation, change.spec, digest(change.spec), by
        )
        tx.say(
            ResourceApplied(
                id=ids.derived("resource-applied", org, change.kind, change.name, change.generation),
                org=org,
                time=await tx.now(),
                kind=change.kind,
                name=change.name,
                generation=change.generation,
                spec=change.spec,
            )
        )


async def list_resources(db: Db, org: str, kind: str | None = None, name: str | None = None) -> list[ResourceOut]:
    """Return the resources that stand."""
    return [ResourceOut.model_validate(dict(row)) for row in await db.fetch(_LIST, org, kind, name)]


async def list_secrets(db: Db, org: str) -> list[SecretOut]:
    """Return which secrets there are; never a value."""
    rows: list[Any] = await db.fetch(
        "SELECT name, key_id, previous IS NOT NULL AS has_previous, set_at FROM secrets WHERE org = $1 ORDER BY name",
        org,
    )
    return [SecretOut.model_validate(dict(row)) for row in rows]


async def remove_secret(db: Db, org: str, name: str) -> bool:
    """Forget a secret; False when there was none."""
    return await db.execute("DELETE FROM secrets WHERE org = $1 AND name = $2", org, name) != "DELETE 0"


async def forget_previous(db: Db, org: str, name: str) -> bool:
    """Forget the value before the last rotation; False when there is no such secret."""
    return await db.execute("UPDATE secrets SET previous = NULL WHERE org = $1 AND name = $2", org, name) != "UPDATE 0"
