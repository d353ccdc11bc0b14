"""The publisher in a world: its rows, and its worker one commit or one write at a time."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Final
from uuid import UUID

from dispatch_common import ids
from dispatch_common.events import (
    Fact,
    PublishOutcome,
    PublishRequested,
    PublishStopAsked,
    ResultPublished,
    ResultVerified,
    RunEnded,
    Verification,
)
from dispatch_common.families import ErrorFamily
from dispatch_common.invariants import AcceptedSeen
from dispatch_common.lifecycle import RunState
from services.result_publisher.judge import Findings, judge
from services.result_publisher.protocol import (
    RULES,
    Answer,
    Effect,
    Finish,
    Kind,
    Look,
    Record,
    Wait,
    Write,
    wanted_kinds,
)
from services.result_publisher.protocol import Publication as Protocol
from services.result_publisher.trees import Change, Entry
from tests.simulation import outside
from tests.simulation.world import Action, Name, Publication, World, with_row

NOTICE: Final = 0
LEASE: Final = timedelta(seconds=12)
#: How a write can end: it happened and we know, it happened or not and we do not know, or it happens only afterwards.
HOW: Final = ("done", "unknown happened", "unknown nothing", "unknown late")


def hears(world: World, fact: Fact) -> None:
    """Take one fact in one transaction."""
    match fact:
        case PublishRequested():
            _requested(world, fact)
        case PublishStopAsked():
            _stop_asked(world, fact)
        case RunEnded():
            _ended(world, fact)
        case _:
            raise AssertionError(f"the publisher does not hear {fact.type}")


def _requested(world: World, fact: PublishRequested) -> None:
    name = (fact.run_id, fact.revision)
    if name in world.publications:
        _say_again(world, name, fact)
        return
    if fact.result.commit is None and fact.snapshot.provider == "api":
        answer = _published(fact, world.now, PublishOutcome.NOTHING)
        world.publications[name] = Publication(fact, state="finished", answer=answer)
        world.say(answer)
        return
    kinds = wanted_kinds(product=fact.result.commit is not None, tracker=fact.snapshot.provider == "plane")
    world.publications[name] = Publication(fact, tuple(kind for kind in kinds if kind is not Kind.LINK))
    _ask_stop_below(world, fact.run_id, fact.revision)


def _stop_asked(world: World, fact: PublishStopAsked) -> None:
    name = (fact.run_id, fact.revision)
    known = world.publications.get(name)
    if known is None:
        answer = _published(fact, world.now, PublishOutcome.STOPPED)
        world.publications[name] = Publication(fact, state="finished", answer=answer, stop=True)
        world.say(answer)
        return
    if known.state != "finished":
        with_row(world.publications, name, stop=True)
    elif known.answer is None:
        # It was checked and not accepted; the stop makes that final.
        with_row(world.publications, name, answer=_published(fact, world.now, PublishOutcome.STOPPED))
    _say_again(world, name, fact)


def _say_again(world: World, name: Name, fact: Fact) -> None:
    known = world.publications[name]
    answer = known.answer or (None if isinstance(fact, PublishStopAsked) else known.verified)
    if answer is not None:
        world.say(answer.model_copy(update={"id": ids.derived("again", answer.id, fact.id), "time": world.now}))


def _ended(world: World, fact: RunEnded) -> None:
    if fact.state is RunState.COMPLETED:
        return
    _ask_stop_below(world, fact.run_id, 1 << 62)
    if fact.snapshot.provider == "plane":
        world.publications.setdefault((fact.run_id, NOTICE), Publication(fact, (Kind.COMMENT,), state="publishing"))


def _ask_stop_below(world: World, run_id: UUID, revision: int) -> None:
    for name, row in list(world.publications.items()):
        if name[0] == run_id and NOTICE < name[1] < revision and row.state != "finished":
            with_row(world.publications, name, stop=True)


def _published(fact: Fact, now: datetime, outcome: PublishOutcome) -> ResultPublished:
    assert isinstance(fact, PublishRequested | PublishStopAsked)
    return ResultPublished(
        id=ids.derived("result-published", fact.run_id, fact.revision),
        time=now,
        run_id=fact.run_id,
        revision=fact.revision,
        outcome=outcome,
        sentence="So it ended.",
    )


# --- its worker ---


def actions(world: World) -> Iterator[Action]:
    """Yield what the worker can do now: one line of its code at a time."""
    for name, row in world.publications.items():
        if row.hand:
            if row.hand[0] == "intended":
                yield "write", *name, "done"
                if world.can("timeout"):
                    yield from (("write", *name, how) for how in HOW[1:])
            else:
                yield "record", *name
        elif _may_work(world, name, row):
            if row.state == "asked":
                yield "check", *name
            elif not isinstance(_next(world, row), Wait):
                yield "move", *name


def timers(world: World) -> Iterator[datetime]:
    for row in world.publications.values():
        if row.leased_until is not None:
            yield row.leased_until
        if row.state == "publishing" and not row.hand:
            move = _next(world, row)
            if isinstance(move, Wait):
                yield move.until


def _may_work(world: World, name: Name, row: Publication) -> bool:
    if row.state == "finished" or (row.leased_until is not None and row.leased_until > world.now):
        return False
    older = (other for other in world.publications if other[0] == name[0] and NOTICE < other[1] < name[1])
    return all(world.publications[other].state == "finished" for other in older)


def _protocol(row: Publication) -> Protocol:
    return Protocol(row.wanted, row.effects, row.stop)


def _next(world: World, row: Publication) -> Look | Write | Record | Wait | Finish:
    return world.parts.next_move(_protocol(row), world.now, RULES)


def check(world: World, run_id: UUID, revision: int) -> None:
    """Import the result and judge it; what is accepted goes on by itself."""
    name = (run_id, revision)
    row = world.publications[name]
    request = row.request
    if row.stop or not isinstance(request, PublishRequested) or request.result.commit is None:
        with_row(world.publications, name, state="publishing")
        return
    judged = world.parts.judge(findings(request.result.commit), request.grant, approved=request.approved_digest)
    fact = ResultVerified(
        id=ids.derived("result-verified", run_id, revision),
        time=world.now,
        run_id=run_id,
        revision=revision,
        verification=judged.verification,
        reasons=judged.reasons,
        result_digest=judged.digest,
        paths=judged.paths,
    )
    accepted = judged.verification is Verification.ACCEPTED
    truly = judge(findings(request.result.commit), request.grant, approved=request.approved_digest)
    if truly.verification is Verification.ACCEPTED:
        world.accepted += (AcceptedSeen(run_id, revision, request.result.commit),)
    with_row(world.publications, name, verified=fact, state="publishing" if accepted else "finished")
    world.say(fact)


@cache
def findings(commit: str) -> Findings:
    """Return what an import finds; the commit's name tells what it holds."""
    paths = {"guarded": (".ci/run",), "refused": (".gitmodules",)}.get(commit.partition("-")[0], ("README.md",))
    changes = tuple(Change(path, None, Entry("100644", commit)) for path in paths)
    return Findings("a" * 40, commit, commit, changes, paths, 10, ())


def move(world: World, run_id: UUID, revision: int) -> None:
    """Make the next move up to its next commit; a write is another act, which a crash can come before."""
    name = (run_id, revision)
    row = world.publications[name]
    match _next(world, row):
        case Record(effect):
            _put(world, name, effect)
        case Write() as write:
            _intend(world, name, write)
        case Look(kind):
            follows = world.parts.after_look(
                _protocol(row), kind, outside.look(world, name, kind), world.now, rules=RULES
            )
            if isinstance(follows, Write):
                _intend(world, name, follows)
            else:
                _put(world, name, follows.effect)
        case Finish() as finish:
            _finish(world, name, finish)
        case Wait():
            raise AssertionError("it only waits")


def _put(world: World, name: Name, effect: Effect) -> None:
    row = world.publications[name]
    known = _protocol(row).effect(effect.kind)
    if known is None or not known.settled:
        with_row(world.publications, name, effects=_protocol(row).with_effect(effect).effects)


def _intend(world: World, name: Name, write: Write) -> None:
    """Commit an intent; a first write is not begun when a stop was asked meanwhile."""
    row = world.publications[name]
    known = _protocol(row).effect(write.effect.kind)
    if row.stop and (known is None or not known.begun):
        return
    _put(world, name, write.effect)
    with_row(world.publications, name, hand=("intended", write.effect), leased_until=world.now + LEASE)


def write(world: World, run_id: UUID, revision: int, how: str) -> None:
    """Write outside. ``how`` it ends decides what stands there and what the worker knows."""
    name = (run_id, revision)
    row = world.publications[name]
    effect: Effect = row.hand[1]
    if how != "done":
        world.spend("timeout")
    if how in ("done", "unknown happened"):
        outside.stands(world, name, effect.kind)
    answer = Answer.DONE if how == "done" else Answer.UNKNOWN
    late = effect.kind if how == "unknown late" else None
    world.publications[name] = replace(row, hand=("written", effect, answer), lands_late=late)


def time_passed(world: World) -> None:
    """Let every write land that is still under way; none takes longer than the wait after a doubt."""
    for name, row in list(world.publications.items()):
        if row.lands_late is not None:
            outside.stands(world, name, row.lands_late)
            with_row(world.publications, name, lands_late=None)


def record(world: World, run_id: UUID, revision: int) -> None:
    name = (run_id, revision)
    _, effect, answer = world.publications[name].hand
    with_row(world.publications, name, hand=(), leased_until=None)
    _put(world, name, world.parts.after_write(effect, answer, world.now, rules=RULES).effect)


def _finish(world: World, name: Name, finish: Finish) -> None:
    row = world.publications[name]
    if isinstance(row.request, RunEnded):
        with_row(world.publications, name, state="finished")
        return
    family = ErrorFamily.PUBLISH_FAILED if finish.outcome is PublishOutcome.FAILED else None
    answer = _published(row.request, world.now, finish.outcome).model_copy(update={"family": family})
    with_row(world.publications, name, state="finished", answer=answer)
    world.say(answer)
