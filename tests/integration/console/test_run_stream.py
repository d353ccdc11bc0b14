"""The stream of one run: steps and the agent's events, in order, each once, to the end, whatever the broker forgets."""

from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
import orjson
import pytest

from dispatch_common import clock, runlog, streams
from dispatch_common.db import Db
from dispatch_common.lifecycle import RunState
from dispatch_common.service import Context
from dispatch_common.settings import Settings
from services.console import app
from services.console.auth import ensure_principal
from tests.support import builders
from tests.support.sse import Got, watching


@pytest.fixture
async def working(db: Db) -> tuple[UUID, UUID]:
    """A run whose agent is at work, and its attempt."""
    return await builders.at_work(db)


async def says(console: Context, run: tuple[UUID, UUID], *numbers: int, at: datetime | None = None) -> None:
    for number in numbers:
        await builders.agent_says(console.nc, *run, number, at=at)


def logged(settings: Settings, run: tuple[UUID, UUID], count: int, *, fence: int = 1) -> Path:
    """The gateway's log of the attempt on this machine."""
    run_id, attempt_id = run
    path = runlog.folder(settings.data, run_id) / f"{runlog.stem(fence, attempt_id)}{runlog.LIVE}"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        {
            "attempt": str(attempt_id),
            "seq": seq,
            "at": clock.now().isoformat(),
            "event": {"kind": "text", "text": str(seq)},
        }
        for seq in range(1, count + 1)
    ]
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return path


async def forget_agents(console: Context) -> None:
    await console.js.delete_stream(streams.AGENT)
    await streams.ensure(console.js, console.settings)


def seqs(events: list[Got]) -> list[int]:
    return [event.data["seq"] for event in events if event.name == "agent"]


def told(events: list[Got]) -> list[str]:
    """What happened, in order: states and agent events."""
    return [
        event.data["to_state"]
        if event.name == "step"
        else str(event.data["seq"])
        if event.name == "agent"
        else event.name
        for event in events
    ]


async def test_steps_and_agent_events_arrive_live_and_the_stream_ends_with_the_run(
    console: Context, admin: httpx.AsyncClient, db: Db, working: tuple[UUID, UUID]
) -> None:
    async with watching(admin, f"/v1/runs/{working[0].hex[:8]}/events") as stream:
        before = await stream.take(2)
        await says(console, working, 1, 2)
        live = await stream.take(2)
        await builders.moved(db, working[0], RunState.VERIFYING)
        await builders.completed(db, working[0])
        rest = await stream.rest()

    assert told(before + live) == ["requested", "running", "1", "2"]
    assert told(rest) == ["verifying", "completed", "end"]
    assert rest[-1].data["state"] == "completed"


async def test_history_is_told_in_the_order_it_happened(
    console: Context, admin: httpx.AsyncClient, db: Db, working: tuple[UUID, UUID]
) -> None:
    await says(console, working, 1, 2, at=clock.now() + timedelta(milliseconds=1))
    await db.fetchval("SELECT pg_sleep(0.01)")
    await builders.moved(db, working[0], RunState.VERIFYING)
    await builders.completed(db, working[0])

    async with watching(admin, f"/v1/runs/{working[0]}/events") as stream:
        assert told(await stream.rest()) == ["requested", "running", "1", "2", "verifying", "completed", "end"]


async def test_a_viewer_that_comes_back_at_any_point_gets_exactly_the_rest(
    console: Context, admin: httpx.AsyncClient, db: Db, working: tuple[UUID, UUID]
) -> None:
    await says(console, working, 1, 2, 3)
    await builders.completed(db, working[0])
    path = f"/v1/runs/{working[0]}/events"
    async with watching(admin, path) as stream:
        everything = await stream.rest()

    for seen, event in enumerate(everything[:-1], start=1):
        async with watching(admin, path, last_id=event.id) as stream:
            rest = await stream.rest()
        assert told(rest) == told(everything)[seen:]


async def test_an_event_that_is_published_twice_is_sent_once(
    console: Context, admin: httpx.AsyncClient, db: Db, working: tuple[UUID, UUID]
) -> None:
    await says(console, working, 1, 2)
    line = {"attempt": str(working[1]), "seq": 1, "at": clock.now().isoformat(), "event": {"kind": "text", "text": "1"}}
    await console.js.publish(streams.agent_subject(working[0]), orjson.dumps(line))
    await says(console, working, 3)
    await builders.completed(db, working[0])

    async with watching(admin, f"/v1/runs/{working[0]}/events") as stream:
        assert seqs(await stream.rest()) == [1, 2, 3]


async def test_when_the_broker_forgets_the_rest_comes_from_the_log(
    console: Context, admin: httpx.AsyncClient, db: Db, working: tuple[UUID, UUID], settings: Settings
) -> None:
    logged(settings, working, 6)
    async with watching(admin, f"/v1/runs/{working[0]}/events") as stream:
        await says(console, working, 1, 2)
        seen = await stream.take(4)
        await forget_agents(console)
        await says(console, working, 6)
        await builders.completed(db, working[0])
        seen += await stream.rest()

    assert seqs(seen) == [1, 2, 3, 4, 5, 6]
    assert "reset" not in told(seen)


async def test_a_viewer_who_comes_after_the_broker_forgot_gets_the_beginning_from_the_log(
    console: Context, admin: httpx.AsyncClient, db: Db, working: tuple[UUID, UUID], settings: Settings
) -> None:
    logged(settings, working, 4)
    await says(console, working, 4, 5)

    async with watching(admin, f"/v1/runs/{working[0]}/events") as stream:
        live = await stream.take(7)
        await builders.completed(db, working[0])
        rest = await stream.rest()

    assert seqs(live) == [1, 2, 3, 4, 5]
    assert told(rest) == ["completed", "end"]


async def test_what_is_lost_without_a_log_is_said(
    console: Context, admin: httpx.AsyncClient, db: Db, working: tuple[UUID, UUID]
) -> None:
    async with watching(admin, f"/v1/runs/{working[0]}/events") as stream:
        await says(console, working, 1, 2)
        await stream.take(4)
        await forget_agents(console)
        reset = await stream.next()
        await says(console, working, 5)
        await builders.completed(db, working[0])
        rest = await stream.rest()

    assert (reset.name, reset.data["run"]["id"]) == ("reset", str(working[0]))
    assert seqs(rest) == [5]
    assert told(rest)[-2:] == ["completed", "end"]


async def test_a_run_that_ended_long_ago_is_read_from_its_log(
    console: Context, admin: httpx.AsyncClient, db: Db, working: tuple[UUID, UUID], settings: Settings
) -> None:
    logged(settings, working, 3)
    await builders.completed(db, working[0])
    await forget_agents(console)

    async with watching(admin, f"/v1/runs/{working[0]}/events") as stream:
        events = await stream.rest()
    async with watching(admin, f"/v1/runs/{working[0]}/events", last_id=events[-3].id) as stream:
        again = await stream.rest()

    assert seqs(events) == [1, 2, 3]
    assert told(again) == told(events)[-2:]


async def test_events_of_a_second_attempt_follow_the_first(
    console: Context, admin: httpx.AsyncClient, db: Db, working: tuple[UUID, UUID]
) -> None:
    second = await builders.an_attempt(db, working[0], fence=2)
    await says(console, working, 1, 2)
    await says(console, (working[0], second), 1)
    await says(console, working, 3)  # an older attempt that nobody believes any more
    await builders.completed(db, working[0])

    async with watching(admin, f"/v1/runs/{working[0]}/events") as stream:
        events = [event for event in await stream.rest() if event.name == "agent"]

    assert [(UUID(event.data["attempt"]), event.data["seq"]) for event in events] == [
        (working[1], 1), (working[1], 2), (second, 1),
    ]  # fmt: skip


async def test_without_following_a_live_run_is_told_up_to_now(
    console: Context, admin: httpx.AsyncClient, working: tuple[UUID, UUID]
) -> None:
    await says(console, working, 1)

    async with watching(admin, f"/v1/runs/{working[0]}/events", follow="false") as stream:
        assert sorted(told(await stream.rest())) == ["1", "end", "requested", "running"]


async def test_the_console_ends_its_streams_when_it_stops(
    settings: Settings, db: Db, working: tuple[UUID, UUID], tmp_path: Path
) -> None:
    token = await ensure_principal(db, "viewer", ["viewer"], token_file=tmp_path / "token")
    async with AsyncExitStack() as kept, AsyncExitStack() as running:
        console = await running.enter_async_context(app.serve(settings))
        client = httpx.AsyncClient(base_url=console.urls["console"], headers={"Authorization": f"Bearer {token}"})
        await kept.enter_async_context(client)
        stream = await kept.enter_async_context(watching(client, f"/v1/runs/{working[0]}/events"))
        await stream.take(2)

        began = clock.monotonic()
        await running.aclose()

        assert await stream.rest() == []
        assert clock.monotonic() - began < 3
