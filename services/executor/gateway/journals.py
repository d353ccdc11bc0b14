"""All event logs of this executor: opened when an attempt speaks, published beside, archived once it is over.

Recovery: what is acknowledged is on disk; what is on disk and not noted as published is published again under the same
ids; a log whose attempt is over and which is wholly published becomes a compressed blob, then a pointer, then goes.
"""

import asyncio
import gzip
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

import orjson

from dispatch_common import runlog, telemetry
from dispatch_common.blobs import Blobs
from dispatch_common.db import AWAY
from dispatch_common.service import Context
from dispatch_common.values import BlobRef
from services.executor import store
from services.executor.gateway.eventlog import EventLog, Line
from services.executor.gateway.publisher import Publisher
from services.executor.store import Row

_LEVEL: Final = 6
_PAUSE: Final = 1.0


class Journals:
    """One log and one publisher per open attempt."""

    def __init__(self, ctx: Context, blobs: Blobs) -> None:
        self._ctx = ctx
        self._blobs = blobs
        self._data = ctx.settings.data
        self._open: dict[UUID, tuple[EventLog, Publisher]] = {}
        self._archiving = asyncio.Semaphore(2)

    def seq(self, attempt_id: UUID) -> int:
        """Return the highest seq that is kept of an attempt, as far as this process knows."""
        opened = self._open.get(attempt_id)
        return opened[0].last_seq if opened else 0

    def log(self, run_id: UUID, fence: int, attempt_id: UUID) -> EventLog:
        """Return the attempt's log, opened and followed."""
        if attempt_id not in self._open:
            log = EventLog(self._data, run_id, fence, attempt_id)
            publisher = Publisher(self._ctx, log)
            self._open[attempt_id] = (log, publisher)
            if log.size:
                log.news.set()
            self._ctx.spawn(self._follow(log, publisher), f"events-{attempt_id.hex[:8]}")
        return self._open[attempt_id][0]

    async def append(self, row: Row, lines: Sequence[Line]) -> int:
        """Keep lines, durably; return the highest seq that is kept."""
        attempt = row.attempt
        return await self.log(attempt.run_id, attempt.fence, attempt.id).append(lines)

    def over(self, run_id: UUID, fence: int, attempt_id: UUID) -> None:
        """Say that an attempt is over: its log is archived as soon as all of it is published."""
        path = runlog.folder(self._data, run_id) / (runlog.stem(fence, attempt_id) + runlog.LIVE)
        if attempt_id in self._open or path.exists():
            self.log(run_id, fence, attempt_id)
            self._open[attempt_id][1].end()

    async def resume_at_start(self) -> None:
        """Go on with the logs that an earlier process left, as soon as there is a database."""
        while True:
            try:
                await self.resume()
            except AWAY as error:
                telemetry.log.warning("logs wait for the database", reason=str(error))
                await asyncio.sleep(_PAUSE)
            else:
                return

    async def resume(self) -> int:
        """Go on with every log that nobody follows; return how many live ones there are."""
        left = await asyncio.to_thread(lambda: sorted((self._data / "events").glob(f"*/*{runlog.LIVE}")))
        for path in left:
            fence, _, attempt = path.stem.partition("-")
            attempt_id = UUID(hex=attempt)
            if attempt_id in self._open:
                continue
            row = await store.read(self._ctx.db, attempt_id)
            if row is None:
                continue
            self.log(row.attempt.run_id, int(fence), attempt_id)
            if not row.attempt.is_open:
                self._open[attempt_id][1].end()
        return len(left)

    async def _follow(self, log: EventLog, publisher: Publisher) -> None:
        await publisher.run()
        while True:
            try:
                async with self._archiving:
                    await self._archive(log)
                break
            except (*AWAY, OSError) as error:
                telemetry.log.warning("a log could not be archived", path=log.path.name, reason=str(error))
                await asyncio.sleep(_PAUSE)
        publisher.forget()
        self._open.pop(log.attempt_id, None)

    async def _archive(self, log: EventLog) -> None:
        if log.size == 0:
            log.path.unlink(missing_ok=True)
            return
        blob = await self._compressed(log.path)
        pointer = log.path.with_suffix(runlog.ARCHIVED)
        await asyncio.to_thread(_write, pointer, orjson.dumps(blob.model_dump()))
        async with self._ctx.db.transaction() as tx:
            await store.note(tx, log.attempt_id, archive=blob.model_dump(mode="json"))
        log.path.unlink(missing_ok=True)
        telemetry.log.info("events archived", attempt_id=str(log.attempt_id), events=log.last_seq, bytes=blob.size)

    async def _compressed(self, path: Path) -> BlobRef:
        def compress(to: Path) -> None:
            # mtime 0: the same log gives the same blob, however often it is archived.
            with (
                path.open("rb") as raw,
                to.open("wb") as file,
                gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed,
            ):
                shutil.copyfileobj(raw, packed, 1 << 20)

        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".archive-") as folder:
            packed = Path(folder) / "events.gz"
            await asyncio.to_thread(compress, packed)
            return await self._blobs.put(packed)


def _write(path: Path, content: bytes) -> None:
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    beside.replace(path)
