"""The event log of one attempt on disk: append, durable before acknowledged, idempotent by seq. Redacted already."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import orjson

from dispatch_common import runlog

_TAIL: Final = 4 << 20  # more than any line


@dataclass(frozen=True, slots=True)
class Line:
    """One event, as it is kept and published."""

    seq: int
    raw: bytes


class EventLog:
    """Appends in one process; may be opened again by the next."""

    def __init__(self, data: Path, run_id: UUID, fence: int, attempt_id: UUID) -> None:
        self.path = runlog.folder(data, run_id) / (runlog.stem(fence, attempt_id) + runlog.LIVE)
        self.run_id = run_id
        self.attempt_id = attempt_id
        self.news = asyncio.Event()
        self.last_seq = 0
        self.size = 0
        self._writing = asyncio.Lock()
        self._read_end()

    def _read_end(self) -> None:
        """Find the last whole line; half a line was never acknowledged and is cut off."""
        if not self.path.exists():
            return
        with self.path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            tail = file.read()
            whole = tail[: tail.rfind(b"\n") + 1]
            self.size = size - len(tail) + len(whole)
            file.truncate(self.size)
        lines = whole.splitlines()
        self.last_seq = orjson.loads(lines[-1])["seq"] if lines else 0

    async def append(self, lines: Sequence[Line]) -> int:
        """Keep the lines that are new, on disk before this returns; return the highest seq that is kept."""
        async with self._writing:
            new = [line for line in lines if line.seq > self.last_seq]
            if new:
                await asyncio.to_thread(self._write, b"".join(line.raw + b"\n" for line in new))
                self.last_seq = new[-1].seq
                self.news.set()
            return self.last_seq

    def _write(self, raw: bytes) -> None:
        if self.size == 0:
            _make_durably(self.path)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            # At the known end, not at the file's: a write that failed half-way is written over.
            written = 0
            while written < len(raw):
                written += os.pwrite(descriptor, raw[written:], self.size + written)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        self.size += len(raw)

    def after(self, offset: int, *, at_most: int = 512 * 1024) -> tuple[list[Line], int]:
        """Return whole lines from an offset on, and the offset after them."""
        if offset >= self.size:
            return [], offset
        with self.path.open("rb") as file:
            file.seek(offset)
            raw = file.read(min(max(at_most, 1), self.size - offset))
        whole = raw[: raw.rfind(b"\n") + 1]
        if not whole:  # one line longer than a batch
            return self.after(offset, at_most=at_most * 2)
        lines = [Line(orjson.loads(line)["seq"], line) for line in whole.splitlines()]
        return lines, offset + len(whole)


def _make_durably(path: Path) -> None:
    """Make the file's folder and its entry, so that a power cut cannot take the name from under the content."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    for folder in (path.parent, path.parent.parent):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
