"""The journal gives out what was not acknowledged, in order, once it is safe on disk."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from agent_runner.agent_events import Text, ToolCall, ToolResult
from agent_runner.journal import Batch, Journal, bounded

ATTEMPT = UUID(int=1)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "events.ndjson", ATTEMPT)) as made:
        yield made


def seqs(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [json.loads(line)["seq"] for line in batch.body.splitlines()]


async def test_nothing_is_given_out_before_it_is_on_disk(journal: Journal):
    journal.append(Text(text="a"))
    assert journal.unacked() is None

    await journal.sync()

    assert seqs(journal.unacked()) == [1]


async def test_what_was_acknowledged_in_part_is_given_out_from_there(journal: Journal):
    for number in range(5):
        journal.append(Text(text=str(number)))
    await journal.sync()
    batch = journal.unacked()
    assert batch is not None

    journal.acknowledged(batch, 2)
    journal.append(Text(text="later"))
    await journal.sync()

    assert seqs(journal.unacked()) == [3, 4, 5, 6]
    assert not journal.is_delivered


async def test_an_acknowledgement_of_more_than_was_sent_counts_for_what_was_sent(journal: Journal):
    journal.append(Text(text="a"))
    await journal.sync()
    batch = journal.unacked()
    assert batch is not None
    journal.append(Text(text="b"))

    journal.acknowledged(batch, 99)
    await journal.sync()

    assert seqs(journal.unacked()) == [2]


async def test_batches_are_whole_lines_even_when_one_line_is_longer(journal: Journal):
    journal.append(Text(text="x" * 5000))
    journal.append(Text(text="y" * 5000))
    await journal.sync()

    first = journal.unacked(at_most=1000)
    assert seqs(first) == [1]


async def test_a_full_journal_counts_what_it_leaves_out(tmp_path: Path):
    with closing(Journal(tmp_path / "events.ndjson", ATTEMPT, limit=500)) as journal:
        taken = [journal.append(Text(text="x" * 100)) for _ in range(20)]

    assert taken.count(False) == journal.dropped > 0
    assert journal.last_seq == taken.count(True)


def test_events_are_cut_to_what_a_person_may_want_to_read():
    assert len(bounded(Text(text="x" * 100_000)).model_dump_json()) < 40_000
    result = bounded(ToolResult(call="c", ok=True, output="x" * 100_000 + "the end"))
    assert isinstance(result, ToolResult)
    assert result.truncated
    assert result.output.endswith("the end")
    call = bounded(ToolCall(call="c", tool="write", input={"text": "x" * 100_000, "path": "a"}))
    assert isinstance(call, ToolCall)
    assert call.input["path"] == "a"
    assert len(call.input["text"]) == 1000


async def test_a_sync_that_is_cancelled_loses_no_line(journal: Journal):
    for number in range(50):
        journal.append(Text(text=f"{number} {'x' * 2000}"))
        syncing = asyncio.create_task(journal.sync())
        await asyncio.wait([syncing], timeout=0)
        syncing.cancel()
        await asyncio.gather(syncing, return_exceptions=True)
    await journal.sync()

    batch = journal.unacked(at_most=1 << 20)
    assert batch is not None
    assert (batch.first_seq, batch.last_seq) == (1, 50)
