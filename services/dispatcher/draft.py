"""A change being written: steps through the lifecycle, facts with derived ids, the next check. Pure."""

from datetime import datetime
from typing import Any, Final

from dispatch_common import ids, lifecycle
from dispatch_common.backoff import spread_of
from dispatch_common.events import (
    AttemptRequested,
    AttemptStopAsked,
    Fact,
    PolicyAsked,
    PublishRequested,
    PublishStopAsked,
    RunEnded,
    RunFact,
)
from dispatch_common.lifecycle import RunState
from dispatch_common.values import Grant, WakeReason
from services.dispatcher.run import Change, Rules, Run, Step, Task

_S = RunState
_MOST_DOUBLINGS: Final = 16


class Draft:
    """Collects what one fact changes. Every id it makes is derived, so the same fact always says the same."""

    def __init__(self, run: Run, task: Task, cause: Fact | None, *, now: datetime, rules: Rules) -> None:
        self.run = run
        self.task = task
        self.now = now
        self._before = run
        self._cause = cause
        self._rules = rules
        self._steps: list[Step] = []
        self._says: list[Fact] = []

    def set(self, **changes: Any) -> None:
        """Change fields without a step."""
        self.run = self.run.but(**changes)

    def move(self, to: RunState, code: str, sentence: str, next_action: str = "", **changes: Any) -> None:
        """Take one legal step and say why."""
        source = self.run.state
        lifecycle.step(source, to)
        cause = self._cause.id if self._cause else None
        self._steps.append(Step(source, to, code, sentence, next_action, cause))
        self.set(state=to, version=self.run.version + 1, checks=0, **changes)

    def ask_policy(self, *, again: bool = False) -> None:
        """Ask policy: a new question, or (``again``) the same one once more."""
        if not again:
            self.set(ask=self.run.ask + 1)
        run = self.run
        self.say(PolicyAsked, "policy-asked", run.ask, ask=run.ask, stage=run.stage, judged=run.judged(self.task))

    def request_attempt(self) -> None:
        run = self.run
        assert run.agent is not None
        assert run.grant is not None
        self.say(
            AttemptRequested,
            "attempt-requested",
            run.attempt,
            attempt_id=run.attempt_id,
            fence=run.attempt,
            task_id=run.task_id,
            task_version=run.task_version,
            snapshot=self.task.snapshot,
            instruction=run.instruction,
            wake_reason=run.wake_reason,
            actor=run.actor,
            agent=run.agent,
            repository=run.repository,
            grant=run.grant,
            deadline=run.deadline,
        )

    def stop_attempt(self) -> None:
        run = self.run
        self.say(
            AttemptStopAsked,
            "attempt-stop-asked",
            run.attempt,
            attempt_id=run.attempt_id,
            fence=run.attempt,
            sentence=run.stop or "The grace period for an answer is over.",
        )

    def request_publication(self) -> None:
        run = self.run
        assert run.agent is not None
        assert run.result is not None
        self.say(
            PublishRequested,
            "publish-requested",
            run.revision,
            task_id=run.task_id,
            revision=run.revision,
            attempt_id=run.last_attempt_id,
            fence=run.attempt,
            snapshot=self.task.snapshot,
            agent=run.agent,
            repository=run.repository,
            grant=run.grant or Grant(),
            result=run.result,
            approved_digest=run.approved_digest,
        )

    def stop_publication(self) -> None:
        run = self.run
        self.say(
            PublishStopAsked,
            "publish-stop-asked",
            run.revision,
            revision=run.revision,
            sentence=run.stop or "The run was stopped.",
        )

    def say(self, cls: type[RunFact], *key: object, **fields: Any) -> None:
        """Say a fact about this run. Asked again after silence, it gets an id of its own."""
        identity = ids.derived(self.run.id, *key, self.run.version, self.run.checks)
        cause = self._cause
        self._says.append(
            cls(
                id=identity,
                org=self.run.org,
                time=self.now,
                cause=cause.id if cause else None,
                traceparent=(cause.traceparent if cause else None) or self.run.traceparent,
                run_id=self.run.id,
                **fields,
            )
        )

    def done(self) -> Change:
        """Return the finished change; a terminal run says so and gives way to its follow-up."""
        follow_up = None
        if self.run.terminal and not self._before.terminal:
            last = self._steps[-1]
            self.say(
                RunEnded,
                "run-ended",
                task_id=self.run.task_id,
                state=self.run.state,
                family=self.run.family,
                sentence=last.sentence,
                next_action=last.next_action,
                snapshot=self.task.snapshot,
                agent=self.run.agent.name if self.run.agent else None,
                attempts=self.run.attempt,
            )
            follow_up = _follow_up(self.run, self.task)
        self.set(next_check=self._next_check())
        return Change(self.run, tuple(self._steps), tuple(self._says), follow_up=follow_up)

    def _next_check(self) -> datetime | None:
        run = self.run
        if run.terminal or run.state is _S.QUEUED:
            return None
        if run.state is _S.PARKED:
            return run.wake_at
        if run.state is _S.AWAITING_ANSWER and run.wake_at is not None and run.wake_at > self.now:
            return run.wake_at
        # Bounded before it is computed: weeks of silence are more doublings than a timedelta can hold.
        pause = min(self._rules.recheck * 2 ** min(run.checks, _MOST_DOUBLINGS), self._rules.longest_recheck)
        return self.now + pause * (1 + 0.25 * spread_of(run.id.int))


def ignored(run: Run, why: str) -> Change:
    """Return the change that changes nothing, and why."""
    return Change(run, ignored=why)


def _follow_up(run: Run, task: Task) -> Run | None:
    """Return the run for the asks that came while this one was at work, or None. A stopped task gets none."""
    if not run.pending or task.snapshot.closed:
        return None
    first = run.pending[0]
    return Run(
        id=ids.derived(run.id, "follow-up"),
        org=run.org,
        task_id=run.task_id,
        lane=run.lane,
        task_version=task.version,
        trigger=first.key,
        role=run.role,
        wanted_agent=first.agent or run.wanted_agent,
        instruction="\n\n".join(ask.instruction for ask in run.pending),
        wake_reason=WakeReason.FOLLOW_UP,
        actor=run.actor,
        parent=run.id,
    )


def opened(run: Run, task: Task, cause: Fact, sentence: str, *, now: datetime, rules: Rules) -> Change:
    """Return the change that brings a new run into being and asks policy for the first time."""
    draft = Draft(run.but(traceparent=cause.traceparent), task, cause, now=now, rules=rules)
    draft.ask_policy(again=True)
    change = draft.done()
    first = Step(None, RunState.REQUESTED, "run.requested", sentence, "Policy decides.", cause.id)
    return Change(change.run, (first, *change.steps), change.says)
