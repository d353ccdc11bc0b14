"""The hot loop of every service: take what is there, one transaction, ack. Facts reach a service only through it.

Per batch: decode → inbox → the service's ``react`` → outbox → commit → ack. A batch that fails is tried one by one;
what fails by itself comes again with a delay, and in the end becomes a dead letter that a person can look at.
"""

import asyncio
import random
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from nats.aio.msg import Msg

from dispatch_common import clock, ids, inbox, telemetry
from dispatch_common.db import AWAY, Db, Tx
from dispatch_common.errors import MalformedFact, Permanent, Transient
from dispatch_common.events import Fact, decode
from dispatch_common.pull import Pull, delivered

React = Callable[[Tx, Sequence[Fact]], Awaitable[None]]

_MOST: Final = 256
_TRIES: Final = 8
_AWAY_DELAY: Final = 1.0
_BURY: Final = """
INSERT INTO dead_letters (id, service, subject, reason, detail, body, deliveries) VALUES ($1, $2, $3, $4, $5, $6, $7)
"""


class Intake:
    """Feeds one service's ``react`` from its durable consumer. One instance per process and service."""

    def __init__(self, db: Db, pull: Pull, react: React) -> None:
        self._db = db
        self._pull = pull
        self._react = react
        self._service = db.service

    async def run(self) -> None:
        """Take and handle until cancelled; a batch in hand is finished by ``drain``."""
        while True:
            messages = await self._pull.next(_MOST)
            await asyncio.shield(self._handle(messages))

    async def _handle(self, messages: list[Msg]) -> None:
        began = time.monotonic()
        known: list[tuple[Msg, Fact]] = []
        for message in messages:
            try:
                known.append((message, decode(message.data)))
            except MalformedFact as error:
                await self._bury(message, error)
        await self._batch(known)
        telemetry.BATCH_SECONDS.labels(self._service).observe(time.monotonic() - began)
        telemetry.BATCH_SIZE.labels(self._service).observe(len(messages))

    async def _batch(self, batch: list[tuple[Msg, Fact]]) -> None:
        try:
            await self.take([fact for _, fact in batch])
        except AWAY as error:
            telemetry.log.warning("the database is away", service=self._service, reason=str(error))
            for message, _ in batch:
                await self._pull.nak(message, delay=_AWAY_DELAY)
        except Exception as error:  # noqa: BLE001 - the one place that turns an exception into ack, nak or dead letter
            telemetry.FAILED_BATCHES.labels(self._service).inc()
            if len(batch) > 1:
                for one in batch:
                    await self._batch([one])
            else:
                await self._failed(batch[0][0], error)
        else:
            for message, _ in batch:
                await self._pull.ack(message)

    async def take(self, facts: Sequence[Fact]) -> None:
        """Handle facts in one transaction, each at most once."""
        if not facts:
            return
        began = clock.wall_ns()
        fresh: list[Fact] = []
        async with self._db.transaction() as tx:
            new = await inbox.first_time(tx, self._service, [fact.id for fact in facts])
            for fact in facts:
                if fact.id in new:
                    new.discard(fact.id)
                    fresh.append(fact)
            if fresh:
                await self._react(tx, fresh)
        for fact in fresh:
            telemetry.FACTS_TAKEN.labels(self._service, fact.type).inc()
            telemetry.taken(f"{self._service} takes {fact.type}", fact.traceparent, about=fact.about, began=began)

    async def _failed(self, message: Msg, error: Exception) -> None:
        tries = delivered(message)
        telemetry.log.error(
            "a fact could not be taken",
            service=self._service,
            subject=message.subject,
            tries=tries,
            exc_info=error,
        )
        if isinstance(error, Permanent) or tries >= _TRIES:
            await self._bury(message, error)
            return
        delay = error.delay.total_seconds() if isinstance(error, Transient) else min(0.2 * 2**tries, 30.0)
        await self._pull.nak(message, delay=delay * random.uniform(1.0, 1.25))

    async def _bury(self, message: Msg, error: Exception) -> None:
        detail = "".join(traceback.format_exception(error))[-4000:]
        try:
            await self._db.execute(
                _BURY,
                ids.fresh(),
                self._service,
                message.subject,
                f"{type(error).__name__}: {error}"[:500],
                detail,
                message.data,
                delivered(message),
            )
        except AWAY:
            await self._pull.nak(message, delay=_AWAY_DELAY)
            return
        telemetry.DEAD_LETTERS.labels(self._service).inc()
        await self._pull.term(message)
