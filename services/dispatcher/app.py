"""Wires the dispatcher: intake, claims and the sweep of what is overdue."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from dispatch_common import service
from dispatch_common.db import Tx
from dispatch_common.events import (
    AnswerGiven,
    ApprovalDecided,
    AttemptFinished,
    AttemptPreparing,
    AttemptRequested,
    AttemptStarted,
    AttemptStopAsked,
    CancelAsked,
    DeliveryDecided,
    Fact,
    PolicyAsked,
    PolicyDecided,
    PublishRequested,
    PublishStopAsked,
    QuestionAsked,
    ResourceApplied,
    ResultPublished,
    ResultVerified,
    RunEnded,
    TaskReceived,
)
from dispatch_common.settings import Settings
from services.dispatcher.batch import take_all
from services.dispatcher.catalog import Catalog
from services.dispatcher.claim import claim
from services.dispatcher.run import Rules
from services.dispatcher.sweep import Sweep

HEARS: Final = (
    TaskReceived,
    PolicyDecided,
    ApprovalDecided,
    AttemptPreparing,
    AttemptStarted,
    AttemptFinished,
    QuestionAsked,
    AnswerGiven,
    ResultVerified,
    ResultPublished,
    CancelAsked,
    ResourceApplied,
)
SAYS: Final = (
    DeliveryDecided,
    PolicyAsked,
    AttemptRequested,
    AttemptStopAsked,
    PublishRequested,
    PublishStopAsked,
    RunEnded,
)


class Dispatcher:
    """React to facts, in the transaction that the intake opened."""

    def __init__(self, settings: Settings) -> None:
        self.catalog = Catalog(settings.org)
        self.rules = Rules(recheck=timedelta(seconds=settings.recheck_seconds))
        self._org = settings.org

    async def react(self, tx: Tx, facts: Sequence[Fact]) -> None:
        if any(isinstance(fact, ResourceApplied) for fact in facts):
            await self.catalog.refresh(tx)
        batch = await take_all(tx, facts, self.rules)
        if batch.wakes_claim:
            await claim(batch, self.catalog, self._org)


@asynccontextmanager
async def serve(settings: Settings) -> AsyncGenerator[service.Context]:
    """Run the dispatcher."""
    dispatcher = Dispatcher(settings)
    async with service.open(settings, "dispatcher", hears=HEARS, react=dispatcher.react) as ctx:
        sweep = Sweep(ctx.db, dispatcher.catalog, dispatcher.rules, settings.org)
        ctx.every(timedelta(seconds=settings.sweep_seconds), sweep.overdue, "overdue")
        ctx.every(timedelta(seconds=min(1.0, settings.sweep_seconds)), sweep.claims, "claims")
        yield ctx
