"""Wires the webhook-receiver: the front door, the spool, what must be known, and the worker that reads tasks."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from dispatch_common import secrets, service
from dispatch_common.db import Tx
from dispatch_common.events import DeliveryDecided, Fact, ResourceApplied, TaskReceived
from dispatch_common.settings import Settings
from services.webhook_receiver import http, store, tasks
from services.webhook_receiver.admit import Admission
from services.webhook_receiver.clients import Clients
from services.webhook_receiver.hook import PlaneHook
from services.webhook_receiver.known import Known
from services.webhook_receiver.read import Reader
from services.webhook_receiver.refusals import Refusals
from services.webhook_receiver.spool import Spool
from services.webhook_receiver.worker import Worker

HEARS: Final = (DeliveryDecided, ResourceApplied)
SAYS: Final = (TaskReceived,)

NAME: Final = "webhook-receiver"
_DRAIN_EVERY: Final = timedelta(seconds=1)
_PRUNE_EVERY: Final = timedelta(minutes=10)


class Reaction:
    """Takes the facts that the receiver hears."""

    def __init__(self) -> None:
        self.applied = asyncio.Event()

    async def react(self, tx: Tx, facts: Sequence[Fact]) -> None:
        decided = [fact for fact in facts if isinstance(fact, DeliveryDecided) and fact.delivery_ids]
        if decided:
            await store.decided(tx, decided)
        if any(isinstance(fact, ResourceApplied) for fact in facts):
            self.applied.set()


@asynccontextmanager
async def serve(settings: Settings) -> AsyncGenerator[service.Context]:
    """Run the webhook-receiver. It takes deliveries in even while there is no database and no broker."""
    reaction = Reaction()
    async with service.open(settings, NAME, hears=HEARS, react=reaction.react, works_alone=True) as ctx:
        known = Known(
            ctx.db, secrets.load_kek(settings.kek_file), org=settings.org, file=settings.data / "receiver/known.sealed"
        )
        await known.start()
        clients = Clients(ctx.db, known, settings.org)
        worker = Worker(ctx.db, settings, known, Reader(ctx.db, settings, known, clients))
        spool = Spool(settings.spool, most_bytes=settings.spool_mib * 1024 * 1024)
        admission = Admission(ctx.db, spool, stored=worker.take_up)
        refusals = Refusals(ctx.db, settings.org)
        _in_the_background(ctx, worker=worker, known=known, reaction=reaction, admission=admission, refusals=refusals)
        ctx.ready("spool", lambda: _spool_is_sound(spool))
        front = http.front(
            PlaneHook(settings, known, admission, refusals),
            tasks.application(tasks.TaskDesk(settings, ctx.db, known, admission, refusals)),
        )
        try:
            async with service.http_server(front, host=settings.receiver_host, port=settings.receiver_port) as url:
                ctx.urls["receiver"] = url
                yield ctx
        finally:
            await admission.close()
            await clients.close()


def _in_the_background(
    ctx: service.Context,
    *,
    worker: Worker,
    known: Known,
    reaction: Reaction,
    admission: Admission,
    refusals: Refusals,
) -> None:
    sweep = timedelta(seconds=ctx.settings.sweep_seconds)
    ctx.spawn(worker.run(), "read")
    ctx.spawn(refusals.run(), "refusals")
    ctx.spawn(_refresh(known, reaction.applied), "known")
    ctx.every(_DRAIN_EVERY, admission.drain, "spool")
    ctx.every(sweep, known.refresh, "known")
    ctx.every(sweep, worker.sweep, "undecided")
    ctx.every(_PRUNE_EVERY, lambda: store.prune(ctx.db), "prune")


async def _refresh(known: Known, applied: asyncio.Event) -> None:
    """Look again as soon as something was applied; when that fails, the periodic look makes up for it."""
    while True:
        await applied.wait()
        applied.clear()
        with contextlib.suppress(*store.TROUBLE):
            await known.refresh()


async def _spool_is_sound(spool: Spool) -> str | None:
    damaged = spool.damaged()
    return f"{damaged[0]} ended in damage; what could be read of it was stored" if damaged else None
