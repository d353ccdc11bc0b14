"""The executor in a world: its rows, the words of supervisors at its gateway, and its rounds."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from agent_runner.protocol import Blob, Outcome, ResultReport
from dispatch_common.events import AttemptRequested, AttemptStopAsked, Fact
from services.executor import facts, lease
from services.executor.attempt import Attempt, Change, OpenQuestion, Refusal, State
from services.executor.launchers import LaunchState
from services.executor.outcome import Record, outcome
from services.executor.reconcile import Do
from tests.simulation.world import START, Action, Supervisor, World, with_row

HERE: Final = "here"
GRACE: Final = timedelta(minutes=3)
_BLOB: Final = Blob(digest="b" * 64, size=1)


def hears(world: World, fact: Fact) -> None:
    """Take one fact in one transaction."""
    assert isinstance(fact, AttemptRequested | AttemptStopAsked)
    known = of_run(world, fact.run_id)
    if isinstance(fact, AttemptRequested):
        changes = world.parts.take(fact, known, executor=HERE)
    else:
        changes = world.parts.stop(fact, known)
    for change in changes:
        if change.attempt.id not in world.attempts:
            world.requests[change.attempt.id] = fact
        own = change.attempt.id == fact.attempt_id
        put(world, change, fact.id if own else None)


def of_run(world: World, run_id: UUID) -> list[Attempt]:
    return sorted((a for a in world.attempts.values() if a.run_id == run_id), key=lambda a: a.fence)


def put(world: World, change: Change, cause: UUID | None = None) -> None:
    """Commit a change and say what follows."""
    world.attempts[change.attempt.id] = change.attempt
    world.say(*facts.about(change.attempt, change.says, facts.Origin("default", world.now, cause)))


# --- its rounds ---


def actions(world: World) -> Iterator[Action]:
    """Yield what the executor can do now."""
    for attempt_id, attempt in world.attempts.items():
        if attempt.state is State.ACCEPTED and not _waits(world, attempt):
            yield "launch", attempt_id
        if attempt_id in world.starting:
            yield "start", attempt_id
        elif attempt.state is not State.ACCEPTED and not is_away(world, attempt_id):
            do = world.parts.reconcile(attempt, found(world, attempt_id))
            if do not in (Do.NOTHING, Do.REMOVE) and not (do is Do.STOP and world.supervisors[attempt_id].stops):
                yield "reconcile", attempt_id, do.value
        if not _expired(world, attempt).ignored:
            yield "expire attempt", attempt_id


def _waits(world: World, attempt: Attempt) -> bool:
    """Whether a launch would have to wait for an older attempt of the run."""
    return bool(_launch(world, attempt).ignored)


def _launch(world: World, attempt: Attempt) -> Change:
    others = of_run(world, attempt.run_id)
    return world.parts.launch(attempt, others, executor=HERE, now=world.now, terms=world.setting.terms)


def expires_at(world: World, attempt: Attempt) -> datetime:
    if attempt.state is State.ACCEPTED:
        return attempt.deadline or datetime.max.replace(tzinfo=START.tzinfo)
    return lease.expires_at(attempt, back_since=START, terms=world.setting.terms)


def timers(world: World) -> Iterator[datetime]:
    for attempt in world.attempts.values():
        if attempt.is_open:
            yield expires_at(world, attempt)


def found(world: World, attempt_id: UUID) -> LaunchState:
    """Return what the launcher finds of an attempt on its host."""
    supervisor = world.supervisors.get(attempt_id)
    if supervisor is None:
        return LaunchState.UNKNOWN
    if supervisor.is_alive:
        return LaunchState.ALIVE
    return LaunchState.ENDED if supervisor.result is not None else LaunchState.LOST


def is_away(world: World, attempt_id: UUID) -> bool:
    """Whether the host of an attempt stands still, its executor with it."""
    supervisor = world.supervisors.get(attempt_id)
    return supervisor is not None and supervisor.is_frozen


def launch(world: World, attempt_id: UUID) -> None:
    """Commit that this executor launches it; starting it is another act, which a crash can come before."""
    change = _launch(world, world.attempts[attempt_id])
    put(world, change)
    if change.attempt.state is State.LAUNCHING:
        world.starting[attempt_id] = True


def start(world: World, attempt_id: UUID) -> None:
    """Start the supervisor, whatever became of the row meanwhile: the executor does not look again."""
    del world.starting[attempt_id]
    world.supervisors.setdefault(attempt_id, Supervisor())


def reconcile(world: World, attempt_id: UUID, do: str) -> None:
    """Bring what the row says and what lives together."""
    match Do(do):
        case Do.START:
            world.starting[attempt_id] = True
        case Do.STOP:
            with_row(world.supervisors, attempt_id, stops=True)
        case Do.KILL:
            with_row(world.supervisors, attempt_id, is_alive=False, is_frozen=False)
        case Do.COLLECT:
            attempt = lease.left(world.attempts[attempt_id]).attempt
            kind = world.supervisors[attempt_id].result
            assert kind is not None
            put(world, world.parts.finished(attempt, attempt.fence, outcome(report(attempt, kind), Record())))
        case Do.LOST:
            put(world, lease.lost(world.attempts[attempt_id], "Its supervisor died."))
        case _:
            raise AssertionError(f"nothing to do: {do}")


def expire(world: World, attempt_id: UUID) -> None:
    """End an attempt that nobody can be renewing any more."""
    put(world, _expired(world, world.attempts[attempt_id]))


def _expired(world: World, attempt: Attempt) -> Change:
    return world.parts.expired(attempt, now=world.now, back_since=START, terms=world.setting.terms)


# --- at the gateway ---


def renew(world: World, attempt_id: UUID) -> timedelta | Refusal:
    """Answer a supervisor that asks for its lease; stored before it hears of it."""
    attempt = world.attempts[attempt_id]
    change, granted = world.parts.renew(attempt, attempt.fence, now=world.now, terms=world.setting.terms)
    put(world, change)
    return granted


def started(world: World, attempt_id: UUID) -> None:
    attempt = world.attempts[attempt_id]
    put(world, world.parts.started(attempt, attempt.fence, now=world.now, base_commit="a" * 40))


def asked(world: World, attempt_id: UUID, number: int) -> None:
    attempt = world.attempts[attempt_id]
    question = OpenQuestion(f"{attempt.fence}.{number}", "Which one?", world.now + GRACE)
    put(world, lease.asked(attempt, attempt.fence, question, now=world.now))


def reported(world: World, attempt_id: UUID, kind: str) -> None:
    attempt = world.attempts[attempt_id]
    answer = outcome(report(attempt, kind), Record(stop=attempt.stop))
    put(world, world.parts.finished(attempt, attempt.fence, answer))


def report(attempt: Attempt, kind: str) -> ResultReport:
    """Return what a supervisor reports of an attempt that ended in some way; the commit's name tells what it holds."""
    match kind:
        case "stopped":
            return ResultReport(outcome=Outcome.STOPPED, sentence="It was asked to stop.")
        case "fails":
            return ResultReport(outcome=Outcome.FAILED, sentence="The tests fail.", family="timeout")
        case "waits for quota":
            return ResultReport(outcome=Outcome.FAILED, sentence="The quota is used up.", family="rate_limited")
        case "breaks":
            return ResultReport(outcome=Outcome.FAILED, sentence="No credential.", family="auth_failed")
        case "nothing":
            return ResultReport(outcome=Outcome.SUCCEEDED, sentence="Nothing to do.", summary="Nothing to do.")
        case _:
            commit = f"{kind}-{attempt.run_id.hex[:6]}-{attempt.fence}"
            return ResultReport(
                outcome=Outcome.SUCCEEDED, sentence="Done.", summary="Done.", commit=commit, bundle=_BLOB
            )
