"""Which commit was judged: asked of a real repository, with an answer for everything that can be wrong with it."""

from datetime import timedelta
from pathlib import Path

import pytest

from dispatch_common.events import PolicyDecided
from dispatch_common.resources import Repository
from dispatch_common.values import Trust, Verdict
from services.policy.answering import BASE_TRIES
from services.policy.base import BaseUnknown, pin
from tests.integration.policy.conftest import World, a_repository, git
from tests.support.policies import resource


async def test_the_tip_of_the_default_branch_is_pinned(tmp_path: Path) -> None:
    made = a_repository(tmp_path / "r")
    git("checkout", "-q", "-b", "release/2.1", at=made)
    git("commit", "-q", "--allow-empty", "-m", "Other", at=made)

    base = await pin("r", Repository(url=str(made), default_branch="release/2.1"))

    assert base.commit == git("rev-parse", "release/2.1", at=made)
    assert base.commit != git("rev-parse", "main", at=made)


@pytest.mark.parametrize(("branch", "why"), [("nowhere", "no such branch"), ("ain", "no such branch")])
async def test_a_branch_that_is_not_there_is_said(tmp_path: Path, branch: str, why: str) -> None:
    made = a_repository(tmp_path / "r")

    with pytest.raises(BaseUnknown, match=why):
        await pin("r", Repository(url=str(made), default_branch=branch))


async def test_a_repository_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BaseUnknown, match="does not appear to be a git repository"):
        await pin("r", Repository(url=str(tmp_path / "nothing")))


async def test_an_address_is_never_an_option_or_a_command(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for url in (f"--upload-pack=touch {mark}", f"ext::sh -c touch% {mark}"):
        unchecked = Repository.model_construct(url=url, default_branch="main")

        with pytest.raises(BaseUnknown):
            await pin("r", unchecked)

    assert not mark.exists()


async def test_a_repository_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    made = a_repository(tmp_path / "r")

    with pytest.raises(BaseUnknown, match="did not answer"):
        await pin("r", Repository(url=str(made)), patience=timedelta(0))


async def test_what_cannot_be_pinned_is_tried_again_and_then_denied(world: World) -> None:
    await world.apply(resource("Repository", "sample", url=str(world.repository / "gone")))
    await world.ask(trust=Trust.OUTSIDER)

    for _ in range(BASE_TRIES - 1):
        assert await world.pins.once() == 1
        assert await world.said(PolicyDecided) == []
        assert await world.pins.once() == 0, "it waits before it tries again"
        await world.db.execute("UPDATE decisions SET next_check = clock_timestamp()")
    await world.pins.once()

    decided = await world.last(PolicyDecided)
    assert (decided.verdict, decided.reasons[0].code) == (Verdict.DENY, "base.unknown")
    assert "Repository 'sample'" in decided.reasons[0].next_action


async def test_a_repository_that_comes_back_is_pinned(world: World) -> None:
    await world.apply(resource("Repository", "sample", url=str(world.repository / "gone")))
    await world.ask(trust=Trust.OUTSIDER)
    await world.pins.once()
    await world.apply(resource("Repository", "sample", url=str(world.repository)))
    await world.db.execute("UPDATE decisions SET next_check = clock_timestamp()")

    await world.pins.once()

    assert (await world.last(PolicyDecided)).verdict is Verdict.ESCALATE


async def test_a_question_that_a_later_one_has_replaced_is_not_answered(world: World) -> None:
    await world.ask(1, trust=Trust.OUTSIDER)
    await world.ask(2, trust=Trust.OUTSIDER, task_version=2)

    while await world.pins.once():
        pass

    assert [fact.ask for fact in await world.said(PolicyDecided)] == [2]
    assert await world.approvals() == {2: "pending"}


async def test_a_policy_that_died_while_pinning_is_taken_up_by_the_next(world: World) -> None:
    await world.ask(trust=Trust.OUTSIDER)
    await world.db.execute("UPDATE decisions SET tries = 1, next_check = clock_timestamp() - interval '1 second'")

    await world.pins.once()

    assert (await world.last(PolicyDecided)).verdict is Verdict.ESCALATE
