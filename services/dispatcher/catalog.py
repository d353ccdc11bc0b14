"""The agents and repositories as last applied, and the slots that follow from them. Resources are never written."""

from typing import Any, Final

from dispatch_common import resources
from dispatch_common.db import Tx
from dispatch_common.resources import Agent, AgentStack, AgentStatus, Repository
from dispatch_common.values import AgentSpec, RepositorySpec

_GENERATION: Final = "SELECT count(*), coalesce(max(generation), 0), max(applied_at) FROM resources WHERE org = $1"
_SLOTS: Final = "SELECT agent, role, number, draining FROM agent_slots WHERE org = $1 ORDER BY agent, number FOR UPDATE"
_ADD: Final = """
INSERT INTO agent_slots (org, agent, number, role, draining)
SELECT $1, u.agent, u.number, u.role, false FROM unnest($2::text[], $3::bigint[], $4::text[]) AS u(agent, number, role)
ON CONFLICT (org, agent, number) DO UPDATE SET role = excluded.role, draining = false
"""
_DRAIN: Final = """
UPDATE agent_slots SET draining = true
FROM unnest($2::text[], $3::bigint[]) AS u(agent, number)
WHERE agent_slots.org = $1 AND agent_slots.agent = u.agent AND agent_slots.number = u.number
"""
_DROP: Final = "DELETE FROM agent_slots WHERE draining AND attempt_id IS NULL"


class Catalog:
    """What is known of agents and repositories; refreshed when something was applied."""

    def __init__(self, org: str) -> None:
        self._org = org
        self._seen: Any = None
        self._agents: dict[str, Agent] = {}
        self._stacks: dict[str, AgentStack] = {}
        self._repositories: dict[str, Repository] = {}

    def agent(self, name: str) -> AgentSpec:
        agent = self._agents[name]
        return agent.as_value(name, self._stacks.get(agent.stack or ""))

    def skills(self, name: str) -> frozenset[str]:
        return frozenset(self.agent(name).skills) if name in self._agents else frozenset()

    def takes_work(self, name: str) -> bool:
        """Return whether the agent is active; a standby or inactive one keeps its slots and gets nothing new."""
        agent = self._agents.get(name)
        return agent is not None and agent.status is AgentStatus.ACTIVE

    def repository(self, name: str | None) -> RepositorySpec | None:
        known = self._repositories.get(name or "")
        return known.as_value(name) if known and name else None

    async def refresh(self, tx: Tx) -> bool:
        """Read the resources again if any was applied since, and bring the slots in line. True: something changed."""
        await tx.conn.execute(_DROP)
        seen = tuple(await tx.conn.fetchrow(_GENERATION, self._org))
        if seen == self._seen:
            return False
        self._agents = await resources.load_all(tx.conn, Agent, org=self._org)
        self._stacks = await resources.load_all(tx.conn, AgentStack, org=self._org)
        self._repositories = await resources.load_all(tx.conn, Repository, org=self._org)
        await self._resize(tx.conn)
        self._seen = seen
        return True

    async def _resize(self, conn: Any) -> None:
        wanted = {
            (name, number): agent.role
            for name, agent in self._agents.items()
            for number in range(1, agent.max_concurrent_tasks + 1)
        }
        have = {(row["agent"], row["number"]): row for row in await conn.fetch(_SLOTS, self._org)}
        new = [key for key, role in wanted.items() if key not in have or not _same(have[key], role)]
        gone = [key for key in have if key not in wanted]
        if new:
            roles = [wanted[key] for key in new]
            await conn.execute(_ADD, self._org, [a for a, _ in new], [n for _, n in new], roles)
        if gone:
            await conn.execute(_DRAIN, self._org, [a for a, _ in gone], [n for _, n in gone])
            await conn.execute(_DROP)


def _same(row: Any, role: str) -> bool:
    return row["role"] == role and not row["draining"]
