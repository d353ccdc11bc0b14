"""Each effect happens exactly once: whenever the process dies, whatever Plane answers, however many work at it."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from dispatch_common.events import PublishOutcome, ResultPublished, ResultVerified
from services.demo.plane_faults import Fault
from services.result_publisher import store
from services.result_publisher.protocol import Kind, Rules
from tests.integration.result_publisher.conftest import RUN, World

FILES: dict[str, bytes | None] = {"src/app.py": b"print('hello, world')\n"}
MOMENTS = [f"{kind}: {moment}" for kind in Kind for moment in ("intended", "written", "recorded")]


def _dies_at(moment: str) -> Callable[[str], None]:
    def probe(now: str) -> None:
        if now == moment:
            raise InterruptedError(moment)

    return probe


async def _everything_once(world: World) -> None:
    assert world.branches == ["agent/0011aabb", "main"]
    assert len(world.pulls) == 1
    assert len(world.comments) == 1
    assert len(world.links) == 1
    assert set((await world.effects()).values()) == {"done"}
    (published,) = await world.said(ResultPublished)
    assert published.outcome is PublishOutcome.PUBLISHED
    assert len(await world.said(ResultVerified)) == 1


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_process_that_dies_at_any_moment_leaves_each_effect_once(world: World, moment: str):
    await world.hears(await world.request(FILES))
    with pytest.raises(InterruptedError):
        await world.session(probe=_dies_at(moment)).go_on()

    await world.works()

    await _everything_once(world)


async def test_a_process_that_dies_at_every_moment_in_turn_leaves_each_effect_once(world: World):
    await world.hears(await world.request(FILES))
    seen: set[str] = set()

    def probe(now: str) -> None:
        if now not in seen:
            seen.add(now)
            raise InterruptedError(now)

    for _ in range(60):
        try:
            await world.session(probe=probe, rules=Rules(timedelta(), timedelta(), timedelta(), 40)).go_on()
        except InterruptedError:
            continue
        break

    assert seen >= {f"{kind}: written" for kind in Kind}
    await world.works()
    await _everything_once(world)


@pytest.mark.parametrize("fault", [Fault.FAIL_AFTER, Fault.DROP_AFTER, Fault.DROP_BEFORE, Fault.REFUSE])
@pytest.mark.parametrize("call", ["POST .*/comments/", "POST .*/links/", "PATCH .*/work-items/"])
async def test_a_write_that_plane_answers_badly_happens_once(world: World, fault: Fault, call: str):
    world.plane.faults.add(fault, call)
    await world.publishes(await world.request(FILES))
    await _everything_once(world)


async def test_several_workers_at_once_make_each_effect_once(world: World):
    await world.hears(await world.request(FILES))
    await asyncio.gather(*(world.session().go_on() for _ in range(4)), return_exceptions=True)
    await world.works()
    await _everything_once(world)


async def test_a_rate_limit_is_waited_out_as_plane_asked(world: World):
    world.plane.faults.add(Fault.RATE_LIMIT, "POST .*/comments/", seconds=59)
    await world.hears(await world.request(FILES))

    pause, _ = await world.session().go_on()

    assert timedelta(seconds=50) < pause <= timedelta(seconds=60)
    assert (await world.effects())["comment"] == "unknown"


async def test_what_plane_never_answers_is_given_up_and_said(world: World):
    world.plane.faults.add(Fault.REFUSE, "comments/", times=1000)
    await world.publishes(await world.request(FILES))

    (published,) = await world.said(ResultPublished)
    assert published.outcome is PublishOutcome.PUBLISHED
    assert "the comment on the work item failed: the comment on the work item was given up" in published.sentence
    assert await world.effects() == {
        "branch": "done",
        "pull": "done",
        "comment": "failed",
        "link": "done",
        "state": "done",
    }


async def test_an_effect_in_doubt_is_not_written_again_before_its_time(world: World):
    world.plane.faults.add(Fault.DROP_AFTER, "POST .*/comments/")
    await world.hears(await world.request(FILES))
    rules = Rules(in_flight=timedelta(seconds=15), doubt=timedelta(seconds=3), again=timedelta(), max_tries=4)

    pause, _ = await world.session(rules=rules).go_on()

    assert timedelta(seconds=2) < pause <= timedelta(seconds=3)
    assert (await world.effects())["comment"] == "unknown"
    assert len(world.comments) == 1


async def test_a_token_that_plane_refuses_is_said_with_the_remedy(world: World):
    await world.db.execute("DELETE FROM secrets")
    await world.publishes(await world.request(FILES))
    (published,) = await world.said(ResultPublished)
    assert "run: dispatch secret set plane-token" in published.sentence


async def test_a_lease_that_ran_out_is_taken_by_another(world: World):
    await world.hears(await world.request(FILES))
    assert await store.claim(world.db, 10, timedelta()) == [(RUN, 1)]
    assert await store.claim(world.db, 10, timedelta(seconds=10)) == [(RUN, 1)]
    assert await store.claim(world.db, 10, timedelta(seconds=10)) == []
