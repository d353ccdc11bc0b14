"""The events of runs on disk: where they lie, and how they are read, live or archived, when the broker forgot them.

One file per attempt under ``data/events/<run>/``: NDJSON while the attempt is open, then a pointer to a compressed
blob. Only the executor writes; whoever shows a log reads here.
"""

import asyncio
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

from dispatch_common.blobs import Blobs
from dispatch_common.values import BlobRef

LIVE: Final = ".ndjson"
ARCHIVED: Final = ".archived"


class Position(NamedTuple):
    """A place in a run's log: after event ``seq`` of the attempt with this fence."""

    fence: int
    seq: int


START: Final = Position(0, 0)


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One event as it was kept: ``line`` is the EventLine of the agent stream, as JSON."""

    at: Position
    attempt_id: UUID
    line: bytes

    @property
    def event(self) -> dict[str, Any]:
        """Return the decoded line."""
        return orjson.loads(self.line)


def folder(data: Path, run_id: UUID) -> Path:
    """Return where the logs of a run lie."""
    return data / "events" / run_id.hex


def stem(fence: int, attempt_id: UUID) -> str:
    """Return the name of an attempt's log, without its suffix; names sort by fence."""
    return f"{fence:06d}-{attempt_id.hex}"


async def read_events(data: Path, run_id: UUID, after: Position = START, *, limit: int = 1000) -> list[LoggedEvent]:
    """Return at most ``limit`` events of a run after a position, in order. Go on from the last one's ``at``.

    Reads what is on this machine's disk; an event is there before anybody else hears of it.
    """
    return await asyncio.to_thread(_read, data, run_id, after, limit)


def _read(data: Path, run_id: UUID, after: Position, limit: int) -> list[LoggedEvent]:
    events: list[LoggedEvent] = []
    for path in _logs(folder(data, run_id)):
        fence, attempt_id = _named(path)
        if fence < after.fence:
            continue
        for line in _lines(data, path):
            at = Position(fence, orjson.loads(line)["seq"])
            if at > after:
                events.append(LoggedEvent(at, attempt_id, line))
            if len(events) == limit:
                return events
    return events


def _logs(within: Path) -> list[Path]:
    """Return one file per attempt, oldest first; a live file goes before a pointer."""
    found: dict[str, Path] = {}
    if within.is_dir():
        for path in sorted(within.iterdir()):
            if path.suffix in (LIVE, ARCHIVED):
                # Sorted, ".archived" comes before ".ndjson": the live file overwrites it.
                found[path.stem] = path
    return [found[name] for name in sorted(found)]


def _named(path: Path) -> tuple[int, UUID]:
    fence, _, attempt = path.stem.partition("-")
    return int(fence), UUID(hex=attempt)


def _lines(data: Path, path: Path) -> Iterator[bytes]:
    try:
        with _opened(data, path) as file:
            for line in file:
                if not line.endswith(b"\n"):
                    return  # being written; it will be whole the next time
                yield line.rstrip(b"\n")
    except FileNotFoundError:
        archived = path.with_suffix(ARCHIVED)
        if path.suffix == LIVE and archived.exists():
            yield from _lines(data, archived)


def _opened(data: Path, path: Path) -> BufferedReader:
    if path.suffix == LIVE:
        return path.open("rb")
    pointer = orjson.loads(path.read_bytes())
    blob = BlobRef(digest=pointer["digest"], size=pointer["size"])
    return BufferedReader(gzip.open(Blobs(data / "blobs").path(blob), "rb"))
