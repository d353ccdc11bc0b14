"""Several policies at once, and people who act in the same moment: one answer each, whoever is first."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import pytest

from dispatch_common.db import open_db
from dispatch_common.errors import Transient
from dispatch_common.events import ApprovalDecided, ApprovalOutcome, PolicyAsked, PolicyDecided
from dispatch_common.values import Actor, Trust, Verdict
from services.policy import sweep
from services.policy.approval import GRACE
from services.policy.handlers import Handlers
from services.policy.pins import Pins
from services.policy.snapshot import Snapshots
from tests.integration.policy.conftest import World
from tests.support.policies import BOB

CAROL = Actor(id="principal:carol", name="carol")


@pytest.fixture
async def twin(world: World, database: str) -> AsyncIterator[World]:
    """A second policy on the same database."""
    async with open_db(database, "policy") as db:
        snapshots = Snapshots()
        handlers = Handlers(snapshots, world.uptime)
        yield replace(world, db=db, handlers=handlers, pins=Pins(db, snapshots, handlers.wanted))


async def until_taken(world: World, asked: PolicyAsked) -> None:
    """Hand a fact over as the intake does: again, when another policy was quicker."""
    try:
        await world.take(asked)
    except Transient:
        await world.take(asked)


async def test_one_question_asked_of_two_policies_has_one_answer(world: World, twin: World) -> None:
    for number in range(10):
        first, second = [await world.question(run=UUID(int=number)) for _ in range(2)]

        await asyncio.gather(until_taken(world, first), until_taken(twin, second))

    answers: dict[UUID, set[UUID]] = {}
    for fact in await world.said(PolicyDecided):
        answers.setdefault(fact.run_id, set()).add(fact.decision_id)
    assert [len(ids) for ids in answers.values()] == [1] * 10
    assert await world.db.fetchval("SELECT count(*) FROM decisions") == 10


async def test_two_policies_pin_a_base_once(world: World, twin: World) -> None:
    for number in range(10):
        await world.ask(run=UUID(int=number), trust=Trust.OUTSIDER)

    while sum(await asyncio.gather(world.pins.once(), twin.pins.once())):
        pass

    said = await world.said(PolicyDecided)
    assert len(said) == len({fact.run_id for fact in said}) == 10
    assert {fact.verdict for fact in said} == {Verdict.ESCALATE}


async def test_of_two_people_who_answer_at_once_one_is_heard(world: World, twin: World) -> None:
    await world.principal("carol", "approver")
    escalation = await world.escalated()

    await asyncio.gather(
        world.answer(escalation.approval_id, by=BOB),
        twin.answer(escalation.approval_id, by=CAROL, approve=False),
    )

    assert sorted(row["counted"] for row in await world.answers()) == [False, True]
    assert len(await world.said(ApprovalDecided)) == 1


async def test_an_answer_at_the_last_moment_and_the_expiry_do_not_both_count(world: World, twin: World) -> None:
    escalation = await world.escalated()
    await world.overdue()
    await world.up_for(GRACE * 2)

    await asyncio.gather(world.expire(), twin.answer(escalation.approval_id))

    (fact,) = await world.said(ApprovalDecided)
    assert fact.outcome is ApprovalOutcome.EXPIRED
    assert [row["counted"] for row in await world.answers()] == [False]


async def test_two_sweeps_expire_and_say_again_once(world: World, twin: World) -> None:
    await world.escalated()
    await world.overdue()
    await world.up_for(GRACE * 2)

    assert sum(await asyncio.gather(world.expire(), twin.expire())) == 1
    await world.db.execute("UPDATE approvals SET next_check = clock_timestamp()")
    assert sum(await asyncio.gather(sweep.say_again(world.db), sweep.say_again(twin.db))) == 1
    assert len(await world.said(ApprovalDecided)) == 2
