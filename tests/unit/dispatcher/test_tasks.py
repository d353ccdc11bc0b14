"""receive(), walked: every order of readings of one task, whatever its run is doing meanwhile, forgets no demand."""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import pytest

from dispatch_common.events import AttemptOutcome, DeliveryOutcome, PublishOutcome, TaskReceived
from dispatch_common.lifecycle import FOLLOWS_TASK, TERMINAL, RunState
from dispatch_common.values import Ask, Wanted
from services.dispatcher.decide import TaskMove, decide
from services.dispatcher.draft import opened
from services.dispatcher.run import Rules, Run, Task
from services.dispatcher.tasks import Received, receive
from tests.support.dispatching import (
    GRANT,
    NOW,
    RESULT,
    SAMPLE,
    TASK_ID,
    VEGA,
    a_label,
    a_run,
    a_task,
    an_ask,
    finished,
    published,
    received,
    snapshot,
)

CODER, DOCS = a_label("coder"), a_label("docs")
LIVE = [state for state in RunState if state not in TERMINAL]


def in_state(state: RunState, **changes: object) -> Run:
    """The task's run, standing in some state."""
    works = state in (RunState.ASSIGNED, RunState.PREPARING, RunState.RUNNING, RunState.AWAITING_ANSWER)
    begun = works or state in (RunState.VERIFYING, RunState.PUBLISHING, RunState.CANCELLING)
    holds = works or state is RunState.CANCELLING
    return a_run(
        state=state,
        grant=GRANT,
        agent=VEGA,
        repository=SAMPLE,
        attempt=1 if begun else 0,
        attempt_id=TASK_ID if holds else None,
        deadline=NOW if holds else None,
        stop="stopped" if state is RunState.CANCELLING else None,
        result=RESULT if begun and not holds else None,
        revision=1 if begun and not holds else 0,
        **changes,
    )


class Desk(NamedTuple):
    """The dispatcher at one task: what it knows, and what has become of its runs."""

    task: Task | None
    runs: tuple[Run, ...] = ()

    def live(self) -> dict[str, Run]:
        return {run.lane: run for run in self.runs if not run.terminal}

    def hears(self, fact: TaskReceived) -> tuple["Desk", Received]:
        result = receive(self.task, self.live(), fact)
        runs = {run.id: run for run in self.runs}
        assert result.task is not None or not runs
        for run, moved in result.moves:
            assert result.task is not None
            change = decide(runs[run.id], result.task, moved, cause=fact, now=NOW, rules=Rules())
            runs[run.id] = change.run
            if change.follow_up is not None:
                runs[change.follow_up.id] = change.follow_up
        for run, _ in result.new_runs:
            runs[run.id] = run
        desk = Desk(result.task, tuple(runs.values()))
        assert len([run for run in desk.runs if not run.terminal]) == len(desk.live()), "two live runs in a lane"
        return desk, result

    def ends(self) -> "Desk":
        """Let everything that is being stopped or is at work come to its end."""
        assert self.task is not None
        runs: list[Run] = []
        for run in self.runs:
            end = finished(run.attempt, AttemptOutcome.STOPPED) if run.holds_slot else published(PublishOutcome.STOPPED)
            change = decide(run, self.task, end, cause=end, now=NOW, rules=Rules())
            runs += [change.run, *([change.follow_up] if change.follow_up else [])]
        return Desk(self.task, tuple(runs))


def desk(state: RunState, **changes: object) -> Desk:
    return Desk(a_task(wanted=(CODER.key,)), (in_state(state, **changes),))


def of_lane(desk: Desk, lane: str = "coder") -> list[Run]:
    return [run for run in desk.runs if run.lane == lane and not run.terminal]


# --- new demands ---


def test_a_label_makes_a_run_once() -> None:
    first, created = Desk(None).hears(received(1, CODER))
    _, again = first.hears(received(2, CODER))

    assert created.outcome is DeliveryOutcome.CREATED
    assert again.outcome is DeliveryOutcome.IGNORED
    assert [run.trigger for run in first.runs] == ["label:agent:coder"]


def test_a_label_that_is_put_on_again_later_makes_another_run() -> None:
    off, _ = Desk(a_task(wanted=(CODER.key,)), (a_run(state=RunState.COMPLETED),)).hears(received(1))
    on, _ = off.hears(received(2, CODER))

    assert len(of_lane(on)) == 1


def test_two_roles_are_two_lanes() -> None:
    both, _ = Desk(None).hears(received(1, CODER, DOCS))

    assert {run.lane for run in both.runs} == {"coder", "docs"}


def test_an_ask_is_obeyed_once_even_when_it_is_read_again() -> None:
    first, _ = Desk(a_task()).hears(received(1, asks=(an_ask(),)))
    again, _ = first.hears(received(2, asks=(an_ask(),)))

    assert len(again.runs) == 1


def test_a_new_ask_in_an_older_reading_counts_and_the_rest_of_it_does_not() -> None:
    newer, _ = Desk(None).hears(received(5, CODER, title="new"))
    older, _ = newer.hears(received(1, asks=(an_ask(role="docs"),), title="old"))

    assert older.task is not None
    assert older.task.snapshot.title == "new"
    assert {run.lane for run in older.runs} == {"coder", "docs"}


def test_who_may_not_start_is_refused_and_changes_still_count() -> None:
    after, result = desk(RunState.QUEUED).hears(received(1, CODER, DOCS, may=False, title="changed"))

    assert result.outcome is DeliveryOutcome.REFUSED
    assert [run.state for run in after.runs] == [RunState.REQUESTED]


def test_what_asks_for_nothing_is_not_kept() -> None:
    _, result = Desk(None).hears(received(1))

    assert (result.task, result.outcome) == (None, DeliveryOutcome.IGNORED)


# --- while a run lives ---


@pytest.mark.parametrize("state", LIVE)
def test_a_closed_task_stops_its_run_in_every_state(state: RunState) -> None:
    closed, _ = desk(state).hears(received(1, CODER, closed=True))

    assert of_lane(closed.ends()) == []


@pytest.mark.parametrize("state", LIVE)
def test_a_label_that_is_removed_and_put_on_again_gets_its_run_in_every_state(state: RunState) -> None:
    off, _ = desk(state).hears(received(1))
    on, _ = off.hears(received(2, CODER))

    assert [run.trigger for run in of_lane(on.ends())] == [CODER.key]


@pytest.mark.parametrize("state", LIVE)
def test_a_label_that_is_removed_in_the_end_leaves_nothing(state: RunState) -> None:
    there = desk(state)
    for minute, wanted in enumerate([(), (CODER,), ()]):
        there, _ = there.hears(received(minute + 1, *wanted))

    assert of_lane(there.ends()) == []


@pytest.mark.parametrize("state", LIVE)
def test_a_label_that_is_removed_takes_no_ask_with_it_that_came_later(state: RunState) -> None:
    ask = an_ask(text="Only this.")
    for readings in ([received(1, asks=(ask,))], [received(1), received(2, asks=(ask,))]):
        there = desk(state)
        for reading in readings:
            there, _ = there.hears(reading)
        assert [run.instruction for run in of_lane(there.ends())] == ["Only this."]


# --- every order of readings ---

ASKS: tuple[tuple[Ask, ...], ...] = ((), (an_ask("comment:1", "One."),), (an_ask("comment:2", "Two."),))
LABELS: tuple[tuple[Wanted, ...], ...] = ((), (CODER,))


def histories(length: int) -> Iterator[tuple[TaskReceived, ...]]:
    for reading in product(product(LABELS, ASKS), repeat=length):
        yield tuple(received(minute + 1, *wanted, asks=asks) for minute, (wanted, asks) in enumerate(reading))


@pytest.mark.parametrize("state", LIVE)
def test_no_order_of_readings_forgets_an_ask_or_leaves_an_unwanted_run(state: RunState) -> None:
    for history in histories(3):
        there, accepted, seen, labelled = desk(state), set[str](), set[str](), True
        for fact in history:
            there, _ = there.hears(fact)
            if labelled and not fact.wanted:
                accepted.clear()  # the label takes with it what had joined its run before
            labelled = bool(fact.wanted)
            accepted |= {ask.instruction for ask in fact.asks if ask.key not in seen}
            seen |= {ask.key for ask in fact.asks}
            carried = [run.instruction for run in there.runs]
            carried += [ask.instruction for run in there.runs for ask in run.pending]
            assert all(any(text in each for each in carried) for text in accepted), history
        live = of_lane(there.ends())
        assert not [run for run in live if run.trigger == CODER.key and not labelled]


def test_a_run_that_has_not_begun_follows_the_task() -> None:
    for state in FOLLOWS_TASK:
        after, result = desk(state).hears(received(1, CODER, title="changed"))

        assert [moved.move for _, moved in result.moves] == [TaskMove.CHANGED]
        assert [(run.state, run.task_version) for run in after.runs] == [(RunState.REQUESTED, 2)]


def test_a_new_run_asks_policy() -> None:
    first, result = Desk(None).hears(received(1, CODER))
    (run, sentence), task = result.new_runs[0], first.task
    assert task is not None

    change = opened(run, task, received(1, CODER), sentence, now=NOW, rules=Rules())

    assert [step.to for step in change.steps] == [RunState.REQUESTED]
    assert len(change.says) == 1
    assert snapshot().key in sentence
