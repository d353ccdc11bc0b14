"""Every life an attempt and its successor can have, walked: no two live at once, nothing lives that is finished."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple

import pytest

from dispatch_common import ids
from dispatch_common.events import AttemptOutcome, AttemptRequested, AttemptStopAsked
from dispatch_common.families import ErrorFamily
from dispatch_common.values import Actor, AgentSpec, Grant, TaskSnapshot, WakeReason
from services.executor import lease
from services.executor.attempt import Answer, Attempt, Change, OpenQuestion, Refusal, Say, State, Terms

ZERO = datetime(2026, 11, 21, tzinfo=UTC)
TICK = timedelta(seconds=1)
TERMS = Terms(lease=2 * TICK, hold=2 * TICK, margin=TICK)
RUN = ids.derived("run")
HERE, THERE = "here", "there"
DONE = Answer(AttemptOutcome.SUCCEEDED, "done")
LAST_TICK = 5


def at(tick: int) -> datetime:
    return ZERO + tick * TICK


def requested(fence: int, deadline: int | None = None) -> AttemptRequested:
    return AttemptRequested(
        id=ids.derived("requested", fence),
        time=ZERO,
        run_id=RUN,
        attempt_id=ids.derived("attempt", fence),
        fence=fence,
        task_id=ids.derived("task"),
        task_version=1,
        snapshot=TaskSnapshot(
            source="s", provider="api", object_id="1", key="T-1", title="t", read_at=ZERO, digest="d"
        ),
        instruction="",
        wake_reason=WakeReason.TICKET_ASSIGNMENT,
        actor=Actor(id="alice"),
        agent=AgentSpec(name="Vega", role="coder", backend="scripted"),
        repository=None,
        grant=Grant(),
        deadline=None if deadline is None else at(deadline),
    )


def stop_asked(fence: int) -> AttemptStopAsked:
    return AttemptStopAsked(
        id=ids.derived("stop", fence),
        time=ZERO,
        run_id=RUN,
        attempt_id=ids.derived("attempt", fence),
        fence=fence,
        sentence="Alice cancelled it.",
    )


# --- the walk ---


class Supervisor(NamedTuple):
    """What really lives. The agent lives from the first lease until ``dies_at`` or until it ends."""

    lives: bool = True
    asked_at: int | None = None  #: a lease was asked for and the answer is not here
    granted: tuple[int, int] | None = None  #: asked at, ticks: the executor answered; the answer is under way
    dies_at: int | None = None  #: the agent lives, and is killed then at the latest
    posts: bool = False  #: the agent is dead; its result may arrive at any time, and more than once


class World(NamedTuple):
    now: int
    attempts: tuple[Attempt, ...] = ()
    supervisors: tuple[tuple[int, Supervisor], ...] = ()

    def attempt(self, fence: int) -> Attempt | None:
        return next((a for a in self.attempts if a.fence == fence), None)

    def supervisor(self, fence: int) -> Supervisor | None:
        return dict(self.supervisors).get(fence)

    def living(self) -> list[int]:
        return [fence for fence, s in self.supervisors if s.lives and s.dies_at is not None]

    def with_changes(self, *changes: Change) -> "World":
        rows = {a.fence: a for a in self.attempts} | {c.attempt.fence: c.attempt for c in changes}
        return self._replace(attempts=tuple(rows[fence] for fence in sorted(rows)))

    def with_supervisor(self, fence: int, supervisor: Supervisor) -> "World":
        them = dict(self.supervisors) | {fence: supervisor}
        return self._replace(supervisors=tuple(sorted(them.items())))


@dataclass(frozen=True)
class Rules:
    """The functions under test, so that a test can plant a bug in one of them."""

    take: Callable[..., tuple[Change, ...]] = lease.take
    launch: Callable[..., Change] = lease.launch
    renew: Callable[..., tuple[Change, timedelta | Refusal]] = lease.renew
    expired: Callable[..., Change] = lease.expired
    finished: Callable[..., Change] = lease.finished
    deadline: int | None = None


def successors(world: World, rules: Rules) -> Iterator[World]:
    yield from _time_passes(world)
    for fence in (1, 2):
        yield world.with_changes(*rules.take(requested(fence, rules.deadline), world.attempts, executor=HERE))
    yield world.with_changes(*lease.stop(stop_asked(1), world.attempts))
    for attempt in world.attempts:
        yield from _executor_moves(world, attempt, rules)
    for fence, supervisor in world.supervisors:
        if supervisor.lives:
            yield from _supervisor_moves(world, fence, supervisor, rules)


def _time_passes(world: World) -> Iterator[World]:
    if world.now == LAST_TICK:
        return
    later = world._replace(now=world.now + 1)
    for fence, supervisor in world.supervisors:
        if supervisor.lives and supervisor.dies_at is not None and supervisor.dies_at <= later.now:
            later = later.with_supervisor(fence, Supervisor(lives=False))
    yield later


def _executor_moves(world: World, attempt: Attempt, rules: Rules) -> Iterator[World]:
    now = at(world.now)
    launched = rules.launch(attempt, world.attempts, executor=HERE, now=now, terms=TERMS)
    yield world.with_changes(launched)
    if attempt.state is State.LAUNCHING and world.supervisor(attempt.fence) is None:
        yield world.with_supervisor(attempt.fence, Supervisor())
    yield world.with_changes(rules.expired(attempt, now=now, back_since=ZERO, terms=TERMS))
    supervisor = world.supervisor(attempt.fence)
    if supervisor is not None and not supervisor.lives:
        yield world.with_changes(lease.lost(attempt, "It died."))


def _supervisor_moves(world: World, fence: int, supervisor: Supervisor, rules: Rules) -> Iterator[World]:
    attempt = world.attempt(fence)
    assert attempt is not None
    if supervisor.asked_at is None and supervisor.granted is None and not supervisor.posts:
        yield world.with_supervisor(fence, supervisor._replace(asked_at=world.now))
    if supervisor.asked_at is not None:
        change, granted = rules.renew(attempt, fence, now=at(world.now), terms=TERMS)
        lost = supervisor._replace(asked_at=None)
        yield world.with_changes(change).with_supervisor(fence, lost)
        if isinstance(granted, Refusal):
            yield world.with_supervisor(fence, Supervisor(lives=False))
        else:
            answer = (supervisor.asked_at, granted // TICK)
            yield world.with_changes(change).with_supervisor(fence, lost._replace(granted=answer))
    if supervisor.granted is not None:
        asked_at, ticks = supervisor.granted
        dies_at = asked_at + ticks
        if dies_at > world.now:
            newest = max(dies_at, supervisor.dies_at or 0)
            yield world.with_supervisor(fence, Supervisor(dies_at=newest))
    if supervisor.dies_at is not None:
        yield world.with_changes(lease.started(attempt, fence, now=at(world.now)))
        yield world.with_supervisor(fence, Supervisor(lives=False))
        yield world.with_supervisor(fence, Supervisor(posts=True))
    if supervisor.posts:
        yield world.with_changes(rules.finished(attempt, fence, DONE))


@cache
def walk(rules: Rules) -> set[World]:
    """All worlds that can be reached; fails at the first that breaks a promise."""
    start = World(0)
    seen, todo = {start}, deque([start])
    while todo:
        world = todo.popleft()
        for successor in successors(world, rules):
            _check(world, successor)
            if successor not in seen:
                seen.add(successor)
                todo.append(successor)
    return seen


def _check(before: World, after: World) -> None:
    living = after.living()
    assert len(living) <= 1, "two attempts of a run live at once"
    for fence in living:
        attempt = after.attempt(fence)
        assert attempt is not None
        assert attempt.is_open, "a finished attempt lives"
        assert attempt.deadline is None or at(after.now) < attempt.deadline, "it lives beyond its deadline"
    for old in before.attempts:
        new = after.attempt(old.fence)
        assert new is not None
        if not old.is_open:
            assert new.answer == old.answer, "an answer changed"
            assert not new.is_open, "a finished attempt was opened again"
        else:
            assert list(State).index(new.state) >= list(State).index(old.state), "an attempt went back"
            assert new.newest >= old.newest
            assert old.stop is None or new.stop == old.stop


@pytest.mark.parametrize("deadline", [None, 3])
def test_no_two_attempts_live_at_once_and_nothing_lives_that_is_finished(deadline: int | None) -> None:
    worlds = walk(Rules(deadline=deadline))

    reached = {attempt.state for world in worlds for attempt in world.attempts}
    assert reached == set(State) - {State.COLLECTING}
    assert any(world.living() == [2] for world in worlds)


@pytest.mark.parametrize("deadline", [None, 3])
def test_every_open_attempt_ends_by_time_alone(deadline: int | None) -> None:
    for world in walk(Rules(deadline=deadline)):
        for attempt in world.attempts:
            if attempt.is_open and (deadline is not None or attempt.state is not State.ACCEPTED):
                assert not lease.expired(attempt, now=at(99), back_since=ZERO, terms=TERMS).attempt.is_open


def _launches_beside(attempt: Attempt, _others: object, **kwargs: object) -> Change:
    return lease.launch(attempt, (), **kwargs)  # pyright: ignore[reportArgumentType]


def _expires_early(attempt: Attempt, *, now: datetime, back_since: datetime, terms: Terms) -> Change:
    return lease.expired(attempt, now=now + 2 * TICK, back_since=back_since, terms=terms)


def _grants_to_all(attempt: Attempt, fence: int, *, now: datetime, terms: Terms) -> tuple[Change, timedelta | Refusal]:
    change, _ = lease.renew(attempt, fence, now=now, terms=terms)
    return change, terms.lease


def _ignores_the_deadline(
    attempt: Attempt, fence: int, *, now: datetime, terms: Terms
) -> tuple[Change, timedelta | Refusal]:
    change, granted = lease.renew(attempt.but(deadline=None), fence, now=now, terms=terms)
    return Change(change.attempt.but(deadline=attempt.deadline)), granted


def _overwrites(attempt: Attempt, _fence: int, answer: Answer) -> Change:
    return Change(attempt.but(answer=answer))


@pytest.mark.parametrize(
    ("bug", "promise"),
    [
        (Rules(launch=_launches_beside), "two attempts"),
        (Rules(expired=_expires_early), "a finished attempt lives"),
        (Rules(renew=_grants_to_all), "a finished attempt lives|two attempts"),
        (Rules(renew=_ignores_the_deadline, deadline=3), "beyond its deadline|a finished attempt lives"),
        (Rules(finished=_overwrites), "an answer changed"),
    ],
)
def test_the_walk_notices_a_planted_bug(bug: Rules, promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        walk(bug)


# --- what is said ---


def an_attempt(state: State = State.ACCEPTED, fence: int = 1, **changes: object) -> Attempt:
    (change,) = lease.take(requested(fence), (), executor=HERE)
    return change.attempt.but(state=state, **changes)


def test_a_request_is_taken_once_and_answered_again() -> None:
    (first,) = lease.take(requested(1), (), executor=HERE)
    (again,) = lease.take(requested(1), (first.attempt,), executor=THERE)

    assert (first.says, again.says) == ((Say.PREPARING,), (Say.PREPARING,))
    assert again.attempt == first.attempt


@pytest.mark.parametrize(
    ("attempt", "says"),
    [
        (an_attempt(State.LAUNCHING), (Say.PREPARING,)),
        (an_attempt(State.RUNNING), (Say.PREPARING, Say.STARTED)),
        (
            an_attempt(State.RUNNING, question=OpenQuestion("q1", "Which?", ZERO)),
            (Say.PREPARING, Say.STARTED, Say.QUESTION),
        ),
        (an_attempt(State.COLLECTING), (Say.PREPARING, Say.STARTED)),
        (an_attempt(State.FINISHED, answer=DONE), (Say.FINISHED,)),
    ],
)
def test_asked_again_it_says_all_that_was_said(attempt: Attempt, says: tuple[Say, ...]) -> None:
    (change,) = lease.take(requested(1), (attempt,), executor=HERE)

    assert change.says == says
    assert change.attempt == attempt


def test_an_older_fence_is_refused_and_a_newer_one_revokes() -> None:
    running = an_attempt(State.RUNNING, fence=2)

    assert lease.take(requested(1), (running,), executor=HERE) == ()
    new, revoked = lease.take(requested(3), (running,), executor=HERE)

    assert new.attempt.state is State.ACCEPTED
    assert revoked.attempt.is_revoked
    assert lease.refusal(revoked.attempt, 2, ZERO) is Refusal.FENCED
    assert lease.launch(new.attempt, (revoked.attempt,), executor=HERE, now=ZERO, terms=TERMS).ignored


def test_a_revoked_attempt_that_was_never_launched_is_over() -> None:
    _, revoked = lease.take(requested(2), (an_attempt(),), executor=HERE)

    assert not revoked.attempt.is_open


def test_a_stop_before_the_launch_ends_it_and_nothing_can_start_it() -> None:
    (stopped,) = lease.stop(stop_asked(1), (an_attempt(),))

    assert stopped.says == (Say.FINISHED,)
    assert stopped.attempt.answer is not None
    assert stopped.attempt.answer.outcome is AttemptOutcome.STOPPED
    assert lease.launch(stopped.attempt, (), executor=HERE, now=ZERO, terms=TERMS).attempt == stopped.attempt


def test_a_stop_of_something_unknown_keeps_the_late_request_out() -> None:
    (tombstone,) = lease.stop(stop_asked(1), ())
    (late,) = lease.take(requested(1), (tombstone.attempt,), executor=HERE)

    assert (tombstone.says, late.says) == ((Say.FINISHED,), (Say.FINISHED,))
    assert not late.attempt.is_open


def test_a_stop_while_it_runs_waits_until_nothing_lives() -> None:
    (asked,) = lease.stop(stop_asked(1), (an_attempt(State.RUNNING),))

    assert asked.says == ()
    assert asked.attempt.stop == "Alice cancelled it."
    ended = lease.lost(asked.attempt, "It died.")
    assert ended.attempt.answer is not None
    assert ended.attempt.answer.outcome is AttemptOutcome.STOPPED


def test_a_stop_after_the_end_says_the_end_again() -> None:
    (again,) = lease.stop(stop_asked(1), (an_attempt(State.FINISHED, answer=DONE),))

    assert again.says == (Say.FINISHED,)
    assert again.attempt.answer == DONE


def test_a_second_start_says_nothing() -> None:
    first = lease.started(an_attempt(State.LAUNCHING), 1, now=ZERO, base_commit="abc")
    again = lease.started(first.attempt, 1, now=ZERO)

    assert (first.says, again.says) == ((Say.STARTED,), ())
    assert again.attempt.base_commit == "abc"


def test_a_question_is_said_once() -> None:
    question = OpenQuestion("q1", "Which one?", ZERO)
    first = lease.asked(an_attempt(State.RUNNING), 1, question, now=ZERO)

    assert first.says == (Say.QUESTION,)
    assert lease.asked(first.attempt, 1, question, now=ZERO).says == ()
    assert lease.asked(first.attempt, 1, OpenQuestion("q2", "And?", ZERO), now=ZERO).says == (Say.QUESTION,)


def test_only_the_first_result_counts() -> None:
    first = lease.finished(an_attempt(State.RUNNING), 1, DONE)
    again = lease.finished(first.attempt, 1, Answer(AttemptOutcome.FAILED, "no", ErrorFamily.UNKNOWN))

    assert (first.says, again.says) == ((Say.FINISHED,), ())
    assert again.attempt.answer == DONE


def test_a_lease_never_reaches_beyond_the_deadline() -> None:
    attempt = an_attempt(State.RUNNING, deadline=at(5))

    _, early = lease.renew(attempt, 1, now=at(1), terms=TERMS)
    _, late = lease.renew(attempt, 1, now=at(4), terms=TERMS)
    _, after = lease.renew(attempt, 1, now=at(5), terms=TERMS)

    assert (early, late, after) == (2 * TICK, TICK, Refusal.REVOKED)


def test_an_old_or_strange_fence_gets_no_lease() -> None:
    attempt = an_attempt(State.RUNNING, fence=2)

    assert lease.renew(attempt, 1, now=ZERO, terms=TERMS)[1] is Refusal.FENCED
    assert lease.renew(attempt, 3, now=ZERO, terms=TERMS)[1] is Refusal.FENCED


def test_after_an_outage_nothing_expires_before_it_had_a_full_chance_to_renew() -> None:
    attempt = an_attempt(State.RUNNING, lease_until=at(2))

    def ended(tick: int, back_since: int) -> bool:
        change = lease.expired(attempt, now=at(tick), back_since=at(back_since), terms=TERMS)
        return not change.attempt.is_open

    assert [ended(tick, 0) for tick in (2, 3)] == [False, True]
    assert [ended(tick, 100) for tick in (100, 102, 103)] == [False, False, True]


def test_only_the_executor_that_launches_it_holds_it() -> None:
    launched = lease.launch(an_attempt(), (), executor=HERE, now=ZERO, terms=TERMS).attempt

    assert lease.hold(launched, executor=HERE, now=at(1), terms=TERMS).attempt.lease_until == at(3)
    assert lease.hold(launched, executor=THERE, now=at(1), terms=TERMS).ignored


def test_what_nobody_could_start_in_time_says_so() -> None:
    waiting = an_attempt(deadline=at(5))

    assert lease.expired(waiting, now=at(4), back_since=ZERO, terms=TERMS).attempt.is_open
    answer = lease.expired(waiting, now=at(5), back_since=ZERO, terms=TERMS).attempt.answer
    assert answer is not None
    assert answer.family is ErrorFamily.TIMEOUT
