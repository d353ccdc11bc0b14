"""Policy in a world: judges, keeps its answers, asks people and hears them; as its handlers do around ``reply``."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from dispatch_common import ids
from dispatch_common.backoff import backoff
from dispatch_common.events import ApprovalAnswered, Fact, PolicyAsked, PolicyDecided
from dispatch_common.values import Actor
from services.policy.answering import approval_decided, newest, said_again
from services.policy.approval import Answer, Answered, ApprovalState, Base, expired, void
from tests.simulation.world import START, Action, World

BASE: Final = Base("sample", "/srv/sample.git", "main", "a" * 40)
BOB: Final = Actor(id="principal:bob", name="bob")
_EMISSIONS: Final = 12
_SAY_AGAIN: Final = timedelta(seconds=30)


def hears(world: World, fact: Fact) -> None:
    """Take one fact in one transaction."""
    match fact:
        case PolicyAsked():
            _asked(world, fact)
        case ApprovalAnswered():
            _answered(world, fact)
        case _:
            raise AssertionError(f"policy does not hear {fact.type}")


def _asked(world: World, asked: PolicyAsked) -> None:
    known = {ask: answer for (run_id, ask), answer in world.decisions.items() if run_id == asked.run_id}
    if asked.ask in known:
        decided = known[asked.ask]
        if isinstance(decided, PolicyDecided):
            world.say(said_again(decided, asked, world.now))
    elif asked.ask > newest(known):
        _conclude(world, asked, None)


def _conclude(world: World, asked: PolicyAsked, base: Base | None) -> None:
    mine = world.approvals.get(asked.run_id, ())
    done = world.parts.reply(asked, world.setting.policies, mine, world.now, base=base)
    world.decisions[asked.run_id, asked.ask] = done.decided or asked
    if done.decided is None:
        return
    if done.approvals:
        world.approvals[asked.run_id] = done.approvals
        for approval in done.approvals:
            if approval.ask < asked.ask:
                world.unheard.pop(approval.id, None)
    world.say(done.decided)


def _answered(world: World, fact: ApprovalAnswered) -> None:
    for approval in world.approvals.get(fact.run_id, ()):
        if approval.id == fact.approval_id:
            given = Answer(fact.by, fact.approve, fact.comment, frozenset({"approver"}))
            _ended(world, world.parts.answer(approval, given, world.now, START))


def _ended(world: World, done: Answered) -> None:
    fact = approval_decided(done, "default", world.now)
    if fact is None:
        return
    run_id = done.approval.run_id
    world.approvals[run_id] = tuple(
        done.approval if each.id == done.approval.id else each for each in world.approvals[run_id]
    )
    world.unheard[done.approval.id] = (fact, world.now + _SAY_AGAIN, 0)
    world.say(fact)


# --- what it does by itself ---


def actions(world: World) -> Iterator[Action]:
    """Yield what policy can do now."""
    for (run_id, ask), decision in world.decisions.items():
        if isinstance(decision, PolicyAsked):
            yield "pin", run_id, ask
    for run_id, approvals in world.approvals.items():
        over = world.runs[run_id].terminal
        for approval in approvals:
            if over and (approval.open or approval.id in world.unheard):
                yield "close", run_id, approval.id
            elif approval.open and approval.expires_at <= world.now:
                yield "expire", run_id, approval.id
            elif approval.id in world.unheard and world.unheard[approval.id][1] <= world.now:
                yield "repeat", run_id, approval.id


def timers(world: World) -> Iterator[datetime]:
    for run_id, approvals in world.approvals.items():
        if not world.runs[run_id].terminal:
            yield from (approval.expires_at for approval in approvals if approval.open)
            yield from (world.unheard[each.id][1] for each in approvals if each.id in world.unheard)


def pin(world: World, run_id: UUID, ask: int) -> None:
    """Look up the base commit that an escalation waits for, and answer its question if it is still the newest."""
    asked = world.decisions[run_id, ask]
    assert isinstance(asked, PolicyAsked)
    if newest(other for of_run, other in world.decisions if of_run == run_id) > ask:
        world.decisions[run_id, ask] = None
        return
    _conclude(world, asked, BASE)


def close(world: World, run_id: UUID, approval_id: UUID) -> None:
    """Void what waits for a run that has ended."""
    world.unheard.pop(approval_id, None)
    mine = world.approvals[run_id]
    world.approvals[run_id] = tuple(void(each) if each.open and each.id == approval_id else each for each in mine)


def expire(world: World, run_id: UUID, approval_id: UUID) -> None:
    """End an approval that nobody answered."""
    for approval in world.approvals[run_id]:
        if approval.id == approval_id:
            done = expired(approval, world.now, START)
            if done is not None:
                _ended(world, done)


def repeat(world: World, run_id: UUID, approval_id: UUID) -> None:
    """Say how an approval ended once more, while no later question shows that it was heard."""
    fact, _, emissions = world.unheard[approval_id]
    again = fact.model_copy(update={"id": ids.derived("approval-decided", approval_id, emissions + 1)})
    world.say(again)
    if emissions + 1 >= _EMISSIONS:
        del world.unheard[approval_id]
    else:
        pause = backoff(_SAY_AGAIN, emissions + 1)
        world.unheard[approval_id] = (fact, world.now + pause, emissions + 1)


def waits_for_a_person(world: World, run_id: UUID) -> bool:
    """Tell whether somebody is asked to approve something of this run."""
    return any(approval.state is ApprovalState.PENDING for approval in world.approvals.get(run_id, ()))
