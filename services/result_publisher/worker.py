"""The publisher's worker: takes publications that are due, a few at a time, and keeps each leased while it works."""

import asyncio
import contextlib
import shutil
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Final

from dispatch_common import clock, ids, telemetry
from dispatch_common.backoff import backoff
from dispatch_common.db import AWAY, Db
from dispatch_common.errors import Transient
from dispatch_common.ids import short
from dispatch_common.settings import Settings
from services.result_publisher import store
from services.result_publisher.checks import Checks
from services.result_publisher.effects import Session
from services.result_publisher.outside import Outside
from services.result_publisher.protocol import RULES, Rules
from services.result_publisher.sources import Sources
from services.result_publisher.store import Name

_MOST: Final = 6
_LEASE: Final = timedelta(seconds=12)
_RENEW: Final = timedelta(seconds=4)
_POLL: Final = 1.0
#: A wake comes from inside a transaction, so what it announces is visible only a little later.
_SOON: Final = (0.0, 0.01, 0.05, 0.25)
_STALE: Final = 3600
_DRAIN: Final = timedelta(seconds=8)
_BROKEN: Final = timedelta(seconds=5)


class Worker:
    """Works on publications until it is cancelled."""

    def __init__(self, db: Db, settings: Settings, rules: Rules = RULES) -> None:
        self._db = db
        self._settings = settings
        self._rules = rules
        self._sources = Sources(db, settings)
        self._folder = settings.data / "imports"
        self._woken = asyncio.Event()
        self._busy: set[Name] = set()
        self._failures: Counter[Name] = Counter()
        self._working: set[asyncio.Task[None]] = set()
        self._draining = asyncio.Event()

    def wake(self) -> None:
        """Look for work soon."""
        loop = asyncio.get_running_loop()
        for delay in _SOON:
            loop.call_later(delay, self._woken.set)

    async def run(self) -> None:
        """Take what is due, until cancelled; then no effect begins, and those in flight are finished."""
        await asyncio.to_thread(_tidy, self._folder)
        async with asyncio.TaskGroup() as group:
            try:
                await self._take(group)
            except asyncio.CancelledError:
                self._draining.set()
                if self._working:
                    await asyncio.wait(self._working, timeout=_DRAIN.total_seconds())
                raise

    async def _take(self, group: asyncio.TaskGroup) -> None:
        while True:
            self._woken.clear()
            for name in await self._claim():
                self._busy.add(name)
                task = group.create_task(self._one(name))
                self._working.add(task)
                task.add_done_callback(self._working.discard)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL):
                    await self._woken.wait()

    async def _claim(self) -> list[Name]:
        free = _MOST - len(self._busy)
        if free <= 0:
            return []
        try:
            return await store.claim(self._db, free, _LEASE)
        except AWAY as error:
            telemetry.log.warning("the database is away", service="result-publisher", reason=str(error))
            return []

    async def _one(self, name: Name) -> None:
        keeping = asyncio.create_task(self._keep(name))
        try:
            await self._work(name)
        except AWAY as error:
            # The lease runs out by itself, and the publication is found again.
            telemetry.log.warning("the database is away", run_id=str(name[0]), reason=str(error))
        finally:
            keeping.cancel()
            self._busy.discard(name)
            self._woken.set()

    async def _work(self, name: Name) -> None:
        try:
            pause, knew = await self._go_on(name)
        except AWAY:
            raise
        except Exception as error:  # noqa: BLE001 - one publication's trouble is not another's; it is tried again
            self._failures[name] += 1
            pause, knew = backoff(_BROKEN, self._failures[name] - 1), True
            trouble = None if isinstance(error, Transient) else error
            telemetry.log.error(
                "a publication could not go on", run_id=str(name[0]), reason=str(error), exc_info=trouble
            )
        else:
            self._failures.pop(name, None)
        until = await store.now(self._db) + pause
        await store.release(self._db, name, until, knew_of_stop=knew)
        asyncio.get_running_loop().call_later(pause.total_seconds() + 0.001, self._woken.set)

    async def _go_on(self, name: Name) -> tuple[timedelta, bool]:
        run_id, revision = name
        folder = self._folder / f"{short(run_id)}-{revision}-{ids.fresh().hex[:8]}"
        checks = Checks(self._settings, folder, failures=self._failures[name])
        outside = Outside(self._settings, self._sources, checks)
        session = Session(self._db, name, checks, outside, self._rules, stopping=self._draining.is_set)
        return await session.go_on()

    async def _keep(self, name: Name) -> None:
        while True:
            await asyncio.sleep(_RENEW.total_seconds())
            with contextlib.suppress(*AWAY):
                await store.renew(self._db, name, _LEASE)


def _tidy(folder: Path) -> None:
    """Remove what an import left behind when its process died."""
    if not folder.is_dir():
        return
    now = clock.now().timestamp()
    for left in folder.iterdir():
        with contextlib.suppress(OSError):
            if now - left.stat().st_mtime > _STALE:
                shutil.rmtree(left)
