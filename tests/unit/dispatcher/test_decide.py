"""decide(), told in short stories: orders that must not matter, and what was once wrong."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import permutations

import pytest

from dispatch_common import ids
from dispatch_common.events import (
    ApprovalOutcome,
    AttemptOutcome,
    AttemptRequested,
    Fact,
    PolicyAsked,
    PublishOutcome,
    RunEnded,
    Verification,
)
from dispatch_common.families import ErrorFamily
from dispatch_common.lifecycle import RunState
from dispatch_common.values import Stage, Verdict
from services.dispatcher.decide import Incoming, Overdue, TaskMove, TaskMoved, decide
from services.dispatcher.run import Rules, Run
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
    started,
    verified,
)

APPROVAL = ids.derived("approval")
TASK = a_task()


class Story:
    """A run and everything that was said about it."""

    def __init__(self, run: Run | None = None) -> None:
        self.run = run or a_run()
        self.said: list[Fact] = []
        self.follow_up: Run | None = None
        self.now = NOW

    def hears(self, *facts: Incoming) -> "Story":
        for incoming in facts:
            cause = incoming if isinstance(incoming, Fact) else None
            change = decide(self.run, TASK, incoming, cause=cause, now=self.now, rules=Rules())
            self.run = change.run
            self.said += change.says
            self.follow_up = change.follow_up or self.follow_up
        return self

    def after(self, pause: timedelta) -> "Story":
        self.now += pause
        return self

    def told(self, kind: type[Fact]) -> list[Fact]:
        return [fact for fact in self.said if isinstance(fact, kind)]


def at_work() -> Story:
    return Story().hears(policy(Verdict.ALLOW), claimed(1), started())


def awaits_consent_to_its_result() -> Story:
    return at_work().hears(finished(), verified(Verification.NEEDS_APPROVAL))


def awaits_an_answer_without_a_slot() -> Story:
    return (
        at_work().hears(question()).after(timedelta(minutes=11)).hears(Overdue(), finished(1, AttemptOutcome.STOPPED))
    )


# --- orders ---


def ends_of(start: Sequence[Incoming], reports: Iterable[Incoming]) -> set[str]:
    """Return where every order of some reports leads."""
    ends: set[str] = set()
    for order in permutations(reports):
        run = Story().hears(*start, *order).run
        ends.add(run.model_dump_json(exclude={"version", "next_check"}))
    return ends


BEGUN = (policy(Verdict.ALLOW), claimed(1))


@pytest.mark.parametrize(
    "end",
    [
        finished(),
        finished(1, AttemptOutcome.STOPPED),
        finished(1, AttemptOutcome.FAILED, ErrorFamily.UNKNOWN),
        finished(1, AttemptOutcome.FAILED, ErrorFamily.AUTH_FAILED),
        finished(1, AttemptOutcome.FAILED, ErrorFamily.RATE_LIMITED, NOW + timedelta(hours=1)),
    ],
    ids=lambda end: f"{end.outcome}-{end.family}",
)
def test_reports_of_an_attempt_lead_to_the_same_end_in_any_order(end: Incoming) -> None:
    assert len(ends_of(BEGUN, (preparing(), started(), end))) == 1


@pytest.mark.parametrize("outcome", [PublishOutcome.PUBLISHED, PublishOutcome.FAILED, PublishOutcome.STOPPED])
def test_reports_of_a_publication_lead_to_the_same_end_in_any_order(outcome: PublishOutcome) -> None:
    reports = (verified(Verification.ACCEPTED), published(outcome))
    assert len(ends_of((*BEGUN, finished()), reports)) == 1


def test_the_whole_road_ends_the_same_whatever_overtakes_what_within_a_service() -> None:
    for attempt in permutations((preparing(), started(), finished())):
        for publication in permutations((verified(Verification.ACCEPTED), published(PublishOutcome.PUBLISHED))):
            story = Story().hears(*BEGUN, *attempt, *publication)
            assert story.run.state is RunState.COMPLETED
            assert len(story.told(RunEnded)) == 1


def test_an_approval_that_overtakes_the_escalation_is_judged_and_not_believed() -> None:
    story = Story().hears(approval(ApprovalOutcome.GRANTED, APPROVAL), policy(Verdict.ESCALATE, 1, APPROVAL))

    assert story.run.state is RunState.REQUESTED
    assert story.hears(policy(Verdict.ALLOW, story.run.ask)).run.state is RunState.QUEUED


# --- what was once wrong ---


def test_silence_is_answered_for_weeks() -> None:
    story = Story().hears(policy(Verdict.ESCALATE, 1, APPROVAL))

    for _ in range(5_000):
        story.hears(Overdue())

    assert story.run.next_check is not None
    assert timedelta() < story.run.next_check - story.now <= Rules().longest_recheck * 1.25


def test_an_old_approval_does_not_decide_about_the_result() -> None:
    story = awaits_consent_to_its_result()

    story.hears(approval(ApprovalOutcome.REFUSED, ids.derived("the approval of an older version")))

    assert story.run.state is RunState.AWAITING_APPROVAL
    assert story.hears(policy(Verdict.ESCALATE, story.run.ask, APPROVAL, Stage.PUBLISH)).run.approval_id == APPROVAL


def test_what_is_asked_while_the_result_waits_for_consent_is_not_forgotten() -> None:
    story = awaits_consent_to_its_result()

    story.hears(TaskMoved(TaskMove.CHANGED, "It was asked for more.", (an_ask(text="And this."),)))
    story.hears(policy(Verdict.ALLOW, story.run.ask, None, Stage.PUBLISH), published(PublishOutcome.PUBLISHED, 2))

    assert story.run.state is RunState.COMPLETED
    assert story.follow_up is not None
    assert "And this." in story.follow_up.instruction


def test_what_was_asked_while_a_run_is_stopped_is_followed_up_and_can_be_taken_back() -> None:
    asked = TaskMoved(TaskMove.CHANGED, "The label was put on again.", (an_ask("label:agent:coder", ""),))
    back = TaskMoved(TaskMove.UNWANTED, "The label was removed.")

    follows = at_work().hears(back, asked, finished(1, AttemptOutcome.STOPPED))
    taken_back = at_work().hears(back, asked, back, finished(1, AttemptOutcome.STOPPED))

    assert follows.follow_up is not None
    assert follows.follow_up.trigger == "label:agent:coder"
    assert taken_back.follow_up is None


@pytest.mark.parametrize(
    "meanwhile",
    [
        (),
        (TaskMoved(TaskMove.CHANGED, "The task changed."),),
        (TaskMoved(TaskMove.CHANGED, "The task changed."), policy(Verdict.ALLOW, 2)),
    ],
    ids=["parked", "requested", "queued"],
)
def test_an_answer_that_comes_after_the_attempt_reaches_the_next_one(meanwhile: tuple[Incoming, ...]) -> None:
    story = awaits_an_answer_without_a_slot().hears(*meanwhile, answered())

    if story.run.state is RunState.REQUESTED:
        story.hears(policy(Verdict.ALLOW, story.run.ask))
    story.hears(claimed(2))

    request = story.told(AttemptRequested)[-1]
    assert isinstance(request, AttemptRequested)
    assert request.fence == 2
    assert "The first." in request.instruction


def test_an_answer_that_crosses_the_end_of_its_grace_is_not_lost() -> None:
    story = at_work().hears(question()).after(timedelta(minutes=11)).hears(Overdue())

    story.hears(answered(), finished(1, AttemptOutcome.STOPPED))
    story.after(timedelta(hours=1)).hears(Overdue(), claimed(2))

    request = story.told(AttemptRequested)[-1]
    assert isinstance(request, AttemptRequested)
    assert "The first." in request.instruction


# --- small promises ---


def test_a_cancel_while_an_agent_works_holds_the_slot_until_the_stop_is_confirmed() -> None:
    story = at_work().hears(cancel())
    assert (story.run.state, story.run.holds_slot) == (RunState.CANCELLING, True)

    story.hears(finished(1, AttemptOutcome.STOPPED))
    assert (story.run.state, story.run.holds_slot) == (RunState.CANCELLED, False)


def test_a_stop_that_came_after_the_last_effect_says_the_truth() -> None:
    story = at_work().hears(finished(), verified(Verification.ACCEPTED), cancel())

    assert story.hears(published(PublishOutcome.PUBLISHED)).run.state is RunState.COMPLETED


def test_a_question_to_policy_is_repeated_under_a_new_id_with_the_same_number() -> None:
    story = Story().hears(Overdue(), Overdue())

    asked = [fact for fact in story.told(PolicyAsked) if isinstance(fact, PolicyAsked)]
    assert {fact.ask for fact in asked} == {1}
    assert len({fact.id for fact in asked}) == 2


def test_a_deadline_ends_what_nobody_reports_of() -> None:
    story = at_work()
    deadline: datetime | None = story.run.deadline
    assert deadline is not None

    story.now = deadline + Rules().deadline_margin
    story.hears(Overdue())

    assert story.run.family is ErrorFamily.WORKER_LOST
    assert story.run.attempt_id is None
