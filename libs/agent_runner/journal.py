"""The attempt's events on disk, from when they happen until the gateway has them. Knows nothing of the gateway."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final
from uuid import UUID

from agent_runner.agent_events import AgentEvent, Done, ErrorSeen, EventLine, Text, Thinking, ToolCall, ToolResult
from agent_runner.clock import now

_LONGEST_TEXT: Final = 32_768
_LONGEST_INPUT: Final = 65_536
_ROOM: Final = 1 << 20


def bounded(event: AgentEvent) -> AgentEvent:
    """Return the event, cut to a size that a person may want to read."""
    match event:
        case Text(text=text) | Thinking(text=text) | ErrorSeen(text=text) if len(text) > _LONGEST_TEXT:
            return event.model_copy(update={"text": text[:_LONGEST_TEXT] + " …"})
        case ToolResult(output=output) if len(output) > _LONGEST_TEXT:
            return event.model_copy(update={"output": output[-_LONGEST_TEXT:], "truncated": True})
        case ToolCall(input=given) if len(str(given)) > _LONGEST_INPUT:
            return event.model_copy(update={"input": {name: str(value)[:1000] for name, value in given.items()}})
        case Done(summary=summary) if len(summary) > _LONGEST_TEXT:
            return event.model_copy(update={"summary": summary[:_LONGEST_TEXT] + " …"})
        case _:
            return event


@dataclass(frozen=True, slots=True)
class Batch:
    """Some lines that the gateway does not have yet."""

    body: bytes
    first_seq: int
    last_seq: int


class Journal:
    """Appends events, keeps them on disk in fsynced batches, and hands out what was not acknowledged."""

    def __init__(self, path: Path, attempt: UUID, *, limit: int = 64 << 20) -> None:
        self._file: IO[bytes] = path.open("w+b")
        self._attempt = attempt
        self._limit = limit
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self._size = 0  # of what is written and synced
        self._acked_offset = 0
        self._writing = asyncio.Lock()
        self.news = asyncio.Event()
        self.last_seq = 0
        self.acked_seq = 0
        self.dropped = 0

    @property
    def is_delivered(self) -> bool:
        return self.acked_seq >= self.last_seq

    def append(self, event: AgentEvent, *, last: bool = False) -> bool:
        """Take an event. Returns False (and counts it) when the journal is full; the ``last`` words always fit."""
        if self._size + self._waiting_size > self._limit and not last:
            self.dropped += 1
            return False
        line = EventLine(attempt=self._attempt, seq=self.last_seq + 1, at=now(), event=bounded(event))
        raw = line.model_dump_json().encode() + b"\n"
        self.last_seq += 1
        self._waiting.append(raw)
        self._waiting_size += len(raw)
        self.news.set()
        return True

    async def room(self) -> None:
        """Wait until the disk keeps up: the agent's pipe is held back, not our memory filled."""
        if self._waiting_size > _ROOM:
            await self.sync()

    async def sync(self) -> None:
        """Make everything that was appended survive our death."""
        async with self._writing:
            lines, self._waiting, self._waiting_size = self._waiting, [], 0
            if not lines:
                return
            writing = asyncio.ensure_future(asyncio.to_thread(self._write, lines))
            try:
                await asyncio.shield(writing)
            finally:
                # Also when we are cancelled: the thread writes on, and what it wrote must be counted.
                self._size += await writing

    def _write(self, lines: Sequence[bytes]) -> int:
        raw = b"".join(lines)
        self._file.seek(0, os.SEEK_END)
        self._file.write(raw)
        self._file.flush()
        os.fdatasync(self._file.fileno())
        return len(raw)

    def unacked(self, *, at_most: int = 256 * 1024) -> Batch | None:
        """Return synced lines that were not acknowledged, oldest first; None when there are none."""
        room = min(at_most, self._size - self._acked_offset)
        if room <= 0:
            return None
        raw = os.pread(self._file.fileno(), room, self._acked_offset)
        body = raw[: raw.rfind(b"\n") + 1]
        if not body:  # one line longer than a batch
            return self.unacked(at_most=at_most * 2)
        count = body.count(b"\n")
        return Batch(body, self.acked_seq + 1, self.acked_seq + count)

    def acknowledged(self, batch: Batch, seq: int) -> None:
        """Take note of what the gateway has; it may be less than was sent, never more."""
        taken = min(seq, batch.last_seq) - batch.first_seq + 1
        if taken <= 0:
            return
        lines = batch.body.splitlines(keepends=True)[:taken]
        self._acked_offset += sum(len(line) for line in lines)
        self.acked_seq = batch.first_seq + len(lines) - 1

    def close(self) -> None:
        self._file.close()
