"""The inbox: each service takes a fact once."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from dispatch_common.db import Db, Tx

#: Longer than the broker keeps facts, so that no replay is taken for new.
KEPT: Final = timedelta(days=14)

_TAKE: Final = """
INSERT INTO inbox (service, fact_id) SELECT $1, unnest($2::uuid[]) ON CONFLICT DO NOTHING
RETURNING fact_id, clock_timestamp() AS now
"""


async def first_time(tx: Tx, service: str, fact_ids: Sequence[UUID]) -> set[UUID]:
    """Record the facts as taken with this transaction and return those that were not taken before."""
    # Sorted: two replicas that take overlapping batches lock in one order.
    rows = await tx.conn.fetch(_TAKE, service, sorted(set(fact_ids)))
    if rows and tx.clock is None:
        tx.clock = rows[0]["now"]
    return {row["fact_id"] for row in rows}


async def prune(db: Db) -> None:
    """Forget what is older than any replay."""
    await db.execute("DELETE FROM inbox WHERE service = $1 AND at < clock_timestamp() - $2::interval", db.service, KEPT)
