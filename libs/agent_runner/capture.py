"""What the agent printed: every line once to whoever reads it, and a bounded copy (head and tail) for people."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

_LONGEST_LINE: Final = 1 << 20
_CHUNK: Final = 64 * 1024


class Kept:
    """The head and the tail of an output, never more than ``limit`` bytes in all."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._head: list[bytes] = []
        self._head_size = 0
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._left_out = 0

    def take(self, chunk: bytes) -> None:
        fits = chunk[: max(0, self._half - self._head_size)]
        if fits:
            self._head.append(fits)
            self._head_size += len(fits)
        rest = chunk[len(fits) :]
        if rest:
            self._tail.append(rest)
            self._tail_size += len(rest)
        while self._tail and self._tail_size - len(self._tail[0]) >= self._half:
            gone = self._tail.popleft()
            self._tail_size -= len(gone)
            self._left_out += len(gone)

    def bytes(self) -> bytes:
        left_out = f"\n[… {self._left_out} bytes left out …]\n".encode() if self._left_out else b""
        return b"".join([*self._head, left_out, *self._tail])

    def tail(self, size: int = 2000) -> str:
        """Return the last words, as text."""
        kept = b"".join([*self._head, *self._tail]) if self._tail_size < size else b"".join(self._tail)
        return kept[-size:].decode(errors="replace").strip()

    def write(self, path: Path) -> None:
        path.write_bytes(self.bytes())


async def chunks(reader: asyncio.StreamReader, kept: Kept) -> AsyncIterator[bytes]:
    """Yield what comes, after it was kept."""
    while chunk := await reader.read(_CHUNK):
        kept.take(chunk)
        yield chunk


class Lines:
    """Cuts chunks into lines. A line beyond all measure is handed out cut, its rest is thrown away."""

    def __init__(self) -> None:
        self._open = b""
        self._skipping = False

    def feed(self, chunk: bytes) -> list[bytes]:
        *whole, self._open = (self._open + chunk).split(b"\n")
        if self._skipping and whole:
            whole, self._skipping = whole[1:], False
        if len(self._open) > _LONGEST_LINE:
            if not self._skipping:
                whole.append(self._open[:_LONGEST_LINE])
            self._open, self._skipping = b"", True
        return [line for line in whole if line.strip()]

    def rest(self) -> list[bytes]:
        """Return the last line, when it had no end."""
        last, self._open = self._open, b""
        return [last] if last.strip() and not self._skipping else []
