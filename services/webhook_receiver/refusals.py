"""Keeps in short what was refused, so that a person can see why; bounded, so that a flood fills nothing."""

import asyncio
from typing import Final

from prometheus_client import Counter

from dispatch_common import clock, ids, telemetry
from dispatch_common.db import Db
from services.webhook_receiver import store
from services.webhook_receiver.arrival import storable
from services.webhook_receiver.store import Refused

_PER_SECOND: Final = 5.0
_BURST: Final = 100.0
_LONGEST: Final = 100

REFUSED: Final = Counter("dispatch_refused_deliveries_total", "Requests that were not taken.", ["code"])


class Refusals:
    """Counts all, keeps as many as the bucket allows, writes them in the background."""

    def __init__(self, db: Db, org: str) -> None:
        self._db = db
        self._org = org
        self._tokens = _BURST
        self._filled_at = clock.monotonic()
        self._queue: asyncio.Queue[Refused] = asyncio.Queue(maxsize=int(_BURST))

    def note(self, *, source: str, code: str, sentence: str, size: int = 0, digest: str = "", remote: str = "") -> None:
        """Note a refusal without waiting. A flood is counted and not written."""
        REFUSED.labels(code).inc()
        if not self._allowed() or self._queue.full():
            return
        shown = storable(source)[:_LONGEST]
        self._queue.put_nowait(
            Refused(ids.fresh(), self._org, shown, code, sentence, size, digest, remote[:_LONGEST], clock.now())
        )

    async def run(self) -> None:
        """Write what was noted, until cancelled. Without a database it is forgotten: the counter has told."""
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get_nowait())
            try:
                await store.refuse(self._db, batch)
            except store.TROUBLE as error:
                telemetry.log.warning("refusals were not written", service="webhook-receiver", reason=repr(error))

    def _allowed(self) -> bool:
        now = clock.monotonic()
        self._tokens = min(_BURST, self._tokens + (now - self._filled_at) * _PER_SECOND)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
