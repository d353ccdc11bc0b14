"""Publishes an attempt's event log to the agent stream, from disk, in order, for as long as it takes.

One of the two places that may speak to the broker beside the relay: the log is the truth, the stream a copy of it that
can be watched. A line that is published twice carries the same message id.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Final

import orjson
from nats.aio.client import Client
from nats.errors import Error as NatsError
from prometheus_client import Counter

from dispatch_common import streams, telemetry
from dispatch_common.errors import Transient
from dispatch_common.service import Context
from services.executor.gateway.eventlog import EventLog, Line

PUBLISHED: Final = Counter("dispatch_agent_events_published_total", "Agent events that the broker confirmed.")
_WINDOW: Final = 128
_TIMEOUT: Final = 5.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0


class NotConfirmed(Transient):
    """The broker did not confirm an event; it is published again from the log."""


class Publisher:
    """Follows one log. ``done`` is set as soon as everything that was appended is published and no more will come."""

    def __init__(self, ctx: Context, log: EventLog) -> None:
        self._ctx = ctx
        self._log = log
        self._subject = streams.agent_subject(log.run_id)
        self._note = log.path.with_suffix(".published")
        self._offset = self._read_note()
        self._ended = False
        self.done = asyncio.Event()

    def end(self) -> None:
        """Say that nothing more will be appended."""
        self._ended = True
        self._log.news.set()

    async def run(self) -> None:
        """Publish until everything is published and ``end`` was called."""
        pause = _FIRST_PAUSE
        while not self.done.is_set():
            await self._log.news.wait()
            self._log.news.clear()
            try:
                await self._publish_new()
                pause = _FIRST_PAUSE
            except (NatsError, TimeoutError, OSError, Transient) as error:
                telemetry.log.info("events wait for the broker", path=self._log.path.name, reason=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                self._log.news.set()

    async def _publish_new(self) -> None:
        while True:
            lines, offset = self._log.after(self._offset)
            if not lines:
                break
            for start in range(0, len(lines), _WINDOW):
                await self._publish(self._ctx.nc, lines[start : start + _WINDOW])
            self._offset = offset
            self._write_note()
        if self._ended and self._offset >= self._log.size:
            self.done.set()

    async def _publish(self, nc: Client, lines: list[Line]) -> None:
        # Requests are written in order over one connection, so a broken connection loses a tail, never a middle.
        answers = await asyncio.gather(
            *(
                nc.request(
                    self._subject,
                    line.raw,
                    timeout=_TIMEOUT,
                    headers={"Nats-Msg-Id": f"{self._log.attempt_id}.{line.seq}"},
                )
                for line in lines
            )
        )
        for answer in answers:
            if not answer.data or "error" in orjson.loads(answer.data):
                raise NotConfirmed(f"the broker refused: {bytes(answer.data)[:200]!r}")
        PUBLISHED.inc(len(lines))

    def _read_note(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return min(int(self._note.read_text()), self._log.size)
        return 0

    def _write_note(self) -> None:
        # Not synced: what is published twice after a power cut has the same message ids.
        beside = Path(f"{self._note}.new")
        beside.write_text(str(self._offset))
        beside.replace(self._note)

    def forget(self) -> None:
        """Remove the note; the log is archived."""
        self._note.unlink(missing_ok=True)
