"""How an attempt's end moves its run: on to verification, back to the queue, to a pause, or to its own end. Pure."""

from datetime import timedelta

from dispatch_common.backoff import backoff, spread_of
from dispatch_common.events import AttemptFinished, AttemptOutcome
from dispatch_common.families import TREATMENT, Actor, ErrorFamily
from dispatch_common.lifecycle import HOLDS_SLOT, RunState
from services.dispatcher.draft import Draft
from services.dispatcher.run import Rules

_S = RunState
_NEXT_ACTION = {
    Actor.NOBODY: "Look at: dispatch logs",
    Actor.USER: "Change the task and ask again.",
    Actor.OPERATOR: "An operator must mend the installation; see: dispatch doctor",
    Actor.APPROVER: "An approver must allow more.",
}


def attempt_finished(draft: Draft, fact: AttemptFinished, rules: Rules) -> str:
    """Give the slot back and go where the outcome leads."""
    run = draft.run
    if fact.fence != run.attempt or not run.holds_slot:
        return f"attempt {fact.fence} ended for a run that is {run.state} with attempt {run.attempt}"
    draft.set(attempt_id=None, deadline=None)
    if run.state is _S.CANCELLING:
        draft.move(run.stop_to, f"run.{run.stop_to}", run.stop or fact.sentence)
        return ""
    match fact.outcome:
        case AttemptOutcome.SUCCEEDED if fact.result is not None:
            changes = {"result": fact.result, "revision": run.revision + 1, "family": None, "approved_digest": None}
            draft.move(_S.VERIFYING, "attempt.succeeded", fact.sentence, "The result is checked.", **changes)
            draft.request_publication()
        case AttemptOutcome.STOPPED:
            _stopped(draft, fact, rules)
        case _:
            family = fact.family or ErrorFamily.UNKNOWN
            wait = fact.retry_at - draft.now if fact.retry_at else None
            retry_or_fail(draft, family, fact.sentence, rules, at_least=wait)
    return ""


def lost(draft: Draft, rules: Rules) -> str:
    """End an attempt of which nothing can live any more and of which nobody reported."""
    run = draft.run
    assert run.state in HOLDS_SLOT or run.state is _S.CANCELLING
    draft.set(attempt_id=None, deadline=None)
    if run.state is _S.CANCELLING:
        draft.move(run.stop_to, f"run.{run.stop_to}", f"{run.stop or ''} Its deadline has passed.".strip())
        return ""
    sentence = "No executor reported the attempt's end before its deadline."
    retry_or_fail(draft, ErrorFamily.WORKER_LOST, sentence, rules)
    return ""


def _stopped(draft: Draft, fact: AttemptFinished, rules: Rules) -> None:
    run = draft.run
    if run.question_id is not None and not run.answered:
        action = f"Answer with: dispatch answer {run.id.hex[:8]}"
        draft.move(_S.PARKED, "attempt.waits", "It waits for an answer, without a slot.", action, wake_at=None)
    else:
        retry_or_fail(draft, ErrorFamily.WORKER_LOST, fact.sentence, rules)


def retry_or_fail(
    draft: Draft, family: ErrorFamily, sentence: str, rules: Rules, *, at_least: timedelta | None = None
) -> None:
    """Try again now, try again later, or fail: by the family's treatment and what the grant allows."""
    treatment = TREATMENT[family]
    run = draft.run
    failures = run.failures + (1 if treatment.consumes_attempt else 0)
    setbacks = run.setbacks + (0 if treatment.consumes_attempt else 1)
    draft.set(failures=failures, setbacks=setbacks, family=family)
    allowed = run.grant.max_attempts if run.grant else 1
    if not treatment.retryable or failures >= allowed or setbacks > rules.most_setbacks:
        tries = f" (attempt {failures} of {allowed})" if treatment.retryable else ""
        draft.move(_S.FAILED, f"attempt.{family}", f"{sentence}{tries}", _NEXT_ACTION[treatment.acts])
        return
    tried = max(failures + setbacks - 1, 0)
    pause = backoff(timedelta(seconds=treatment.backoff), tried, spread=spread_of(run.id.int))
    if at_least is not None:
        pause = max(pause, at_least)
    code = f"attempt.{family}"
    if pause <= timedelta(0):
        draft.move(_S.QUEUED, code, sentence, "It is tried again.")
        return
    wake_at = draft.now + pause
    action = f"It is tried again after {max(1, round(pause.total_seconds()))} s."
    draft.move(_S.PARKED, code, sentence, action, wake_at=wake_at)
