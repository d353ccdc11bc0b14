"""Brings events, blobs and the result to the gateway, again and again until it has them. Decides nothing."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from agent_runner.gateway_client import Gateway, GatewayAway, GatewayRefused
from agent_runner.journal import Journal
from agent_runner.protocol import ResultReport, StartedReport, StopAsk

_GATHER: Final = 0.02  # events that come together go together
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0


class Delivery:
    """The way out of one attempt."""

    def __init__(self, gateway: Gateway, journal: Journal, *, hears_stop: Callable[[StopAsk | None], None]) -> None:
        self._gateway = gateway
        self._journal = journal
        self._hears_stop = hears_stop
        self._sending = asyncio.Lock()

    async def stream(self) -> None:
        """Sync and send events as they come, for ever. Raises NotOurs when the gateway wants none of them."""
        while True:
            await self._journal.news.wait()
            await asyncio.sleep(_GATHER)
            self._journal.news.clear()
            await self._journal.sync()
            await self._until_taken(self._send_all)

    async def started(self, report: StartedReport) -> None:
        await self._until_taken(lambda: self._gateway.started(report))

    async def finish(self, report: ResultReport, files: Sequence[Path]) -> None:
        """Deliver what is left of the events, then the blobs, then the result. Returns when the gateway has it all."""
        await self._journal.sync()
        await self._until_taken(self._send_all)
        for path in files:
            await self._until_taken(lambda path=path: self._gateway.blob(path))
        await self._until_taken(lambda: self._gateway.result(report))

    async def _send_all(self) -> None:
        async with self._sending:
            while batch := self._journal.unacked():
                try:
                    taken = await self._gateway.events(batch)
                except GatewayRefused:
                    # It will never take these lines; they stay in the journal on disk, and the result still counts.
                    self._journal.dropped += batch.last_seq - batch.first_seq + 1
                    self._journal.acknowledged(batch, batch.last_seq)
                    continue
                self._hears_stop(taken.stop)
                before = self._journal.acked_seq
                self._journal.acknowledged(batch, taken.acked_seq)
                if self._journal.acked_seq == before:
                    raise GatewayAway("the gateway acknowledged nothing")

    async def _until_taken(self, send: Callable[[], Awaitable[None]]) -> None:
        pause = _FIRST_PAUSE
        while True:
            with contextlib.suppress(GatewayAway):
                return await send()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
