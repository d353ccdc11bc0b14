"""The local spool: verified requests on disk while there is no database. What was appended survives a crash.

A segment is a file of records, each with length and checksum. One process appends to its own segment and holds a lock
on it; whoever drains takes segments that nobody holds. A torn tail (power loss in mid-write) ends a segment.
"""

import fcntl
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from dispatch_common import ids
from dispatch_common.errors import Transient

_HEAD: Final = 8
_SUFFIX: Final = ".spool"
_DAMAGED: Final = ".damaged"


class SpoolFull(Transient):
    """The local spool has no room; the sender must try again later."""


@dataclass(slots=True)
class _Open:
    descriptor: int
    path: Path
    size: int


class Spool:
    """Bounded, appended in groups with one fsync each. Blocking: call it from a worker thread, one call at a time."""

    def __init__(self, folder: Path, *, most_bytes: int) -> None:
        self._folder = folder
        self._most = most_bytes
        self._open: _Open | None = None
        self._used = sum(path.stat().st_size for path in self.segments())

    @property
    def used(self) -> int:
        """Return how many bytes are spooled."""
        return self._used

    def segments(self) -> list[Path]:
        """Return all segments, oldest first."""
        return sorted(self._folder.glob(f"*{_SUFFIX}")) if self._folder.is_dir() else []

    def append(self, records: Sequence[bytes]) -> None:
        """Write the records and make them durable, all or none; SpoolFull when there is no room."""
        group = b"".join(_framed(record) for record in records)
        if self._used + len(group) > self._most:
            raise SpoolFull
        segment = self._open or self._begin()
        try:
            _write_all(segment.descriptor, group)
            os.fdatasync(segment.descriptor)
        except OSError as error:
            # No space, or a broken disk: take back what is half written, and say that it was not taken.
            os.ftruncate(segment.descriptor, segment.size)
            os.lseek(segment.descriptor, segment.size, os.SEEK_SET)
            raise SpoolFull(f"The local spool cannot be written: {error.strerror}.") from error
        segment.size += len(group)
        self._used += len(group)

    def roll(self) -> None:
        """End the segment that is appended to, so that it can be drained."""
        if self._open is not None:
            os.close(self._open.descriptor)
            self._open = None

    def read(self, segment: Path) -> Iterator[bytes]:
        """Yield the records of a segment up to its end or the first damage."""
        data = segment.read_bytes()
        position = 0
        while position + _HEAD <= len(data):
            length = int.from_bytes(data[position : position + 4], "big")
            checksum = int.from_bytes(data[position + 4 : position + _HEAD], "big")
            record = data[position + _HEAD : position + _HEAD + length]
            if len(record) < length or zlib.crc32(record) != checksum:
                return
            yield record
            position += _HEAD + length

    def take(self, segment: Path) -> BinaryIO | None:
        """Lock a segment that nobody appends to, until it is closed; None when its writer lives or it is gone."""
        try:
            held = segment.open("rb")
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.close()
            return None
        return held

    def drop(self, segment: Path, *, whole: bool = True) -> None:
        """Remove a drained segment; one that was damaged, or not ``whole``, is kept aside for a person."""
        size = segment.stat().st_size
        readable = sum(_HEAD + len(record) for record in self.read(segment))
        if whole and readable == size:
            segment.unlink()
        else:
            segment.rename(segment.with_suffix(_DAMAGED))
        self._sync_folder()
        self._used = max(0, self._used - size)

    def damaged(self) -> list[Path]:
        """Return the segments that ended in damage."""
        return sorted(self._folder.glob(f"*{_DAMAGED}")) if self._folder.is_dir() else []

    def _begin(self) -> _Open:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        known = self.segments()
        number = int(known[-1].name.split("-")[0]) + 1 if known else 1
        path = self._folder / f"{number:012d}-{ids.fresh().hex[:12]}{_SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._sync_folder()
        self._open = _Open(descriptor, path, 0)
        return self._open

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _framed(record: bytes) -> bytes:
    return len(record).to_bytes(4, "big") + zlib.crc32(record).to_bytes(4, "big") + record


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
