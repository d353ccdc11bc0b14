"""The service as it runs: facts in from a real broker, the worker woken, facts out; and a restart in the middle."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from dispatch_common import ids, service
from dispatch_common.events import Fact, PublishOutcome, ResultPublished
from dispatch_common.health import Health
from dispatch_common.settings import Settings
from services.demo.plane_faults import Fault
from services.local import Nats
from services.result_publisher import app
from services.result_publisher.protocol import Rules, branch_name
from tests.integration.result_publisher.conftest import World
from tests.support.waiting import eventually

FILES: dict[str, bytes | None] = {"src/app.py": b"print('hello, world')\n"}
QUICK = Rules(in_flight=timedelta(seconds=0.1), doubt=timedelta(seconds=0.1), again=timedelta(seconds=0.1))


@pytest.fixture
def settings(world: World, nats: Nats) -> Settings:
    return world.settings.model_copy(update={"nats_url": nats.url, "ack_wait_seconds": 1.0})


async def _say(settings: Settings, *facts: Fact) -> None:
    """Commit and publish facts as the dispatcher would."""
    async with service.open(settings, "dispatcher") as ctx:
        async with ctx.db.transaction() as tx:
            tx.say(*facts)
        await eventually(lambda: _all_published(ctx))


async def _all_published(ctx: service.Context) -> bool:
    return await ctx.db.fetchval(
        "SELECT count(*) = 0 FROM outbox WHERE service = 'dispatcher' AND published_at IS NULL"
    )


async def _published(world: World) -> list[ResultPublished]:
    return await world.said(ResultPublished)


@asynccontextmanager
async def _publisher(settings: Settings) -> AsyncGenerator[service.Context]:
    async with app.serve(settings, rules=QUICK) as ctx:
        await eventually(lambda: ctx.broker is not None)
        yield ctx


async def test_a_request_on_the_broker_becomes_a_pull_request_and_an_answer(world: World, settings: Settings):
    async with _publisher(settings):
        await _say(settings, await world.request(FILES), world.stop(7))
        await eventually(lambda: _outcomes(world, 2))
    outcomes = {fact.revision: fact.outcome for fact in await _published(world)}
    assert outcomes == {1: PublishOutcome.PUBLISHED, 7: PublishOutcome.STOPPED}
    assert len(world.comments) == 1


async def _outcomes(world: World, number: int) -> bool:
    return len(await _published(world)) == number


async def test_a_stop_finishes_the_effect_in_flight_and_the_next_start_does_the_rest(world: World, settings: Settings):
    world.plane.faults.add(Fault.DELAY, "POST .*/comments/", seconds=0.5)
    async with _publisher(settings):
        await _say(settings, await world.request(FILES))
        await eventually(lambda: any("comments" in call for call in world.plane.calls))
    assert await world.effects() == {"branch": "done", "pull": "done", "comment": "done"}

    async with _publisher(settings):
        await eventually(lambda: _published(world))

    assert [fact.outcome for fact in await _published(world)] == [PublishOutcome.PUBLISHED]
    assert len(world.comments) == 1


async def test_a_burst_of_results_is_published_each_once(world: World, settings: Settings):
    runs = [ids.fresh() for _ in range(8)]
    requests = [await world.request({f"{run}.txt": b"x\n"}, provider="api", run_id=run) for run in runs]
    async with _publisher(settings), app.serve(settings, rules=QUICK):
        await _say(settings, *requests)
        await eventually(lambda: _outcomes(world, len(runs)), within=timedelta(seconds=30))

    assert sorted(world.branches) == sorted([*(branch_name(run) for run in runs), "main"])
    assert sorted(pull.number for pull in world.pulls) == list(range(1, len(runs) + 1))


async def test_it_says_whether_it_is_ready(settings: Settings):
    async with _publisher(settings):
        await eventually(_is_ready)


async def _is_ready() -> bool:
    return "result-publisher/git" in Health.checks and not await Health.report()
