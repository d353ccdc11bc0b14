"""Takes up stored deliveries: one reading at a time per object, and all that came meanwhile shares the next one.

So a burst of twenty deliveries about one work item costs two readings. What fails is tried again later, with the reason
in the row; nothing is dropped.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, TypeAlias
from uuid import UUID

from prometheus_client import Counter

from dispatch_common import telemetry
from dispatch_common.backoff import backoff, spread_of
from dispatch_common.db import Db
from dispatch_common.errors import Transient
from dispatch_common.plane import PlaneRefused, RateLimited
from dispatch_common.settings import Settings
from services.webhook_receiver import store, tasks
from services.webhook_receiver.known import Known
from services.webhook_receiver.read import Group, Reader, SourceGone
from services.webhook_receiver.store import Due

_ONE: Final = 500
_IN_HAND_MOST: Final = 10_000
_AT_ONCE: Final = 4
_POLL: Final = 1.0
_AWAY_PAUSE: Final = 0.5
_BASE: Final = timedelta(seconds=2)
_REFUSED_BASE: Final = timedelta(seconds=20)
_PAUSED: Final = timedelta(seconds=15)

READINGS: Final = Counter("dispatch_readings_total", "Tasks read anew at their source.", ["outcome"])

Place: TypeAlias = tuple[str, str]


@dataclass(slots=True)
class Worker:
    """The receiver's background work. ``take_up`` is called after something was stored."""

    db: Db
    settings: Settings
    known: Known
    reader: Reader
    _tasks: asyncio.TaskGroup | None = None
    _some: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: dict[Place, list[Due]] = field(default_factory=dict[Place, list[Due]])
    _in_hand: set[UUID] = field(default_factory=set[UUID])
    _busy: set[Place] = field(default_factory=set[Place])
    _seats: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    def take_up(self, fresh: Sequence[Due]) -> None:
        """Take what was stored and claimed just now, without asking the database for it; look for the rest."""
        if self._tasks is None or len(self._in_hand) + len(fresh) > _IN_HAND_MOST:
            return  # the lease of the claim ends soon
        if fresh:
            self._sort(self._tasks, fresh)
        else:
            self._some.set()

    async def run(self) -> None:
        """Take up what is due, until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                self._some.clear()
                if not await self._claim(self._tasks):
                    await self._pause()

    async def sweep(self) -> None:
        """Read again what was handed over and never decided."""
        if taken := await store.again(self.db, self.settings.org):
            telemetry.log.warning("deliveries were not decided in time", service="webhook-receiver", count=taken)
            self._some.set()

    async def _claim(self, group: asyncio.TaskGroup) -> bool:
        """Claim what is due; tell whether more may be waiting."""
        if len(self._in_hand) >= _IN_HAND_MOST:
            return False
        try:
            claimed = await store.claim(self.db, self.settings.org, most=_ONE)
        except store.TROUBLE as error:
            telemetry.log.warning("nothing could be claimed", service="webhook-receiver", reason=repr(error))
            return False
        self._sort(group, claimed)
        return len(claimed) == _ONE

    def _sort(self, group: asyncio.TaskGroup, found: Sequence[Due]) -> None:
        """Lay deliveries to the others about the same object, and see to it that somebody reads it."""
        for due in found:
            if due.id in self._in_hand:
                continue
            self._in_hand.add(due.id)
            # Work that was asked for directly needs no reading: all of it is handed over together.
            direct = due.provider == tasks.PROVIDER
            place = (due.source, "" if direct else due.object_id or str(due.id))
            self._waiting.setdefault(place, []).append(due)
            if place not in self._busy:
                self._busy.add(place)
                group.create_task(self._attend(place), name=f"webhook-receiver/read {place[0]}")

    async def _attend(self, place: Place) -> None:
        """Read one object for as long as there are deliveries about it."""
        try:
            while self._waiting.get(place):
                if self.settings.receiver_quiet_ms and place[1]:
                    await asyncio.sleep(self.settings.receiver_quiet_ms / 1000)
                async with self._seats:
                    dues = self._waiting.pop(place)
                    await self._read(place, dues)
                self._in_hand.difference_update(due.id for due in dues)
        finally:
            self._busy.discard(place)

    async def _read(self, place: Place, group: Sequence[Due]) -> None:
        source = self.known.now.sources.get(group[0].source)
        if source is not None and source.paused:
            await self._later(group, _PAUSED, f"The source '{group[0].source}' is paused.", counted=False)
            return
        try:
            await self.reader.read(Group(group, lambda: [due.id for due in (*group, *self._waiting.get(place, ()))]))
        except store.TROUBLE as error:
            telemetry.log.warning("no database; a reading waits", service="webhook-receiver", reason=repr(error))
            await asyncio.sleep(_AWAY_PAUSE)
            # Taken up again when the lease of the claim is over, or sooner when the database answers.
            await self._later(group, timedelta(0), "The database was away.", counted=False)
        except RateLimited as error:
            READINGS.labels("rate_limited").inc()
            await self._later(group, error.delay, f"{error} It is read again then.", counted=False)
        except (Transient, PlaneRefused, SourceGone) as error:
            READINGS.labels("failed").inc()
            await self._later(group, _wait(group, error), f"{error} It is tried again.")
        except Exception as error:  # noqa: BLE001 - a bug in one group must not stop the others; it is logged and retried
            READINGS.labels("error").inc()
            telemetry.log.error("a reading failed", service="webhook-receiver", source=group[0].source, exc_info=error)
            await self._later(group, _wait(group, error), f"It could not be read ({type(error).__name__}).")
        else:
            READINGS.labels("done").inc()

    async def _later(self, group: Sequence[Due], wait: timedelta, sentence: str, *, counted: bool = True) -> None:
        try:
            await store.later(self.db, [due.id for due in group], wait, sentence, counted=counted)
        except store.TROUBLE:
            return
        if not wait:
            self._some.set()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(_POLL):
                await self._some.wait()
        except TimeoutError:
            return


def _wait(group: Sequence[Due], error: Exception) -> timedelta:
    failures = min(due.tries for due in group) - 1
    base = _REFUSED_BASE if isinstance(error, PlaneRefused | SourceGone) else _BASE
    least = error.delay if isinstance(error, Transient) else timedelta(0)
    return max(least, backoff(base, failures, spread=spread_of(group[0].id.int)))
