"""Pairs queued runs with free slots, inside a transaction. The pure ``match`` chooses; the locks make it exclusive.

The cost does not depend on how many runs wait: only the heads of each line and project are looked at.
"""

from collections.abc import Sequence
from typing import Any, Final

from dispatch_common import ids
from services.dispatcher.batch import Batch
from services.dispatcher.catalog import Catalog
from services.dispatcher.decide import SlotClaimed
from services.dispatcher.match import Assignment, FreeSlot, Waiting, match

#: Distinct (line, project) pairs by jumping along the index: one probe per pair, however long the queue.
_LINES: Final = """
WITH RECURSIVE pair AS (
    (SELECT line, project FROM run_queue WHERE org = $1 ORDER BY line, project LIMIT 1)
    UNION ALL
    SELECT n.line, n.project FROM pair p, LATERAL (
        SELECT line, project FROM run_queue
        WHERE org = $1 AND (line, project) > (p.line, p.project) ORDER BY line, project LIMIT 1) n)
SELECT line, project FROM pair
"""
_SLOTS: Final = """
SELECT s.agent, s.number, s.role,
       (SELECT count(*) FROM agent_slots b WHERE b.org = $1 AND b.agent = s.agent AND b.attempt_id IS NOT NULL) AS load
FROM unnest($2::text[]) AS r(role), LATERAL (
    SELECT agent, number, role FROM agent_slots
    WHERE org = $1 AND role = r.role AND attempt_id IS NULL AND NOT draining
    ORDER BY number, agent LIMIT 64 FOR UPDATE SKIP LOCKED) s
"""
#: The run is locked with its place in the queue and never waited for: a batch that holds it may wait for the place.
_HEADS: Final = """
SELECT h.run_id, p.line, p.project, h.skills, h.sort_key
FROM unnest($2::text[], $3::text[]) AS p(line, project), LATERAL (
    SELECT q.run_id, q.skills, q.sort_key FROM run_queue q JOIN runs r ON r.id = q.run_id
    WHERE q.org = $1 AND q.line = p.line AND q.project = p.project
    ORDER BY q.sort_key LIMIT {depth} FOR UPDATE OF q, r SKIP LOCKED) h
"""
#: Fewer than this in a round means that slots or runs are used up.
_WORTH_ANOTHER: Final = 32
_TAKE: Final = """
UPDATE agent_slots SET attempt_id = u.attempt_id
FROM unnest($2::text[], $3::bigint[], $4::uuid[]) AS u(agent, number, attempt_id)
WHERE agent_slots.org = $1 AND agent_slots.agent = u.agent AND agent_slots.number = u.number
"""


async def claim(batch: Batch, catalog: Catalog, org: str) -> int:
    """Assign waiting runs to fitting slots until either is used up (or enough is in hand) and return how many."""
    total, most = 0, 8
    while (claimed := await _round(batch, catalog, org)) and most:
        total, most = total + claimed, most - 1
        if claimed < _WORTH_ANOTHER:
            break
    return total


async def _round(batch: Batch, catalog: Catalog, org: str) -> int:
    conn: Any = batch.tx.conn
    pairs = await conn.fetch(_LINES, org)
    if not pairs:
        return 0
    roles = sorted({row["line"].partition("@")[0] for row in pairs})
    slots = [_slot(row, catalog) for row in await conn.fetch(_SLOTS, org, roles)]
    slots = [slot for slot in slots if catalog.takes_work(slot.agent)]
    free = {slot.role for slot in slots} | {f"{slot.role}@{slot.agent}" for slot in slots}
    open_pairs = [row for row in pairs if row["line"] in free]
    if not open_pairs:
        return 0
    lines, projects = [row["line"] for row in open_pairs], [row["project"] for row in open_pairs]
    # A few more heads than slots: what is locked here and not taken is work for nothing.
    depth = max(4, 2 * -(-len(slots) // len(open_pairs)))
    # A literal from a short list: with a parameter as limit the planner sorts the whole queue.
    heads = _HEADS.format(depth=1 << (depth - 1).bit_length())
    chosen = match(_ranked(await conn.fetch(heads, org, lines, projects)), slots)
    await _assign(batch, catalog, chosen, org)
    return len(chosen)


async def _assign(batch: Batch, catalog: Catalog, chosen: Sequence[Assignment], org: str) -> None:
    if not chosen:
        return
    taken: list[tuple[str, int, Any]] = []
    fresh = Batch(batch.tx, batch.now, batch.rules)
    await fresh.read((), [pair.waiting.run_id for pair in chosen])
    for pair in chosen:
        run = fresh.runs[pair.waiting.run_id]
        attempt_id = ids.derived("attempt", run.id, run.attempt + 1)
        repository = catalog.repository(fresh.tasks[run.task_id].snapshot.repository)
        claimed = SlotClaimed(attempt_id, catalog.agent(pair.slot.agent), repository, pair.sentence)
        fresh.apply(run.id, claimed, None)
        if fresh.runs[run.id].attempt_id == attempt_id:
            taken.append((pair.slot.agent, pair.slot.number, attempt_id))
    await fresh.write()
    agents, numbers, attempts = [t[0] for t in taken], [t[1] for t in taken], [t[2] for t in taken]
    await batch.tx.conn.execute(_TAKE, org, agents, numbers, attempts)


def _slot(row: Any, catalog: Catalog) -> FreeSlot:
    return FreeSlot(row["agent"], row["number"], row["role"], catalog.skills(row["agent"]), row["load"])


def _ranked(rows: Sequence[Any]) -> list[Waiting]:
    """Number the heads within their project, over all its lines, so that projects take turns."""
    counts: dict[str, int] = {}
    waiting: list[Waiting] = []
    for row in sorted(rows, key=lambda row: row["sort_key"]):
        rank = counts.get(row["project"], 0)
        counts[row["project"]] = rank + 1
        skills = frozenset(str(skill) for skill in row["skills"])
        waiting.append(Waiting(row["run_id"], row["line"], row["project"], skills, row["sort_key"], rank))
    return waiting
