"""The event log on disk: durable, idempotent, readable while it grows, after a crash, and when it is archived."""

import asyncio
import gzip
from pathlib import Path
from uuid import UUID

import orjson

from dispatch_common import ids, runlog
from dispatch_common.blobs import Blobs
from dispatch_common.runlog import START, Position, read_events
from services.executor.gateway.eventlog import EventLog, Line

RUN = ids.derived("run")


def attempt(fence: int) -> UUID:
    return ids.derived("attempt", fence)


def log_of(data: Path, fence: int = 1) -> EventLog:
    return EventLog(data, RUN, fence, attempt(fence))


def lines(*seqs: int, words: str = "x") -> list[Line]:
    return [Line(seq, orjson.dumps({"seq": seq, "words": words})) for seq in seqs]


async def kept(data: Path, after: Position = START, limit: int = 1000) -> list[tuple[int, int]]:
    return [event.at for event in await read_events(data, RUN, after, limit=limit)]


async def test_a_line_is_kept_once(tmp_path: Path) -> None:
    log = log_of(tmp_path)

    assert [await log.append(lines(1, 2)), await log.append(lines(1, 2, 3)), await log.append(lines(2))] == [2, 3, 3]
    assert await kept(tmp_path) == [(1, 1), (1, 2), (1, 3)]


async def test_a_log_that_is_opened_again_goes_on_where_it_was(tmp_path: Path) -> None:
    await log_of(tmp_path).append(lines(1, 2))
    again = log_of(tmp_path)

    assert (again.last_seq, await again.append(lines(2, 3))) == (2, 3)
    assert await kept(tmp_path) == [(1, 1), (1, 2), (1, 3)]


async def test_half_a_line_was_never_acknowledged_and_goes(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    await log.append(lines(1))
    with log.path.open("ab") as file:
        file.write(b'{"seq": 2, "wor')

    assert await kept(tmp_path) == [(1, 1)]
    assert log_of(tmp_path).last_seq == 1
    assert await log_of(tmp_path).append(lines(2)) == 2
    assert await kept(tmp_path) == [(1, 1), (1, 2)]


async def test_writers_do_not_mix_their_lines(tmp_path: Path) -> None:
    log = log_of(tmp_path)

    await asyncio.gather(*(log.append(lines(*range(1, last), words="y" * 2000)) for last in range(2, 40)))

    assert await kept(tmp_path) == [(1, seq) for seq in range(1, 39)]


async def test_a_run_is_read_over_all_its_attempts_in_pages(tmp_path: Path) -> None:
    await log_of(tmp_path, 1).append(lines(1, 2, 3))
    await log_of(tmp_path, 2).append(lines(1, 2))

    first = await kept(tmp_path, limit=2)
    second = await kept(tmp_path, Position(*first[-1]), limit=2)
    third = await kept(tmp_path, Position(*second[-1]), limit=2)

    assert [*first, *second, *third] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]
    assert await read_events(tmp_path, ids.derived("another run")) == []


async def test_an_archived_attempt_reads_like_a_live_one(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    await log.append(lines(1, 2))
    before = await read_events(tmp_path, RUN)
    blob = await Blobs(tmp_path / "blobs").put(gzip.compress(log.path.read_bytes()))
    log.path.with_suffix(runlog.ARCHIVED).write_bytes(orjson.dumps(blob.model_dump()))
    between = await read_events(tmp_path, RUN)
    log.path.unlink()

    assert before == between == await read_events(tmp_path, RUN)


def test_what_the_publisher_reads_are_whole_lines(tmp_path: Path) -> None:
    log = log_of(tmp_path)
    asyncio.run(log.append(lines(1, 2, 3, words="z" * 300)))

    some, offset = log.after(0, at_most=400)
    one, end = log.after(offset, at_most=10)
    rest, last = log.after(end)

    assert [[line.seq for line in part] for part in (some, one, rest)] == [[1], [2], [3]]
    assert last == log.size
    assert log.after(last) == ([], last)
