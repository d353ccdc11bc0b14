"""A dispatcher on a real database, fed facts by hand: what other services would say."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from dispatch_common import ids, inbox
from dispatch_common.db import Db, open_db
from dispatch_common.events import (
    AttemptFinished,
    AttemptOutcome,
    Fact,
    PolicyAsked,
    PolicyDecided,
    PublishOutcome,
    ResultPublished,
    TaskReceived,
    decode,
)
from dispatch_common.settings import Settings
from dispatch_common.values import (
    Actor,
    Ask,
    Grant,
    Priority,
    Reason,
    ResultRef,
    Stage,
    TaskSnapshot,
    Verdict,
    Wanted,
)
from services.dispatcher.app import Dispatcher
from services.dispatcher.sweep import Sweep

START = datetime(2026, 11, 21, 8, tzinfo=UTC)
ALICE = Actor(id="alice", name="Alice")


class World:
    """The dispatcher and what it said so far."""

    def __init__(self, db: Db, settings: Settings) -> None:
        self.db = db
        self.dispatcher = Dispatcher(settings)
        self.sweep = Sweep(db, self.dispatcher.catalog, self.dispatcher.rules, settings.org)
        self.readings = 0

    async def hears(self, *facts: Fact) -> None:
        """Let the dispatcher take facts as its intake would, in one transaction."""
        async with self.db.transaction() as tx:
            new = await inbox.first_time(tx, "dispatcher", [fact.id for fact in facts])
            await self.dispatcher.react(tx, [fact for fact in facts if fact.id in new])

    async def said(self, kind: type[Fact]) -> list[Any]:
        """Return all facts of a kind that it said, oldest first."""
        rows = await self.db.fetch("SELECT body FROM outbox ORDER BY position")
        return [fact for fact in (decode(row["body"]) for row in rows) if isinstance(fact, kind)]

    async def states(self) -> list[str]:
        rows = await self.db.fetch("SELECT state FROM runs ORDER BY created_at, id")
        return [row["state"] for row in rows]

    async def agent(
        self, name: str, role: str, *, slots: int = 1, skills: tuple[str, ...] = (), status: str = "active"
    ) -> None:
        """Apply an agent as the console would."""
        spec = {
            "role": role,
            "maxConcurrentTasks": slots,
            "backend": "scripted",
            "skills": list(skills),
            "permissionSet": "standard",
            "status": status,
        }
        await self.db.execute(
            "INSERT INTO resources (org, kind, name, generation, spec, digest, applied_by) VALUES "
            "('default', 'Agent', $1, 1, $2, '', 'test') ON CONFLICT (org, kind, name) "
            "DO UPDATE SET spec = excluded.spec, generation = resources.generation + 1, applied_at = clock_timestamp()",
            name,
            spec,
        )
        await self.sweep.claims()

    def reading(
        self,
        *labels: str,
        item: str = "item-1",
        title: str = "Fix it",
        asks: tuple[Ask, ...] = (),
        may_start: bool = True,
        closed: bool = False,
        project: str = "DISP",
        priority: Priority = Priority.NONE,
    ) -> TaskReceived:
        """Return what the receiver says after reading an item with agent labels."""
        self.readings += 1
        snapshot = TaskSnapshot(
            source="plane",
            provider="plane",
            object_id=item,
            key=f"{project}-1",
            title=title,
            labels=labels,
            project=project,
            priority=priority,
            closed=closed,
            read_at=START + timedelta(seconds=self.readings),
            digest=f"{title}{labels}{closed}",
        )
        wanted = tuple(Wanted(key=f"label:{label}", role=label.partition(":")[2]) for label in labels)
        return TaskReceived(
            id=ids.fresh(),
            time=START,
            delivery_ids=(ids.fresh(),),
            snapshot=snapshot,
            wanted=wanted,
            asks=asks,
            actor=ALICE,
            may_start=may_start,
        )

    async def policy_allows(self, *, grant: Grant | None = None) -> None:
        """Answer every question policy has not answered yet with allow."""
        await self.policy_says(Verdict.ALLOW, grant=grant or Grant())

    async def policy_says(self, verdict: Verdict, *, grant: Grant | None = None) -> None:
        await self.hears(
            *(
                PolicyDecided(
                    id=ids.derived("answer", asked.run_id, asked.ask),
                    time=START,
                    run_id=asked.run_id,
                    ask=asked.ask,
                    stage=Stage.LAUNCH,
                    decision_id=ids.fresh(),
                    verdict=verdict,
                    reasons=(Reason(code="test", sentence="Because of the test."),),
                    grant=grant,
                )
                for asked in await self.said(PolicyAsked)
            )
        )


def finished(attempt: Any, outcome: AttemptOutcome = AttemptOutcome.SUCCEEDED, **more: Any) -> AttemptFinished:
    """Return the end of an attempt that was requested."""
    if outcome is AttemptOutcome.SUCCEEDED:
        more.setdefault("result", ResultRef(base_commit="b" * 40))
    return AttemptFinished(
        id=ids.fresh(),
        time=START,
        run_id=attempt.run_id,
        attempt_id=attempt.attempt_id,
        fence=attempt.fence,
        outcome=outcome,
        sentence="It ended.",
        **more,
    )


def published(run_id: UUID, revision: int = 1) -> ResultPublished:
    return ResultPublished(
        id=ids.fresh(), time=START, run_id=run_id, revision=revision, outcome=PublishOutcome.PUBLISHED, sentence="Done."
    )


@pytest.fixture
async def world(database: str) -> AsyncGenerator[World, None]:
    async with open_db(database, "dispatcher") as db:
        yield World(db, Settings(database_url=database))
