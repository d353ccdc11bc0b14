"""Escalations: pinned, answered by somebody else, judged again, expired; every answer leaves a row that says why."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from dispatch_common import ids
from dispatch_common.events import ApprovalDecided, ApprovalOutcome, PolicyDecided
from dispatch_common.values import Actor, Stage, Trust, Verdict
from services.policy import sweep
from services.policy.approval import GRACE
from tests.integration.policy.conftest import RUN, World, git
from tests.support.policies import ALICE, BOB, resource


async def test_an_escalation_waits_for_the_commit_and_carries_it(world: World) -> None:
    await world.ask(trust=Trust.OUTSIDER)
    assert await world.said(PolicyDecided) == []

    await world.pins.once()

    decided = await world.last(PolicyDecided)
    row = await world.db.fetchrow("SELECT * FROM approvals_waiting")
    assert row is not None
    assert (decided.verdict, decided.approval_id, decided.expires_at) == (
        Verdict.ESCALATE,
        row["id"],
        row["expires_at"],
    )
    assert row["base"]["commit"] == row["grant"]["base_commit"] == git("rev-parse", "main", at=world.repository)
    assert row["reasons"][0]["sentence"] == "The task holds text by somebody who may not start runs."


async def test_approved_by_somebody_else_it_is_allowed_on_exactly_that_commit(world: World) -> None:
    escalation = await world.escalated()
    pinned = git("rev-parse", "main", at=world.repository)
    git("commit", "-q", "--allow-empty", "-m", "Second", at=world.repository)

    await world.answer(escalation.approval_id, comment="looks fine")
    await world.ask(2, trust=Trust.OUTSIDER)

    granted = await world.last(ApprovalDecided)
    decided = await world.last(PolicyDecided)
    assert (granted.outcome, granted.sentence) == (ApprovalOutcome.GRANTED, "bob approved it: looks fine")
    assert (decided.verdict, decided.ask) == (Verdict.ALLOW, 2)
    assert decided.grant is not None
    assert decided.grant.base_commit == pinned


async def test_refused_it_is_denied_even_when_asked_again(world: World) -> None:
    escalation = await world.escalated()

    await world.answer(escalation.approval_id, approve=False, comment="no")
    await world.ask(2, trust=Trust.OUTSIDER)

    assert (await world.last(ApprovalDecided)).outcome is ApprovalOutcome.REFUSED
    decided = await world.last(PolicyDecided)
    assert (decided.verdict, decided.reasons[0].code) == (Verdict.DENY, "approval.denied")


async def test_a_changed_task_is_asked_afresh_and_the_old_approval_is_void(world: World) -> None:
    first = await world.escalated()
    await world.answer(first.approval_id)

    second = await world.escalated(2, task_version=2)

    assert second.verdict is Verdict.ESCALATE
    assert second.approval_id != first.approval_id
    assert await world.approvals() == {1: "void", 2: "pending"}


async def test_a_late_answer_to_a_void_approval_does_not_count(world: World) -> None:
    first = await world.escalated()
    await world.escalated(2, task_version=2)

    await world.answer(first.approval_id)

    assert await world.said(ApprovalDecided) == []
    (row,) = await world.answers()
    assert (row["counted"], "has changed" in row["sentence"]) == (False, True)


async def test_a_changed_grant_is_asked_afresh(world: World) -> None:
    first = await world.escalated()
    await world.answer(first.approval_id)
    await world.apply(resource("AgentPermissionSet", "build", hosts=["pypi.org"], maxFiles=2))

    assert (await world.escalated(2)).verdict is Verdict.ESCALATE


async def test_asked_again_while_it_waits_the_same_approval_is_waited_for(world: World) -> None:
    first = await world.escalated()

    second = await world.escalated(2)

    assert second.approval_id == first.approval_id
    assert await world.approvals() == {2: "pending"}


@pytest.mark.parametrize(
    ("by", "why"),
    [
        (ALICE, "nobody approves what they asked for themselves"),
        (Actor(id="principal:alice", name="alice"), "nobody approves what they asked for themselves"),
        (Actor(id="principal:eve", name="eve"), "not among those who may answer"),
        (Actor(id="bob", name="bob"), "not among those who may answer"),
    ],
)
async def test_an_answer_that_does_not_count_leaves_a_row_and_nothing_else(world: World, by: Actor, why: str) -> None:
    await world.principal("alice", "approver")
    await world.principal("eve", "viewer")
    escalation = await world.escalated()

    await world.answer(escalation.approval_id, by=by)

    (row,) = await world.answers()
    assert not row["counted"]
    assert why in row["sentence"]
    assert await world.approvals() == {1: "pending"}
    assert await world.said(ApprovalDecided) == []


async def test_an_answer_to_nothing_leaves_a_row(world: World) -> None:
    await world.answer(UUID(int=99))

    (row,) = await world.answers()
    assert row["sentence"] == "It does not count: this run has no such approval."


async def test_an_approval_answered_for_another_run_does_not_count(world: World) -> None:
    escalation = await world.escalated()

    await world.answer(escalation.approval_id, run_id=UUID(int=1))

    assert await world.approvals() == {1: "pending"}


async def test_of_two_answers_the_first_counts(world: World) -> None:
    await world.principal("carol", "approver")
    escalation = await world.escalated()

    await world.answer(escalation.approval_id)
    await world.answer(escalation.approval_id, by=Actor(id="principal:carol", name="carol"), approve=False)

    assert [row["counted"] for row in await world.answers()] == [True, False]
    assert len(await world.said(ApprovalDecided)) == 1


async def test_a_result_is_approved_by_its_digest(world: World) -> None:
    about: dict[str, Any] = {"stage": Stage.PUBLISH, "paths": (".github/ci.yml",)}
    await world.ask(2, result_digest="r1", **about)
    escalation = await world.last(PolicyDecided)

    await world.answer(escalation.approval_id)
    await world.ask(3, result_digest="r1", **about)
    await world.ask(4, result_digest="r2", **about)

    assert [fact.verdict for fact in await world.said(PolicyDecided)] == [
        Verdict.ESCALATE,
        Verdict.ALLOW,
        Verdict.ESCALATE,
    ]


class TestExpiry:
    async def test_unanswered_it_expires_and_says_so(self, world: World) -> None:
        await world.escalated()
        await world.overdue()
        await world.up_for(GRACE)

        assert await world.expire() == 1

        fact = await world.last(ApprovalDecided)
        assert (fact.outcome, fact.sentence) == (ApprovalOutcome.EXPIRED, "Nobody answered in time.")
        await world.ask(2, trust=Trust.OUTSIDER)
        assert (await world.last(PolicyDecided)).reasons[0].code == "approval.expired"

    async def test_after_an_outage_people_first_get_their_chance(self, world: World) -> None:
        escalation = await world.escalated()
        await world.overdue()

        assert await world.expire() == 0

        await world.answer(escalation.approval_id)
        assert (await world.last(ApprovalDecided)).outcome is ApprovalOutcome.GRANTED

    async def test_before_its_time_it_stays(self, world: World) -> None:
        await world.escalated()
        await world.up_for(timedelta(days=30))

        assert await world.expire() == 0


class TestSayingAgain:
    async def test_a_decided_approval_is_said_again_until_a_later_question_comes(self, world: World) -> None:
        escalation = await world.escalated()
        await world.answer(escalation.approval_id)
        assert await sweep.say_again(world.db) == 0

        await world.db.execute("UPDATE approvals SET next_check = clock_timestamp()")
        assert await sweep.say_again(world.db) == 1
        first, again = await world.said(ApprovalDecided)
        assert (again.approval_id, again.outcome) == (first.approval_id, first.outcome)
        assert again.id != first.id

        await world.ask(2, trust=Trust.OUTSIDER)
        await world.db.execute("UPDATE approvals SET next_check = clock_timestamp() WHERE next_check IS NOT NULL")
        assert await sweep.say_again(world.db) == 0

    async def test_it_is_not_said_for_ever(self, world: World) -> None:
        escalation = await world.escalated()
        await world.answer(escalation.approval_id)

        for _ in range(30):
            await world.db.execute("UPDATE approvals SET next_check = clock_timestamp() WHERE next_check IS NOT NULL")
            await sweep.say_again(world.db)

        assert len(await world.said(ApprovalDecided)) == 13


async def test_nobody_is_asked_about_a_run_that_is_over(world: World) -> None:
    await world.escalated()
    await world.ask(1, run=UUID(int=0xB2), trust=Trust.OUTSIDER)
    for run in (RUN, UUID(int=0xB2)):
        await world.db.execute(
            """INSERT INTO runs (id, org, task_id, lane, state, version, body)
               VALUES ($1, 'default', $2, 'main', 'cancelled', 1, '{}')""",
            run,
            ids.fresh(),
        )

    await sweep.close_for_ended_runs(world.db)

    assert await world.approvals() == {1: "void"}
    assert await world.pins.once() == 0


async def test_at_most_one_approval_of_a_run_and_stage_is_alive(world: World) -> None:
    await world.escalated()

    with pytest.raises(Exception, match="approvals_alive"):
        await world.db.execute(
            """INSERT INTO approvals (id, org, run_id, stage, digest, state, ask, requested_by, requester_name, "grant",
                 reasons, approvers, comment, base, emissions, expires_at)
               SELECT gen_random_uuid(), org, run_id, stage, 'x', 'granted', 9, requested_by, requester_name, "grant",
                 reasons, approvers, comment, base, 0, expires_at FROM approvals"""
        )


async def test_bob_is_somebody_else() -> None:
    assert BOB.id.removeprefix("principal:") != ALICE.name
