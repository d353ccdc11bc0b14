"""What came in and what became of it, refused requests included."""

from typing import Any, Final
from uuid import UUID

from dispatch_common.db import Db
from services.console.reads.runs import Where, cursor_of, parse_cursor
from services.console.schemas import DeliveryDetail, DeliveryOut, Page

_ALL: Final = """
SELECT * FROM (
    SELECT id, org, source, provider, event, state, outcome, sentence, object_id, actor_id, task_id, run_ids,
           received_at
    FROM deliveries
    UNION ALL
    SELECT id, org, source, '', '', 'decided', 'refused', sentence, '', remote, NULL, '[]'::jsonb, received_at
    FROM refused_deliveries
) d
"""
_ONE: Final = "SELECT *, octet_length(body) AS size FROM deliveries WHERE id = $1"


async def list_deliveries(
    db: Db, *, org: str, source: str | None, outcome: str | None, limit: int, cursor: str | None
) -> Page[DeliveryOut]:
    """Return one page of deliveries, newest first."""
    where = Where()
    where.add("d.org = {}", org)
    if source:
        where.add("d.source = {}", source)
    if outcome:
        where.add("d.outcome = {}", outcome)
    if cursor:
        where.add("(d.received_at, d.id) < ({}, {})", *parse_cursor(cursor))
    sql = f"{_ALL}{where.sql} ORDER BY d.received_at DESC, d.id DESC LIMIT {int(limit) + 1}"
    rows = await db.fetch(sql, *where.args)
    more = len(rows) > limit
    following = cursor_of(rows[limit - 1]["received_at"], rows[limit - 1]["id"]) if more else None
    return Page(items=[DeliveryOut(**_fields(row)) for row in rows[:limit]], next=following)


async def one_delivery(db: Db, delivery_id: UUID) -> DeliveryDetail:
    """Return a delivery with its headers."""
    row = await db.fetchrow(_ONE, delivery_id)
    assert row is not None, "the id was resolved just now"
    extra = {name: row[name] for name in ("external_id", "headers", "size", "tries")}
    return DeliveryDetail(**_fields(row), **extra)


def _fields(row: Any) -> dict[str, Any]:
    names = (
        "id", "source", "provider", "event", "state", "outcome", "sentence", "object_id", "actor_id", "received_at",
    )  # fmt: skip
    return {**{name: row[name] for name in names}, "task": row["task_id"], "runs": row["run_ids"]}
