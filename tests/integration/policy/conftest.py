"""Policy on a real database and a real repository, its facts handed over as the intake does."""

import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import pytest

from dispatch_common import ids
from dispatch_common.db import Db, open_db
from dispatch_common.events import ApprovalAnswered, ApprovalDecided, Fact, PolicyAsked, PolicyDecided, decode
from dispatch_common.resources import Resource
from dispatch_common.values import Actor, Stage, Trust
from services.policy import sweep
from services.policy.handlers import Handlers
from services.policy.pins import Pins
from services.policy.snapshot import Snapshots
from services.policy.uptime import Uptime
from tests.support.policies import BOB, catalog, judged, resource

F = TypeVar("F", bound=Fact)
RUN = UUID(int=0xA1)


@dataclass
class World:
    """One policy service without its broker."""

    db: Db
    handlers: Handlers
    pins: Pins
    uptime: Uptime
    repository: Path

    async def take(self, *facts: Fact) -> None:
        """Hand facts over in one batch."""
        async with self.db.transaction() as tx:
            await self.handlers.react(tx, facts)

    async def ask(self, ask: int = 1, *, run: UUID = RUN, stage: Stage = Stage.LAUNCH, **changes: Any) -> PolicyAsked:
        """Ask about a run as the dispatcher does."""
        asked = await self.question(ask, run=run, stage=stage, **changes)
        await self.take(asked)
        return asked

    async def question(
        self, ask: int = 1, *, run: UUID = RUN, stage: Stage = Stage.LAUNCH, **changes: Any
    ) -> PolicyAsked:
        now = await self.db.fetchval("SELECT clock_timestamp()")
        about = judged(**changes)
        return PolicyAsked(id=ids.fresh(), time=now, run_id=run, ask=ask, stage=stage, judged=about)

    async def escalated(self, ask: int = 1, *, run: UUID = RUN, **changes: Any) -> PolicyDecided:
        """Ask about an outsider's task, pin its base, and return the escalation."""
        await self.ask(ask, run=run, trust=Trust.OUTSIDER, **changes)
        await self.pins.once()
        return await self.last(PolicyDecided)

    async def answer(self, approval_id: UUID | None, *, by: Actor = BOB, approve: bool = True, **more: Any) -> None:
        """Answer an approval as the console does."""
        assert approval_id is not None
        now = await self.db.fetchval("SELECT clock_timestamp()")
        said: dict[str, Any] = {"run_id": RUN, "approval_id": approval_id, "approve": approve, "by": by, **more}
        await self.take(ApprovalAnswered(id=ids.fresh(), time=now, **said))

    async def said(self, kind: type[F]) -> list[F]:
        """Return what policy has said so far, oldest first."""
        rows = await self.db.fetch("SELECT body FROM outbox WHERE service = 'policy' ORDER BY position")
        return [fact for row in rows if isinstance(fact := decode(row["body"]), kind)]

    async def last(self, kind: type[F]) -> F:
        return (await self.said(kind))[-1]

    async def apply(self, *resources: Resource) -> None:
        """Store resources as the console does, one generation on."""
        for each in resources:
            await self.db.execute(
                """INSERT INTO resources (org, kind, name, generation, spec, digest, applied_by)
                   VALUES ('default', $1, $2, 1, $3, '', 'test') ON CONFLICT (org, kind, name)
                   DO UPDATE SET generation = resources.generation + 1, spec = excluded.spec""",
                each.kind,
                each.name,
                each.document,
            )

    async def delete(self, kind: str, name: str) -> None:
        await self.db.execute(
            "UPDATE resources SET spec = NULL, generation = generation + 1 WHERE kind = $1 AND name = $2", kind, name
        )

    async def principal(self, name: str, *roles: str) -> None:
        await self.db.execute(
            "INSERT INTO principals (org, name, roles, token_digest) VALUES ('default', $1, $2, $1)", name, list(roles)
        )

    async def approvals(self) -> dict[int, str]:
        """Return the state of each approval by its ask."""
        rows = await self.db.fetch("SELECT ask, state FROM approvals ORDER BY ask")
        return {row["ask"]: row["state"] for row in rows}

    async def overdue(self, by: timedelta = timedelta(minutes=1)) -> None:
        """Let the terms of all approvals have ended that long ago."""
        await self.db.execute(
            """UPDATE approvals SET created_at = created_at - (expires_at - clock_timestamp()) - $1::interval,
                                    expires_at = clock_timestamp() - $1::interval""",
            by,
        )

    async def up_for(self, time: timedelta) -> None:
        """Let policy have worked without a break for that long."""
        now = await self.db.fetchval("SELECT clock_timestamp()")
        self.uptime.beat(now - time)

    async def expire(self) -> int:
        return await sweep.expire(self.db, self.uptime)

    async def answers(self) -> Sequence[Any]:
        return await self.db.fetch("SELECT * FROM approval_answers ORDER BY at")

    async def approval_facts(self) -> list[ApprovalDecided]:
        return await self.said(ApprovalDecided)


def git(*arguments: str, at: Path) -> str:
    """Run git as a person would."""
    settings = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", *settings, *arguments], cwd=at, check=True, capture_output=True, text=True
    ).stdout.strip()


def a_repository(at: Path) -> Path:
    """Make a repository with one commit on main."""
    at.mkdir()
    git("init", "-q", at=at)
    git("commit", "-q", "--allow-empty", "-m", "First", at=at)
    return at


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    """Policy with the demo's catalog, whose repository is a real one, and Bob, who may approve."""
    repository = a_repository(tmp_path / "sample")
    async with open_db(database, "policy") as db:
        snapshots, uptime = Snapshots(), Uptime(timedelta(days=365))
        handlers = Handlers(snapshots, uptime)
        made = World(db, handlers, Pins(db, snapshots, handlers.wanted), uptime, repository)
        await made.apply(*catalog(), resource("Repository", "sample", url=str(repository)))
        await made.principal("bob", "approver")
        yield made
