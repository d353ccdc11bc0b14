"""Whatever dies, whenever: the agent is found again, or it is dead and somebody says so; its result arrives once."""

import os
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from agent_runner.note import read_note
from dispatch_common.events import AttemptFinished, AttemptOutcome, AttemptRequested, AttemptStarted
from dispatch_common.families import ErrorFamily
from dispatch_common.runlog import read_events
from dispatch_common.service import Context
from dispatch_common.settings import Settings
from services.executor import app
from tests.support.executing import Asker, a_repository, a_request, a_stop, again, script
from tests.support.executor_process import executor_process
from tests.support.repositories import FIX, sample
from tests.support.waiting import eventually


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"attempt_lease_seconds": 8})


async def test_an_agent_survives_its_executor_and_its_result_arrives_once(
    settings: Settings, ask: Asker, data: Path
) -> None:
    asked = a_request(script("say before", "sleep 4", FIX), repository=a_repository(sample(data / "repos")))
    async with executor_process(settings) as executor:
        await ask.says(asked)
        await ask.until(asked, AttemptStarted)
        executor.kill()
        executor.start()
        finished = await ask.until(asked, AttemptFinished, within=30)
        await ask.says(again(asked))
        await eventually(lambda: said(ask, asked, 2), describe=lambda: executor.log[-2000:])

    assert finished.outcome is AttemptOutcome.SUCCEEDED, finished
    assert len(await ask.heard(asked, AttemptStarted)) == 1
    words = [each.event["event"]["text"] for each in await read_events(data, asked.run_id) if text(each.event)]
    assert words.count("before") == 1


async def test_killed_over_and_over_it_neither_loses_nor_doubles_an_attempt(
    settings: Settings, ask: Asker, data: Path
) -> None:
    spec = a_repository(sample(data / "repos"))
    asked = [a_request(script("say hello", "sleep 1", FIX), repository=spec) for _ in range(6)]
    async with executor_process(settings) as executor:
        for number, each in enumerate(asked):
            await ask.says(each)
            await eventually(lambda each=each: ask.row(each))
            if number % 2:
                executor.kill()
                executor.start()
        ends = [await ask.until(each, AttemptFinished, within=45) for each in asked]

    assert [end.outcome for end in ends] == [AttemptOutcome.SUCCEEDED] * 6, ends
    for each in asked:
        assert len(await ask.heard(each, AttemptFinished)) == 1
        events = await read_events(data, each.run_id)
        assert [event.at.seq for event in events] == list(range(1, len(events) + 1))


async def test_a_stop_that_was_asked_while_nobody_listened_is_obeyed(settings: Settings, ask: Asker) -> None:
    asked = a_request(script("say here", "sleep 600"))
    async with executor_process(settings) as executor:
        await ask.says(asked)
        await ask.until(asked, AttemptStarted)
        executor.kill()
        await ask.says(a_stop(asked))
        executor.start()
        finished = await ask.until(asked, AttemptFinished, within=30)

    assert finished.outcome is AttemptOutcome.STOPPED


async def test_a_supervisor_that_is_killed_is_reported_within_the_lease(
    settings: Settings, ask: Asker, data: Path
) -> None:
    asked = a_request(script("say last words", "sleep 600"))
    async with app.serve(settings):
        await ask.says(asked)
        await ask.until(asked, AttemptStarted)
        await eventually(lambda: has_said(data, asked, "last words"))
        note = read_note(data / "attempts" / str(asked.attempt_id))
        assert note is not None
        os.kill(note.pid, signal.SIGKILL)
        finished = await ask.until(asked, AttemptFinished, within=settings.attempt_lease_seconds)

    assert finished.family is ErrorFamily.WORKER_LOST
    assert await has_said(data, asked, "last words")


async def test_what_an_executor_that_never_returns_had_is_given_up_by_another(
    settings: Settings, ask: Asker, data: Path
) -> None:
    settings = settings.model_copy(update={"attempt_lease_seconds": 2})
    asked = a_request(script("say here", "sleep 600"))
    async with executor_process(settings) as executor:
        await ask.says(asked)
        await ask.until(asked, AttemptStarted)
        note = read_note(data / "attempts" / str(asked.attempt_id))
        executor.kill()
        elsewhere = data / "elsewhere"
        elsewhere.mkdir()
        async with app.serve(settings.model_copy(update={"data": elsewhere, "executor_name": "other"})):
            finished = await ask.until(asked, AttemptFinished, within=30)

    assert finished.family is ErrorFamily.WORKER_LOST
    assert note is not None
    # Its supervisor knew before we did.
    await eventually(lambda: not lives(note.pid), within=timedelta(seconds=1))


async def test_nothing_is_left_of_an_attempt_but_its_blobs_and_its_log(
    executor: Context, ask: Asker, data: Path
) -> None:
    asked = a_request(script("say bye"))
    await ask.says(asked)
    await ask.until(asked, AttemptFinished)

    await eventually(lambda: not any((data / "attempts").iterdir()))
    await eventually(lambda: not list((data / "gateway").iterdir()))
    await eventually(lambda: [path.suffix for path in (data / "events").glob("*/*")] == [".archived"])
    assert len(await read_events(data, asked.run_id)) > 1


async def said(ask: Asker, of: AttemptRequested, count: int) -> bool:
    return len(await ask.heard(of, AttemptFinished)) == count


async def has_said(data: Path, of: AttemptRequested, words: str) -> bool:
    return words in [each.event["event"]["text"] for each in await read_events(data, of.run_id) if text(each.event)]


def text(line: dict[str, dict[str, str]]) -> bool:
    return line["event"]["kind"] == "text"


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
