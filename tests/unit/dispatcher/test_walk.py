"""Every life a run can have, walked: what must hold of each step, and of all of them together."""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from dispatch_common.events import AttemptFinished, CancelAsked, Fact, PolicyAsked, PolicyDecided
from dispatch_common.lifecycle import FOLLOWS_TASK, TERMINAL, RunState
from services.dispatcher.decide import Incoming, Overdue, TaskMoved, decide
from services.dispatcher.run import Change, Rules, Run, Task
from tests.support.dispatching import GRANT, NOW
from tests.support.run_walk import LATE, RULES, TASK, Decide, Taken, cause_of, steps, variants, walk

# --- what the whole walk shows ---


def test_the_walk_reaches_every_state() -> None:
    assert {step.change.run.state for step in walk()} == set(RunState)


def test_a_new_question_to_policy_has_a_new_number() -> None:
    for step in walk():
        before, after = step.before.run, step.change.run
        again = isinstance(step.incoming, Overdue) and before.state is after.state is RunState.REQUESTED
        if any(isinstance(fact, PolicyAsked) for fact in step.change.says) and not again:
            assert after.ask > before.ask


def most_attempts(step: Taken) -> int:
    """The bound: what the grant allows, setbacks that cost nothing, and attempts that waited for a person in vain."""
    return GRANT.max_attempts + RULES.most_setbacks + step.before.waits


def test_attempts_are_bounded() -> None:
    for step in walk():
        assert step.change.run.attempt <= most_attempts(step)


def is_old(step: Taken) -> bool:
    """Whether a fact is about another question, attempt or publication than the newest."""
    run, incoming = step.before.run, step.incoming
    ask = incoming.ask if isinstance(incoming, PolicyDecided) else run.ask
    fence = getattr(incoming, "fence", run.attempt)
    revision = getattr(incoming, "revision", run.revision)
    return (ask, fence, revision) != (run.ask, run.attempt, run.revision)


def test_older_facts_change_nothing() -> None:
    for step in walk():
        assert step.change.ignored or not is_old(step)


def test_every_run_can_come_to_an_end() -> None:
    """Backwards from the ends: whatever is reached has a way out that needs nobody's change of mind."""
    unmoved = (TaskMoved,)
    ways: dict[str, set[str]] = {}
    good: deque[str] = deque()
    for step in walk():
        if isinstance(step.incoming, unmoved):
            continue
        ways.setdefault(step.after.key, set()).add(step.before.key)
        if step.change.run.terminal:
            good.append(step.before.key)
    ending = set(good)
    while good:
        for before in ways.get(good.popleft(), ()):
            if before not in ending:
                ending.add(before)
                good.append(before)
    assert {step.before.key for step in walk()} - ending == set()


def test_silence_alone_ends_every_run_that_holds_a_slot() -> None:
    for step in walk():
        if isinstance(step.incoming, Overdue) and step.late and step.before.run.holds_slot:
            assert step.change.run.attempt_id is None


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_terminal_is_terminal(state: RunState) -> None:
    ended = {step.after.key: step.change.run for step in walk() if step.change.run.state is state}
    assert ended
    for run in ended.values():
        for incoming, late in variants(run):
            now = LATE if late else NOW
            change = decide(run, TASK, incoming, cause=cause_of(incoming), now=now, rules=RULES)
            assert change.run is run
            assert change.ignored


def test_what_was_asked_meanwhile_is_followed_up_unless_the_run_was_stopped_for_it() -> None:
    followed = 0
    for step in walk():
        run = step.before.run
        if run.pending and step.change.run.terminal:
            stopped_at_once = run.state in FOLLOWS_TASK and isinstance(step.incoming, TaskMoved | CancelAsked)
            assert (step.change.follow_up is None) == stopped_at_once
            followed += step.change.follow_up is not None
    assert followed


# --- seen to fail ---


Bug = Callable[[Run, Change], Change]


def spoiled(spoil: Bug) -> Decide:
    """Return a decide with a bug: whatever changes a run is changed a little more."""

    def decides(run: Run, task: Task, incoming: Incoming, *, cause: Fact | None, now: datetime, rules: Rules) -> Change:
        change = decide(run, task, incoming, cause=cause, now=now, rules=rules)
        return change if change.ignored else spoil(run, change)

    return decides


def but(change: Change, **changes: Any) -> Change:
    return replace(change, run=change.run.model_copy(update=changes))


def _gives_the_slot_back_early(_: Run, change: Change) -> Change:
    return but(change, attempt_id=None) if change.run.state is RunState.CANCELLING else change


BUGS: list[tuple[Bug, str]] = [
    (lambda _, change: but(change, next_check=None), "nothing will ever move"),
    (_gives_the_slot_back_early, "before the stop was confirmed"),
    (lambda run, change: but(change, attempt_id=run.attempt_id), "without a slot|held for nothing"),
    (lambda _, change: replace(change, says=change.says * 2), "two facts have one id|exactly once"),
    (lambda _, change: replace(change, steps=change.steps[1:]), "without a step|begins where"),
    (lambda run, change: but(change, ask=run.ask - 1), "went back"),
]


@pytest.mark.parametrize(("bug", "promise"), BUGS)
def test_the_walk_notices_a_planted_bug(bug: Bug, promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        deque(steps(spoiled(bug)), maxlen=0)


def test_the_walk_notices_that_every_fence_is_believed() -> None:
    def decides(run: Run, task: Task, incoming: Incoming, *, cause: Fact | None, now: datetime, rules: Rules) -> Change:
        match incoming:
            case AttemptFinished():
                incoming = incoming.model_copy(update={"fence": run.attempt})
            case _:
                pass
        return decide(run, task, incoming, cause=cause, now=now, rules=rules)

    assert any(is_old(step) and not step.change.ignored for step in steps(decides))


def test_the_walk_notices_one_attempt_too_many() -> None:
    generous = replace(RULES, most_setbacks=RULES.most_setbacks + 1)

    def decides(run: Run, task: Task, incoming: Incoming, *, cause: Fact | None, now: datetime, rules: Rules) -> Change:
        return decide(run, task, incoming, cause=cause, now=now, rules=generous)

    assert any(step.change.run.attempt > most_attempts(step) for step in steps(decides))
