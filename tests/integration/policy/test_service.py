"""The whole service on a real broker: it hears, answers, survives a restart, and keeps up with a burst."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest

from dispatch_common import ids, service
from dispatch_common.db import Tx
from dispatch_common.events import ApprovalAnswered, ApprovalDecided, Fact, PolicyAsked, PolicyDecided
from dispatch_common.settings import Settings
from dispatch_common.values import Stage, Trust, Verdict
from services.local import Nats
from services.policy import app
from tests.integration.policy.conftest import RUN, World
from tests.support.policies import BOB, judged
from tests.support.waiting import eventually


class Dispatcher:
    """Stands where the dispatcher does: asks, and keeps what it hears."""

    def __init__(self) -> None:
        self.decided: dict[tuple[UUID, int], PolicyDecided] = {}
        self.approvals: list[ApprovalDecided] = []
        self.ctx: service.Context | None = None

    async def react(self, _tx: Tx, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if isinstance(fact, PolicyDecided):
                self.decided[fact.run_id, fact.ask] = fact
            elif isinstance(fact, ApprovalDecided):
                self.approvals.append(fact)

    @asynccontextmanager
    async def serve(self, settings: Settings) -> AsyncGenerator["Dispatcher"]:
        hears = (PolicyDecided, ApprovalDecided)
        async with service.open(settings, "dispatcher", hears=hears, react=self.react) as self.ctx:
            yield self

    async def ask(self, *questions: tuple[UUID, int, Trust]) -> None:
        assert self.ctx is not None
        async with self.ctx.db.transaction() as tx:
            now = await tx.now()
            for run, ask, trust in questions:
                about = judged(trust=trust)
                tx.say(PolicyAsked(id=ids.fresh(), time=now, run_id=run, ask=ask, stage=Stage.LAUNCH, judged=about))

    async def approve(self, approval_id: UUID | None) -> None:
        assert self.ctx is not None
        assert approval_id is not None
        async with self.ctx.db.transaction() as tx:
            now = await tx.now()
            tx.say(
                ApprovalAnswered(id=ids.fresh(), time=now, run_id=RUN, approval_id=approval_id, approve=True, by=BOB)
            )


@pytest.fixture
def settings(database: str, nats: Nats, tmp_path: Path) -> Settings:
    return Settings(database_url=database, nats_url=nats.url, data=tmp_path, ack_wait_seconds=1, sweep_seconds=0.1)


async def test_a_run_is_escalated_approved_and_allowed(world: World, settings: Settings) -> None:
    assert world
    async with app.serve(settings), Dispatcher().serve(settings) as dispatcher:
        await dispatcher.ask((RUN, 1, Trust.OUTSIDER))
        await eventually(lambda: (RUN, 1) in dispatcher.decided)
        escalation = dispatcher.decided[RUN, 1]
        assert escalation.verdict is Verdict.ESCALATE

        await dispatcher.approve(escalation.approval_id)
        await eventually(lambda: dispatcher.approvals)
        await dispatcher.ask((RUN, 2, Trust.OUTSIDER))

        await eventually(lambda: (RUN, 2) in dispatcher.decided)
        assert dispatcher.decided[RUN, 2].verdict is Verdict.ALLOW


async def test_what_was_asked_while_policy_was_away_is_answered(world: World, settings: Settings) -> None:
    assert world
    async with Dispatcher().serve(settings) as dispatcher:
        async with app.serve(settings):
            await dispatcher.ask((RUN, 1, Trust.MEMBER))
            await eventually(lambda: (RUN, 1) in dispatcher.decided)
        await dispatcher.ask((RUN, 2, Trust.MEMBER), (UUID(int=5), 1, Trust.OUTSIDER))

        async with app.serve(settings):
            await eventually(lambda: len(dispatcher.decided) == 3)


async def test_a_burst_is_answered_once_each(world: World, settings: Settings) -> None:
    runs = [ids.fresh() for _ in range(1000)]
    async with app.serve(settings), Dispatcher().serve(settings) as dispatcher:
        await dispatcher.ask(*((run, 1, Trust.MEMBER) for run in runs))
        await eventually(lambda: len(dispatcher.decided) == len(runs))

    assert {fact.verdict for fact in dispatcher.decided.values()} == {Verdict.ALLOW}
    assert await world.db.fetchval("SELECT count(*) FROM decisions") == len(runs)
