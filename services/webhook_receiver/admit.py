"""Stores verified requests before they are answered: one insert for all that wait, or the spool without a database.

Requests that come while an insert is in flight share the next one. A request is answered only after its commit, or
after the fsync of its record.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from prometheus_client import Counter, Gauge

from dispatch_common import clock, telemetry
from dispatch_common.db import Db
from services.webhook_receiver import store
from services.webhook_receiver.arrival import Arrival, Stored, cleaned
from services.webhook_receiver.spool import Spool, SpoolFull
from services.webhook_receiver.store import Due

_MOST: Final = 256
_MOST_BYTES: Final = 16 * 1024 * 1024
_SMALL: Final = 256 * 1024
_PATIENCE: Final = 3.0
#: After a failure the database is not asked again so soon; requests go straight to the spool.
_AWAY_FOR: Final = 1.0

DELIVERIES: Final = Counter("dispatch_deliveries_total", "Verified requests that were stored.", ["place"])
SPOOLED: Final = Gauge("dispatch_spool_bytes", "Requests that wait on disk for the database.")


class Admission:
    """The one way in. ``stored`` is given what each commit brought and the worker may take up at once."""

    def __init__(self, db: Db, spool: Spool, *, stored: Callable[[Sequence[Due]], None]) -> None:
        self._db = db
        self._spool = spool
        self._stored = stored
        self._waiting: list[tuple[Arrival, asyncio.Future[Stored]]] = []
        self._working: asyncio.Task[None] | None = None
        self._away_until = 0.0
        self._disk = asyncio.Lock()

    @property
    def database_is_away(self) -> bool:
        return clock.monotonic() < self._away_until

    async def admit(self, arrival: Arrival) -> Stored:
        """Return once the arrival is durable; SpoolFull when there is neither database nor room."""
        answer: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._waiting.append((cleaned(arrival), answer))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work(), name="webhook-receiver/admit")
        return await answer

    async def drain(self) -> int:
        """Bring what is spooled into the database, oldest first; return how many records were brought."""
        if not self._spool.used and not self._spool.segments():
            return 0
        async with self._disk:
            self._spool.roll()
        brought = 0
        for segment in self._spool.segments():
            held = await asyncio.to_thread(self._spool.take, segment)
            if held is None:
                continue
            with held:
                count, whole = await self._bring(segment)
                async with self._disk:
                    await asyncio.to_thread(self._spool.drop, segment, whole=whole)
            brought += count
        SPOOLED.set(self._spool.used)
        if brought:
            telemetry.log.info("the spool was drained", service="webhook-receiver", records=brought)
            self._stored(())
        return brought

    async def _bring(self, segment: Path) -> tuple[int, bool]:
        """Store a segment's records; return how many there are, and whether each of them could be stored."""
        records = await asyncio.to_thread(list, self._spool.read(segment))
        arrivals = [Arrival.decode(record) for record in records]
        whole = True
        for start in range(0, len(arrivals), _MOST):
            batch = arrivals[start : start + _MOST]
            try:
                await store.insert(self._db, batch)
            except store.DATA:
                whole = all([await self._brought(arrival) for arrival in batch]) and whole
        return len(arrivals), whole

    async def _brought(self, arrival: Arrival) -> bool:
        try:
            await store.insert(self._db, [arrival])
        except store.DATA as error:
            telemetry.log.error("a spooled request cannot be stored", service="webhook-receiver", reason=repr(error))
            return False
        return True

    async def close(self) -> None:
        """Wait for what is being stored, and leave the spool to whoever drains it next."""
        if self._working is not None:
            await asyncio.wait([self._working])
        self._spool.roll()

    async def _work(self) -> None:
        while self._waiting:
            batch = self._batch()
            arrivals = [arrival for arrival, _ in batch]
            try:
                answers = await self._keep(arrivals)
            except Exception as error:  # noqa: BLE001 - whatever happened, every waiting request gets an answer
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), stored in zip(batch, answers, strict=True):
                if not answer.done():
                    answer.set_result(stored)

    def _batch(self) -> list[tuple[Arrival, "asyncio.Future[Stored]"]]:
        size, count = 0, 0
        for arrival, _ in self._waiting[:_MOST]:
            size += len(arrival.body)
            if count and size > _MOST_BYTES:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    async def _keep(self, arrivals: list[Arrival]) -> Sequence[Stored]:
        if not self.database_is_away:
            # A large body is not kept in memory; the worker finds it in the table.
            small = {arrival.id: arrival for arrival in arrivals if len(arrival.body) <= _SMALL}
            try:
                async with asyncio.timeout(_PATIENCE):
                    answers = await store.insert(self._db, arrivals, taken=small)
            except store.DATA:
                return [await self._one(arrival) for arrival in arrivals]
            except store.TROUBLE as error:
                self._away_until = clock.monotonic() + _AWAY_FOR
                telemetry.log.warning(
                    "no database; requests are spooled", service="webhook-receiver", reason=repr(error)
                )
            else:
                DELIVERIES.labels("database").inc(len(arrivals))
                self._stored([store.due(small[each.id]) for each in answers if not each.duplicate and each.id in small])
                return answers
        return await self._spool_all(arrivals)

    async def _one(self, arrival: Arrival) -> Stored:
        """Store one of a batch in which some row is at fault; the error of that one reaches its sender alone."""
        return (await store.insert(self._db, [arrival]))[0]

    async def _spool_all(self, arrivals: list[Arrival]) -> Sequence[Stored]:
        records = [arrival.encode() for arrival in arrivals]
        async with self._disk:
            await asyncio.to_thread(self._spool.append, records)
        DELIVERIES.labels("spool").inc(len(arrivals))
        SPOOLED.set(self._spool.used)
        return [Stored(arrival.id) for arrival in arrivals]


RETRY_AFTER: Final = timedelta(seconds=30)
__all__ = ["RETRY_AFTER", "Admission", "SpoolFull"]
