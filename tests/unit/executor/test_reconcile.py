"""What a restarted executor does about each attempt, for everything a launcher can find of it."""

from itertools import product

import pytest

from dispatch_common import ids
from dispatch_common.events import AttemptOutcome
from services.executor.attempt import Answer, Attempt, State
from services.executor.launchers import LaunchState
from services.executor.reconcile import Do, reconcile

OPEN = (State.LAUNCHING, State.RUNNING, State.COLLECTING)


def an_attempt(state: State, *, stop: str | None = None, revoked: bool = False) -> Attempt:
    answer = Answer(AttemptOutcome.STOPPED, "x") if state is State.FINISHED else None
    return Attempt(ids.derived("a"), ids.derived("r"), 1, state, newest=2 if revoked else 1, stop=stop, answer=answer)


@pytest.mark.parametrize(
    ("state", "found", "does"),
    [
        (State.ACCEPTED, LaunchState.UNKNOWN, Do.NOTHING),
        (State.LAUNCHING, LaunchState.UNKNOWN, Do.START),
        (State.LAUNCHING, LaunchState.ALIVE, Do.NOTHING),
        (State.LAUNCHING, LaunchState.ENDED, Do.COLLECT),
        (State.LAUNCHING, LaunchState.LOST, Do.LOST),
        (State.RUNNING, LaunchState.UNKNOWN, Do.NOTHING),
        (State.RUNNING, LaunchState.ALIVE, Do.NOTHING),
        (State.RUNNING, LaunchState.ENDED, Do.COLLECT),
        (State.RUNNING, LaunchState.LOST, Do.LOST),
        (State.COLLECTING, LaunchState.ENDED, Do.COLLECT),
        (State.COLLECTING, LaunchState.LOST, Do.LOST),
        (State.FINISHED, LaunchState.ALIVE, Do.KILL),
        (State.FINISHED, LaunchState.ENDED, Do.REMOVE),
        (State.FINISHED, LaunchState.LOST, Do.REMOVE),
        (State.FINISHED, LaunchState.UNKNOWN, Do.NOTHING),
    ],
)
def test_each_finding_has_its_answer(state: State, found: LaunchState, does: Do) -> None:
    assert reconcile(an_attempt(state), found) is does


def test_a_stop_reaches_what_lives_and_ends_what_was_never_started() -> None:
    stopped = [an_attempt(state, stop="Alice cancelled it.") for state in OPEN]

    assert [reconcile(each, LaunchState.ALIVE) for each in stopped] == [Do.STOP] * 3
    assert reconcile(stopped[0], LaunchState.UNKNOWN) is Do.LOST
    assert reconcile(stopped[1], LaunchState.ENDED) is Do.COLLECT


def test_what_was_overtaken_is_killed_and_its_result_is_not_taken() -> None:
    for state in OPEN:
        revoked = an_attempt(state, revoked=True)
        assert reconcile(revoked, LaunchState.ALIVE) is Do.KILL
        assert reconcile(revoked, LaunchState.ENDED) is Do.LOST


def test_nothing_living_is_ever_given_up_and_nothing_over_is_started() -> None:
    for state, found, stop, revoked in product(State, LaunchState, (None, "stop"), (False, True)):
        does = reconcile(an_attempt(state, stop=stop, revoked=revoked), found)
        if found is LaunchState.ALIVE:
            assert does not in (Do.LOST, Do.COLLECT, Do.REMOVE, Do.START)
        if state is State.FINISHED or stop or revoked:
            assert does is not Do.START
