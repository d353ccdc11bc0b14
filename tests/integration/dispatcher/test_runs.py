"""A run's road through the dispatcher on a real database: rows, queue, slots and what is said."""

import asyncio

from dispatch_common import ids
from dispatch_common.events import (
    AttemptOutcome,
    AttemptRequested,
    AttemptStopAsked,
    CancelAsked,
    DeliveryDecided,
    PolicyAsked,
    PublishRequested,
    RunEnded,
)
from dispatch_common.families import ErrorFamily
from dispatch_common.values import Ask, Priority, Verdict
from tests.integration.dispatcher.conftest import ALICE, START, World, finished, published


async def free(world: World) -> int:
    return await world.db.fetchval("SELECT count(*) FROM agent_slots WHERE attempt_id IS NULL")


async def test_a_label_becomes_a_completed_run(world: World) -> None:
    await world.agent("vega", "coder")
    await world.hears(world.reading("agent:coder"))
    await world.policy_allows()
    (attempt,) = await world.said(AttemptRequested)
    await world.hears(finished(attempt))
    (publish,) = await world.said(PublishRequested)
    await world.hears(published(publish.run_id))

    assert await world.states() == ["completed"]
    assert len(await world.said(RunEnded)) == 1
    steps = await world.db.fetch("SELECT to_state, number FROM run_steps ORDER BY number")
    assert [row["to_state"] for row in steps] == [
        "requested",
        "queued",
        "assigned",
        "verifying",
        "publishing",
        "completed",
    ]
    assert [row["number"] for row in steps] == list(range(1, 7))
    assert await free(world) == 1


async def test_what_becomes_of_each_delivery_is_said(world: World) -> None:
    await world.hears(world.reading("agent:coder"))
    await world.hears(world.reading("agent:coder"))
    await world.hears(world.reading("agent:coder", title="Fix it well"))
    await world.hears(world.reading(item="item-2"))
    await world.hears(world.reading("agent:docs", item="item-3", may_start=False))

    outcomes = [decided.outcome.value for decided in await world.said(DeliveryDecided)]
    assert outcomes == ["created", "ignored", "coalesced", "ignored", "refused"]


async def test_a_busy_agent_gets_its_second_item_when_the_first_is_done(world: World) -> None:
    await world.agent("vega", "coder")
    await world.hears(world.reading("agent:coder", item="one"), world.reading("agent:coder", item="two"))
    await world.policy_allows()
    (first,) = await world.said(AttemptRequested)
    assert sorted(await world.states()) == ["assigned", "queued"]

    await world.hears(finished(first))
    assert len(await world.said(AttemptRequested)) == 2
    assert sorted(await world.states()) == ["assigned", "verifying"]


async def test_capacity_is_never_exceeded_by_two_dispatchers_at_once(world: World) -> None:
    for number in range(40):
        await world.hears(world.reading("agent:coder", item=f"item-{number}"))
    await world.agent("vega", "coder", slots=3)
    await world.agent("rigel", "coder", slots=4)
    await world.policy_allows()
    await asyncio.gather(*(world.sweep.claims() for _ in range(6)))

    attempts = await world.said(AttemptRequested)
    assert len(attempts) == 7
    assert len({attempt.attempt_id for attempt in attempts}) == 7
    busy = await world.db.fetch(
        "SELECT agent, count(*) AS n FROM agent_slots WHERE attempt_id IS NOT NULL GROUP BY agent ORDER BY agent"
    )
    assert [(row["agent"], row["n"]) for row in busy] == [("rigel", 4), ("vega", 3)]


async def test_a_busy_role_does_not_block_an_idle_one(world: World) -> None:
    await world.agent("lyra", "docs")
    for number in range(5):
        await world.hears(world.reading("agent:coder", item=f"c{number}"))
    await world.hears(world.reading("agent:docs", item="d"))
    await world.policy_allows()

    (attempt,) = await world.said(AttemptRequested)
    assert attempt.agent.name == "lyra"


async def test_the_skilled_agent_is_chosen_and_an_inactive_one_never(world: World) -> None:
    await world.agent("vega", "coder", skills=("python",))
    await world.agent("rigel", "coder", skills=("rust",))
    await world.agent("deneb", "coder", skills=("rust", "wasm"), status="inactive")
    reading = world.reading("agent:coder")
    labels = (*reading.snapshot.labels, "rust", "wasm")
    await world.hears(reading.model_copy(update={"snapshot": reading.snapshot.model_copy(update={"labels": labels})}))
    await world.policy_allows()

    (attempt,) = await world.said(AttemptRequested)
    assert attempt.agent.name == "rigel"


async def test_an_urgent_item_overtakes_and_projects_take_turns(world: World) -> None:
    for number in range(3):
        await world.hears(world.reading("agent:coder", item=f"a{number}", project="AAA"))
    await world.hears(world.reading("agent:coder", item="b", project="BBB"))
    await world.hears(world.reading("agent:coder", item="u", project="AAA", priority=Priority.URGENT))
    await world.policy_allows()
    await world.agent("vega", "coder", slots=2)

    taken = [attempt.snapshot.object_id for attempt in await world.said(AttemptRequested)]
    assert taken == ["u", "b"]


async def test_a_failed_attempt_is_tried_again_and_then_given_up(world: World) -> None:
    await world.agent("vega", "coder")
    await world.hears(world.reading("agent:coder"))
    await world.policy_allows()
    for number in (1, 2, 3):
        attempt = (await world.said(AttemptRequested))[-1]
        assert attempt.fence == number
        await world.hears(finished(attempt, AttemptOutcome.FAILED, family=ErrorFamily.STALLED))
        await world.db.execute(
            "UPDATE runs SET next_check = now(), body = jsonb_set(body, '{wake_at}', to_jsonb(now())) "
            "WHERE state = 'parked'"
        )
        await world.sweep.overdue()

    assert await world.states() == ["failed"]
    (ended,) = await world.said(RunEnded)
    assert ended.family is ErrorFamily.STALLED
    assert await free(world) == 1


async def test_an_answer_with_an_old_fence_changes_nothing(world: World) -> None:
    await world.agent("vega", "coder")
    await world.hears(world.reading("agent:coder"))
    await world.policy_allows()
    (attempt,) = await world.said(AttemptRequested)
    await world.hears(finished(attempt.model_copy(update={"fence": 0})))

    assert await world.states() == ["assigned"]
    assert await free(world) == 0


async def test_removing_the_label_stops_the_agent_and_keeps_the_slot_until_that_is_confirmed(world: World) -> None:
    await world.agent("vega", "coder")
    await world.hears(world.reading("agent:coder"))
    await world.policy_allows()
    (attempt,) = await world.said(AttemptRequested)
    await world.hears(world.reading())

    assert await world.states() == ["cancelling"]
    assert len(await world.said(AttemptStopAsked)) == 1
    assert await free(world) == 0
    await world.hears(finished(attempt, AttemptOutcome.STOPPED))
    assert await world.states() == ["cancelled"]
    assert await free(world) == 1


async def test_a_change_sends_a_queued_run_back_to_policy(world: World) -> None:
    await world.hears(world.reading("agent:coder"))
    await world.policy_allows()
    await world.hears(world.reading("agent:coder", title="Something else"))

    assert await world.states() == ["requested"]
    assert [asked.judged.task_version for asked in await world.said(PolicyAsked)] == [1, 2]
    assert await world.db.fetchval("SELECT count(*) FROM run_queue") == 0


async def test_a_cancel_of_a_queued_run_ends_it_at_once(world: World) -> None:
    await world.hears(world.reading("agent:coder"))
    await world.policy_allows()
    (asked,) = await world.said(PolicyAsked)
    await world.hears(CancelAsked(id=ids.fresh(), time=START, run_id=asked.run_id, by=ALICE))

    assert await world.states() == ["cancelled"]
    assert await world.db.fetchval("SELECT count(*) FROM run_queue") == 0


async def test_a_denied_run_ends_with_the_reason(world: World) -> None:
    await world.hears(world.reading("agent:coder"))
    await world.policy_says(Verdict.DENY)

    (ended,) = await world.said(RunEnded)
    assert ended.sentence == "Because of the test."
    assert await world.states() == ["denied"]


async def test_a_comment_while_an_agent_is_at_work_becomes_a_follow_up(world: World) -> None:
    await world.agent("vega", "coder")
    await world.hears(world.reading("agent:coder"))
    await world.policy_allows()
    ask = Ask(key="comment:1", role="coder", instruction="also the docs")
    await world.hears(world.reading("agent:coder", asks=(ask,)))
    await world.hears(world.reading("agent:coder", asks=(ask,)))
    (attempt,) = await world.said(AttemptRequested)
    await world.hears(finished(attempt))
    await world.hears(published(attempt.run_id))

    assert await world.states() == ["completed", "requested"]
    assert (await world.said(PolicyAsked))[-1].judged.instruction == "also the docs"


async def test_silence_is_answered_by_asking_again_under_a_new_id(world: World) -> None:
    await world.hears(world.reading("agent:coder"))
    await world.db.execute("UPDATE runs SET next_check = now()")
    await world.sweep.overdue()

    first, second = await world.said(PolicyAsked)
    assert first.ask == second.ask
    assert first.id != second.id


async def test_shrinking_an_agent_drains_its_slots(world: World) -> None:
    await world.agent("vega", "coder", slots=3)
    await world.hears(world.reading("agent:coder"))
    await world.policy_allows()
    await world.agent("vega", "coder", slots=1)

    (attempt,) = await world.said(AttemptRequested)
    await world.hears(finished(attempt))
    assert await world.db.fetchval("SELECT count(*) FROM agent_slots") == 1
