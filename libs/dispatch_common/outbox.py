"""The relay: publishes a service's committed facts, and re-emits what a broker that lost its memory forgot.

Nobody else publishes facts. Rows stay until their run is terminal, so that every fact can be said again.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from dispatch_common import streams, telemetry
from dispatch_common.db import AWAY, Db, Said
from dispatch_common.publish import NotPublished, publish_all
from dispatch_common.settings import Settings

#: Rows younger than this are in the hands of the process that committed them.
_ORPHANED_AFTER: Final = timedelta(seconds=5)
_POLL: Final = 1.0
_MARK_PAUSE: Final = 0.02
_ROUND: Final = 1024
_RETRY: Final = 0.5

_ORPHANS: Final = """
UPDATE outbox SET at = clock_timestamp(), emissions = emissions + 1
WHERE position IN (
    SELECT position FROM outbox WHERE service = $1 AND published_at IS NULL AND at < clock_timestamp() - $2::interval
    ORDER BY position LIMIT 500 FOR UPDATE SKIP LOCKED)
RETURNING position, fact_id, subject, body, emissions
"""
_KEPT: Final = """
UPDATE outbox SET emissions = emissions + 1 WHERE position IN (
    SELECT position FROM outbox WHERE service = $1 AND position > $2 ORDER BY position LIMIT 500)
RETURNING position, fact_id, subject, body, emissions
"""
_MARK: Final = "UPDATE outbox SET published_at = clock_timestamp() WHERE position = ANY($1::bigint[])"
_EPOCH: Final = """
INSERT INTO broker_epochs (service, stream, created, last_seq) VALUES ($1, $2, $3, $4)
ON CONFLICT (service, stream) DO UPDATE SET created = excluded.created, last_seq = excluded.last_seq
"""
#: A fact is kept while its run lives, and long enough afterwards for a consumer that was away to take it.
_KEPT_AFTER: Final = timedelta(hours=6)
_PRUNE: Final = """
DELETE FROM outbox WHERE position IN (
    SELECT o.position FROM outbox o LEFT JOIN live_runs r ON r.about = o.about
    WHERE o.service = $1 AND o.published_at < clock_timestamp() - $2::interval AND r.about IS NULL
    ORDER BY o.position LIMIT 5000)
"""


class Relay:
    """Publishes one service's outbox. ``run`` never ends by itself; facts wait while the broker is away."""

    def __init__(self, db: Db, nc: Client, js: JetStreamContext, settings: Settings) -> None:
        self._db = db
        self._nc = nc
        self._js = js
        self._settings = settings
        self._waiting: deque[Said] = deque()
        self._published: list[int] = []
        self._some = asyncio.Event()
        self._highest = 0
        db.after_commit = self.offer

    def offer(self, said: Sequence[Said]) -> None:
        """Take committed facts, without waiting."""
        self._waiting.extend(said)
        self._some.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish_loop())
            group.create_task(self._mark_loop())
            group.create_task(self._poll_loop())

    async def drain(self) -> None:
        """Publish what was committed, as far as the broker answers; the rest stays in the table."""
        with contextlib.suppress(NotPublished, *AWAY):
            while self._waiting:
                await self._publish_round()
            await self._mark_round()

    async def _publish_loop(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            while self._waiting:
                try:
                    await self._publish_round()
                except NotPublished as error:
                    telemetry.log.warning("facts wait for the broker", service=self._db.service, reason=str(error))
                    await asyncio.sleep(_RETRY)

    async def _publish_round(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(_ROUND, len(self._waiting)))]
        try:
            highest = await publish_all(self._nc, batch)
        except BaseException:
            self._waiting.extendleft(reversed(batch))
            raise
        self._highest = max(self._highest, highest)
        self._published.extend(said.position for said in batch)
        telemetry.FACTS_SAID.labels(self._db.service).inc(len(batch))

    async def _mark_loop(self) -> None:
        while True:
            await asyncio.sleep(_MARK_PAUSE)
            with contextlib.suppress(*AWAY):
                await self._mark_round()

    async def _mark_round(self) -> None:
        positions, self._published = self._published, []
        if not positions:
            return
        try:
            async with self._db.pool.acquire() as conn, conn.transaction():
                # A lost mark costs one more publication, which inboxes absorb; an fsync per mark would cost more.
                await conn.execute("SET LOCAL synchronous_commit = off")
                await conn.execute(_MARK, positions)
        except BaseException:
            self._published.extend(positions)
            raise

    async def _poll_loop(self) -> None:
        patience = timedelta(0)  # at the start nothing is in our hands: whatever waits is an orphan
        while True:
            try:
                await self._take_orphans(patience)
                await self._watch_epoch()
                patience = _ORPHANED_AFTER
            except (*AWAY, APIError, NotFoundError, TimeoutError) as error:
                telemetry.log.warning("the relay could not look", service=self._db.service, reason=str(error))
            await asyncio.sleep(_POLL)

    async def _take_orphans(self, older_than: timedelta) -> None:
        if self._waiting:
            return
        rows = await self._db.fetch(_ORPHANS, self._db.service, older_than)
        telemetry.OUTBOX_WAITING.labels(self._db.service).set(len(rows))
        self.offer([_said(row) for row in rows])

    async def _watch_epoch(self) -> None:
        """Compare the stream with the one remembered; a new one, or one whose tail is gone, gets everything again."""
        try:
            info = await self._js.stream_info(streams.FACTS)
        except NotFoundError:
            await streams.ensure(self._js, self._settings)
            info = await self._js.stream_info(streams.FACTS)
        created, last = str(info.created), info.state.last_seq
        known = await self._db.fetchrow(
            "SELECT created, last_seq FROM broker_epochs WHERE service = $1 AND stream = $2",
            self._db.service,
            streams.FACTS,
        )
        if known is not None and (known["created"] != created or last < max(known["last_seq"], 0)):
            await self.say_everything_again()
            self._highest = 0
        if (
            known is None
            or known["created"] != created
            or known["last_seq"] < self._highest
            or last < known["last_seq"]
        ):
            highest = min(self._highest, last)
            await self._db.execute(_EPOCH, self._db.service, streams.FACTS, created, highest)

    async def say_everything_again(self) -> None:
        """Offer every kept row again under new message ids; inboxes drop what was already taken."""
        position, count = 0, 0
        while rows := await self._db.fetch(_KEPT, self._db.service, position):
            position = max(row["position"] for row in rows)
            count += len(rows)
            self.offer([_said(row) for row in sorted(rows, key=lambda row: row["position"])])
        telemetry.log.warning("the broker lost its memory; facts said again", service=self._db.service, facts=count)

    async def prune(self) -> None:
        """Forget facts whose consequences are recorded."""
        await self._db.execute(_PRUNE, self._db.service, _KEPT_AFTER)


def _said(row: Any) -> Said:
    return Said(row["position"], row["fact_id"], row["subject"], row["body"], row["emissions"])
