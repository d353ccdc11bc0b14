"""The dispatcher asks: one stored answer per question, by today's policy, whatever is asked again or out of order."""

from uuid import UUID

from dispatch_common.events import PolicyDecided
from dispatch_common.values import Trust, Verdict
from tests.integration.policy.conftest import World
from tests.support.policies import resource


async def test_a_members_task_is_allowed_with_its_grant(world: World) -> None:
    asked = await world.ask()

    decided = await world.last(PolicyDecided)
    assert (decided.verdict, decided.run_id, decided.ask, decided.cause) == (Verdict.ALLOW, asked.run_id, 1, asked.id)
    assert decided.grant is not None
    assert decided.grant.repository == "sample"
    assert decided.reasons[0].sentence == "No rule of PolicyProfile/everyone speaks against it."


async def test_asking_again_gets_the_stored_answer_under_a_new_id(world: World) -> None:
    await world.ask()
    await world.apply(resource("PolicyProfile", "everyone", appliesTo={}, default="deny"))

    await world.ask()

    first, second = await world.said(PolicyDecided)
    assert (second.verdict, second.grant, second.decision_id) == (Verdict.ALLOW, first.grant, first.decision_id)
    assert second.id != first.id


async def test_the_same_fact_twice_in_a_batch_is_answered_once_stored_once(world: World) -> None:
    asked = await world.question()

    await world.take(asked, asked)

    assert await world.db.fetchval("SELECT count(*) FROM decisions") == 1
    assert {fact.verdict for fact in await world.said(PolicyDecided)} == {Verdict.ALLOW}


async def test_known_and_new_questions_in_one_batch_each_get_their_answer(world: World) -> None:
    await world.ask(run=UUID(int=1))
    asks = [await world.question(run=UUID(int=number)) for number in (1, 2, 3)]

    await world.take(*asks)

    assert sorted(fact.run_id.int for fact in await world.said(PolicyDecided)) == [1, 1, 2, 3]
    assert await world.db.fetchval("SELECT count(*) FROM decisions") == 3


async def test_a_question_that_waits_for_its_base_is_not_asked_twice(world: World) -> None:
    await world.ask(trust=Trust.OUTSIDER)
    await world.ask(trust=Trust.OUTSIDER)
    await world.pins.once()

    assert len(await world.said(PolicyDecided)) == 1
    await world.ask(trust=Trust.OUTSIDER)
    assert {fact.verdict for fact in await world.said(PolicyDecided)} == {Verdict.ESCALATE}


async def test_a_new_question_is_judged_by_todays_policy(world: World) -> None:
    await world.ask(1)
    await world.apply(resource("PolicyProfile", "everyone", appliesTo={}, default="deny"))

    await world.ask(2)

    assert [fact.verdict for fact in await world.said(PolicyDecided)] == [Verdict.ALLOW, Verdict.DENY]


async def test_a_deleted_profile_does_not_speak(world: World) -> None:
    await world.apply(resource("PolicyProfile", "strict", appliesTo={}, default="deny"))
    await world.ask(1)
    await world.delete("PolicyProfile", "strict")

    await world.ask(2)

    assert [fact.verdict for fact in await world.said(PolicyDecided)] == [Verdict.DENY, Verdict.ALLOW]


async def test_an_older_question_that_comes_late_is_nobodys(world: World) -> None:
    late = await world.question(2)
    await world.ask(3)

    await world.take(late)

    assert [fact.ask for fact in await world.said(PolicyDecided)] == [3]


async def test_a_first_question_that_comes_late_undoes_nothing(world: World) -> None:
    late = [await world.question(1, trust=trust) for trust in (Trust.OUTSIDER, Trust.MEMBER)]
    await world.escalated(2)

    for asked in late:
        await world.take(asked)
        await world.pins.once()

    assert await world.approvals() == {2: "pending"}


async def test_a_profile_that_cannot_be_read_lets_nothing_pass_without_a_person(world: World) -> None:
    await world.db.execute("""UPDATE resources SET spec = '{"rules": 7}', generation = 9 WHERE name = 'everyone'""")

    await world.ask()
    await world.pins.once()

    assert (await world.last(PolicyDecided)).verdict is Verdict.ESCALATE


async def test_orgs_do_not_see_each_others_resources(world: World) -> None:
    asked = (await world.question()).model_copy(update={"org": "other"})

    await world.take(asked)

    decided = await world.last(PolicyDecided)
    assert (decided.verdict, decided.org) == (Verdict.DENY, "other")
    assert decided.reasons[0].code == "role.unknown"


async def test_a_decision_row_keeps_what_was_judged_and_by_which_policy(world: World) -> None:
    asked = await world.ask()

    row = await world.db.fetchrow("SELECT * FROM decisions")
    assert row is not None
    assert row["judged"] == asked.judged.model_dump(mode="json")
    assert row["policy_generation"]
    assert row["body"]["reasons"]
