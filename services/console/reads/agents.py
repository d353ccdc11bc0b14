"""The agents of the catalog, with their slots and what they are busy with; and where a queued run stands."""

from typing import Any, Final
from uuid import UUID

from dispatch_common.db import Db
from dispatch_common.ids import short
from dispatch_common.resources import Agent, AgentStack, load_all
from services.console.schemas import AgentOut, BusyWith

_PLACES: Final = "SELECT agent, attempt_id IS NOT NULL AS taken, draining, attempt_id FROM agent_slots WHERE org = $1"
_BUSY: Final = """
SELECT s.attempt_id, r.id AS run, r.state, t.key, t.snapshot->>'title' AS title, a.created_at AS since
FROM agent_slots s JOIN attempts a ON a.id = s.attempt_id
JOIN runs r ON r.id = a.run_id JOIN tasks t ON t.id = r.task_id
WHERE s.org = $1
"""
#: A slot is taken before an executor has the attempt; these runs are found by their bodies.
_JUST_TAKEN: Final = """
SELECT (r.body->>'attempt_id')::uuid AS attempt_id, r.id AS run, r.state, t.key, t.snapshot->>'title' AS title,
       r.updated_at AS since
FROM runs r JOIN tasks t ON t.id = r.task_id
WHERE r.live AND r.org = $1 AND (r.body->>'attempt_id')::uuid = ANY($2::uuid[])
"""
_POSITION: Final = """
SELECT count(*) FROM run_queue q, (SELECT * FROM run_queue WHERE run_id = $1) me
WHERE q.org = me.org AND q.line = me.line AND (q.sort_key, q.run_id) < (me.sort_key, me.run_id)
"""
_BEFORE: Final = """
SELECT t.key FROM run_queue q JOIN runs r ON r.id = q.run_id JOIN tasks t ON t.id = r.task_id,
     (SELECT * FROM run_queue WHERE run_id = $1) me
WHERE q.org = me.org AND q.line = me.line AND (q.sort_key, q.run_id) < (me.sort_key, me.run_id)
ORDER BY q.sort_key, q.run_id LIMIT 5
"""


async def agents(db: Db, *, org: str) -> list[AgentOut]:
    """Return every agent of the catalog, by role and name."""
    specs = await load_all(db.pool, Agent, org=org)
    stacks = await load_all(db.pool, AgentStack, org=org)
    places = await db.fetch(_PLACES, org)
    busy = {row["attempt_id"]: row for row in await db.fetch(_BUSY, org)}
    unknown = [place["attempt_id"] for place in places if place["taken"] and place["attempt_id"] not in busy]
    if unknown:
        busy |= {row["attempt_id"]: row for row in await db.fetch(_JUST_TAKEN, org, unknown)}
    slots: dict[str, list[Any]] = {}
    for row in places:
        slots.setdefault(row["agent"], []).append(row)
    found = [
        _agent(name, spec, stacks.get(spec.stack or ""), slots.get(name, []), busy) for name, spec in specs.items()
    ]
    return sorted(found, key=lambda agent: (agent.role, agent.name))


def _agent(name: str, spec: Agent, stack: AgentStack | None, slots: list[Any], busy: dict[UUID, Any]) -> AgentOut:
    value = spec.as_value(name, stack)
    return AgentOut(
        name=name,
        display_name=spec.display_name,
        role=spec.role,
        status=spec.status,
        backend=value.backend,
        model=value.model,
        skills=value.skills,
        slots=sum(1 for slot in slots if not slot["draining"]) or spec.max_concurrent_tasks,
        in_use=sum(1 for slot in slots if slot["taken"]),
        draining=sum(1 for slot in slots if slot["draining"]),
        runs=[_busy(busy[slot["attempt_id"]]) for slot in slots if slot["attempt_id"] in busy],
    )


def _busy(row: Any) -> BusyWith:
    return BusyWith(
        run=row["run"],
        short=short(row["run"]),
        key=row["key"],
        title=row["title"] or "",
        state=row["state"],
        since=row["since"],
    )


async def place_in_queue(db: Db, run_id: UUID) -> tuple[int | None, list[str]]:
    """Return how many runs stand before a queued one in its line (None when it is in no queue), and the next few."""
    if not await db.fetchval("SELECT true FROM run_queue WHERE run_id = $1", run_id):
        return None, []
    before = await db.fetchval(_POSITION, run_id)
    return before, [row["key"] for row in await db.fetch(_BEFORE, run_id)]
