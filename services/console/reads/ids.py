"""Ids as people type them: a whole id or the first hex digits of one."""

import re
from typing import Final
from uuid import UUID

from dispatch_common.db import Db
from services.console.problems import Problem, not_found

_SHORTEST: Final = 4
_ID: Final = re.compile(r"[0-9a-f]{4,32}")
#: Only these tables are looked into; the name is never taken from a request.
_TABLES: Final = {"run": "runs", "task": "tasks", "delivery": "deliveries"}


def span(text: str) -> tuple[UUID, UUID] | None:
    """Return the lowest and highest id that begin like ``text``, None when it is no beginning of an id."""
    digits = text.lower().replace("-", "")
    if not _ID.fullmatch(digits):
        return None
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


async def resolve(db: Db, what: str, text: str, *, org: str) -> UUID:
    """Return the one id that ``text`` means, or raise a Problem that says why there is none."""
    bounds = span(text)
    hint = f"'dispatch get {what}s' lists them." if what != "delivery" else "'dispatch get deliveries' lists them."
    if bounds is None:
        raise Problem(
            422,
            "invalid_id",
            f"'{text[:60]}' is not the id of a {what}.",
            field=what,
            remedy=f"Give at least {_SHORTEST} hex digits of it. {hint}",
        )
    rows = await db.fetch(
        f"SELECT id FROM {_TABLES[what]} WHERE id BETWEEN $1 AND $2 AND org = $3 ORDER BY id LIMIT 4", *bounds, org
    )
    if not rows:
        raise not_found(what, text, hint)
    if len(rows) > 1:
        found = ", ".join(row["id"].hex[:12] for row in rows[:3]) + (", …" if len(rows) > 3 else "")
        raise Problem(
            409,
            "ambiguous_id",
            f"'{text}' is the beginning of several {what}s: {found}",
            field=what,
            remedy="Give more digits.",
        )
    return rows[0]["id"]
