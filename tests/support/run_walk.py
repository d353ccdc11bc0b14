"""The walk over every life a run can have: from the first state every fact in every variant, until nothing new appears.

What only counts up (questions, revisions, steps, checks, times, texts) is compared before and after each step and then
erased, so that the walk is finite. ``waits`` counts attempts that ended because a person was waited for.
"""

from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cache
from typing import NamedTuple, Protocol

from dispatch_common import ids
from dispatch_common.events import (
    ApprovalOutcome,
    AttemptOutcome,
    AttemptRequested,
    AttemptStopAsked,
    Fact,
    PolicyAsked,
    PublishOutcome,
    PublishRequested,
    PublishStopAsked,
    RunEnded,
    Verification,
)
from dispatch_common.families import ErrorFamily
from dispatch_common.lifecycle import HOLDS_SLOT, IN_PUBLISHER, NEXT, RunState
from dispatch_common.values import Stage, Verdict
from services.dispatcher.decide import Incoming, Overdue, SlotClaimed, TaskMove, TaskMoved, decide
from services.dispatcher.run import Change, Rules, Run, Task
from tests.support.dispatching import (
    NOW,
    a_run,
    a_task,
    an_ask,
    answered,
    approval,
    cancel,
    claimed,
    finished,
    policy,
    preparing,
    published,
    question,
    snapshot,
    started,
    verified,
)

RULES = Rules(most_setbacks=1)
LATE = NOW + timedelta(days=30)
OPEN, OLD = ids.derived("approval"), ids.derived("an older approval")
ASKED, REVISED = 3, 3  #: where counters stand after they were erased, so that older and newer ones exist
MOST_WAITS = 1
TASK, CLOSED = a_task(version=2), a_task(version=2, snapshot=snapshot(closed=True))
ONE_OF_EACH_TREATMENT = (ErrorFamily.UNKNOWN, ErrorFamily.RATE_LIMITED, ErrorFamily.AUTH_FAILED)

_QUESTIONS_MATTER = HOLDS_SLOT | {RunState.PARKED, RunState.QUEUED, RunState.REQUESTED}


class Decide(Protocol):
    """The function under test, so that a test can plant a bug."""

    def __call__(
        self, run: Run, task: Task, incoming: Incoming, *, cause: Fact | None, now: datetime, rules: Rules
    ) -> Change: ...


class Life(NamedTuple):
    """A run with everything erased that only counts up."""

    run: Run
    waits: int = 0

    @property
    def key(self) -> str:
        return f"{self.run.model_dump_json()}{self.waits}"


class Taken(NamedTuple):
    """One step of the walk."""

    before: Life
    incoming: Incoming
    late: bool
    change: Change
    after: Life


def variants(run: Run) -> Iterator[tuple[Incoming, bool]]:
    """Yield every fact that can come to a run, in every variant that could matter; late: after all its times."""
    now = (*_of_policy(run), *_of_attempts(run), *_of_the_publisher(run), *_of_people())
    yield from ((incoming, False) for incoming in now)
    yield Overdue(), False
    yield Overdue(), True


def _of_policy(run: Run) -> Iterator[Incoming]:
    for ask in (run.ask - 1, run.ask, run.ask + 1):
        for verdict in Verdict:
            yield policy(verdict, ask, OPEN if verdict is Verdict.ESCALATE else None, run.stage)
    for outcome in ApprovalOutcome:
        for approval_id in (OPEN, OLD):
            yield approval(outcome, approval_id)


def _of_attempts(run: Run) -> Iterator[Incoming]:
    yield claimed(run.attempt + 1)
    for fence in {max(run.attempt - 1, 0), run.attempt, run.attempt + 1}:
        yield preparing(fence)
        yield started(fence)
        yield question(fence, "q1")
        yield question(fence, "q2")
        yield finished(fence)
        yield finished(fence, AttemptOutcome.STOPPED)
        for family in ONE_OF_EACH_TREATMENT:
            yield finished(fence, AttemptOutcome.FAILED, family)
        yield finished(fence, AttemptOutcome.FAILED, ErrorFamily.QUOTA_EXHAUSTED, NOW + timedelta(hours=1))


def _of_the_publisher(run: Run) -> Iterator[Incoming]:
    for revision in (run.revision - 1, run.revision, run.revision + 1):
        for verification in Verification:
            yield verified(verification, revision)
        for outcome in PublishOutcome:
            yield published(outcome, revision)


def _of_people() -> Iterator[Incoming]:
    yield answered("q1")
    yield answered("q2")
    yield cancel()
    for move in TaskMove:
        yield TaskMoved(move, "The task moved.")
    yield TaskMoved(TaskMove.CHANGED, "It was asked for more.", (an_ask(),))


def erased(run: Run) -> Run:
    """Return the run without what only counts up, and without what its state makes meaningless."""
    with_result = run.stage is Stage.PUBLISH or run.state in (*IN_PUBLISHER, RunState.CANCELLING)
    waits = run.state in (RunState.PARKED, RunState.AWAITING_ANSWER)
    asks = run.state in _QUESTIONS_MATTER
    return run.model_copy(
        update={
            "version": 1,
            "checks": 0,
            "task_version": 1,
            "instruction": "",
            "ask": ASKED,
            "revision": REVISED if run.revision else 0,
            "result": run.result if with_result else None,
            "approved_digest": None,
            "paths": (),
            "queued_at": run.queued_at and NOW,
            "deadline": run.deadline and NOW,
            "wake_at": run.wake_at and NOW if waits else None,
            "next_check": run.next_check and NOW,
            "question_id": run.question_id and "q1" if asks else None,
            "answered": run.answered if asks else False,
            "stop": run.stop and "stopped",
            "family": None,
            "last_attempt_id": run.last_attempt_id and TASK.id,
            "pull": None,
            "pending": run.pending[:1],
        }
    )


@cache
def walk() -> tuple[Taken, ...]:
    """Every step there is of the real ``decide``."""
    return tuple(steps())


def steps(decides: Decide = decide) -> Iterator[Taken]:
    """Take every step there is; fails at the first that breaks a promise."""
    start = Life(erased(a_run(ask=ASKED)))
    seen, todo = {start.key}, deque([start])
    while todo:
        life = todo.popleft()
        for incoming, late in variants(life.run):
            if isinstance(incoming, SlotClaimed) and life.waits > MOST_WAITS:
                continue  # people made more attempts end than the walk follows
            now = LATE if late else NOW - timedelta(seconds=1)
            change = decides(life.run, TASK, incoming, cause=cause_of(incoming), now=now, rules=RULES)
            step = Taken(life, incoming, late, change, _after(life, change))
            check(step)
            yield step
            if step.after.key not in seen and not change.run.terminal:
                seen.add(step.after.key)
                todo.append(step.after)


def cause_of(incoming: Incoming) -> Fact | None:
    return incoming if isinstance(incoming, Fact) else None


def _after(life: Life, change: Change) -> Life:
    run = change.run
    ended = life.run.attempt_id is not None and run.attempt_id is None
    counted = run.failures + run.setbacks > life.run.failures + life.run.setbacks
    for_a_person = ended and not counted and run.state is RunState.PARKED
    return Life(erased(run), life.waits + for_a_person)


# --- the promises ---


def check(step: Taken) -> None:
    """Every promise that one step can break."""
    before, change = step.before.run, step.change
    after = change.run
    if change.ignored:
        assert after is before, "what was ignored changed the run"
        assert not change.says, "what was ignored was answered"
        return
    _steps_are_legal(before, change)
    _counters_go_up(before, after)
    _a_slot_is_held_while_needed(before, after)
    _somebody_will_move_it(after)
    _says_what_it_means(before, change)


def _steps_are_legal(before: Run, change: Change) -> None:
    at = before.state
    for step in change.steps:
        assert step.source is at, "a step begins where the run did not stand"
        assert step.to in NEXT[at], f"no legal step from {at} to {step.to}"
        assert step.code, "a step has no reason"
        assert step.sentence, "a step has no sentence"
        at = step.to
    assert change.run.state is at, "the run moved without a step"
    assert change.run.version == before.version + len(change.steps), "steps are not numbered in order"


def _counters_go_up(before: Run, after: Run) -> None:
    assert after.ask >= before.ask, "questions to policy went back"
    assert after.revision >= before.revision, "revisions went back"
    assert after.attempt - before.attempt in (0, 1), "attempts are not numbered in order"
    assert after.grant is None or after.failures <= after.grant.max_attempts, "more failures than attempts"


def _a_slot_is_held_while_needed(before: Run, after: Run) -> None:
    if after.state in HOLDS_SLOT:
        assert after.attempt_id is not None, "an attempt works without a slot"
        assert after.deadline is not None, "an attempt has no deadline"
    elif after.state is not RunState.CANCELLING:
        assert after.attempt_id is None, "a slot is held for nothing"
    elif before.state in HOLDS_SLOT:
        assert after.attempt_id == before.attempt_id, "a slot was given away before the stop was confirmed"
    if before.attempt_id is None and after.attempt_id is not None:
        assert after.attempt == before.attempt + 1, "a slot was taken without a new attempt"


def _somebody_will_move_it(after: Run) -> None:
    if after.terminal or after.state is RunState.QUEUED:
        assert after.next_check is None
        return
    waits_for_an_answer = after.state is RunState.PARKED and after.question_id is not None and not after.answered
    assert after.next_check is not None or waits_for_an_answer, f"nothing will ever move a run that is {after.state}"


def _says_what_it_means(before: Run, change: Change) -> None:
    after = change.run
    assert len({fact.id for fact in change.says}) == len(change.says), "two facts have one id"
    ended = [fact for fact in change.says if isinstance(fact, RunEnded)]
    assert len(ended) == (after.terminal and not before.terminal), "the end of a run is said exactly once"
    for fact in change.says:
        match fact:
            case PolicyAsked():
                assert fact.ask == after.ask
            case AttemptRequested():
                assert (fact.fence, fact.attempt_id) == (after.attempt, after.attempt_id)
                assert after.state in HOLDS_SLOT, "an attempt was asked for without a slot"
            case AttemptStopAsked():
                assert (fact.fence, fact.attempt_id) == (after.attempt, after.attempt_id)
            case PublishRequested():
                assert (fact.revision, fact.result) == (after.revision, after.result)
                assert after.state in (RunState.VERIFYING, RunState.PUBLISHING)
            case PublishStopAsked():
                assert fact.revision == after.revision
            case _:
                assert fact in ended
