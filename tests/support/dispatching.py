"""Builders of what the dispatcher decides about: a task, a run in its first state, and every fact it can hear."""

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final
from uuid import UUID

from dispatch_common import ids
from dispatch_common.events import (
    AnswerGiven,
    ApprovalDecided,
    ApprovalOutcome,
    AttemptFinished,
    AttemptOutcome,
    AttemptPreparing,
    AttemptStarted,
    CancelAsked,
    PolicyDecided,
    PublishOutcome,
    QuestionAsked,
    ResultPublished,
    ResultVerified,
    TaskReceived,
    Verification,
)
from dispatch_common.families import ErrorFamily
from dispatch_common.values import (
    Actor,
    AgentSpec,
    Ask,
    Grant,
    Limits,
    Pull,
    Reason,
    RepositorySpec,
    ResultRef,
    Stage,
    TaskSnapshot,
    Verdict,
    WakeReason,
    Wanted,
)
from services.dispatcher.decide import SlotClaimed
from services.dispatcher.run import Run, Task

NOW: Final = datetime(2026, 11, 21, 8, tzinfo=UTC)
ALICE: Final = Actor(id="alice", name="Alice")
BOB: Final = Actor(id="principal:bob", name="Bob")
VEGA: Final = AgentSpec(name="Vega", role="coder", backend="scripted")
SAMPLE: Final = RepositorySpec(name="sample", url="/srv/sample.git")
GRANT: Final = Grant(max_attempts=2, limits=Limits(wall_seconds=600))
RUN_ID: Final = ids.derived("run")
TASK_ID: Final = ids.derived("task")
RESULT: Final = ResultRef(base_commit="a" * 40, commit="b" * 40, files_changed=1)
PULL: Final = Pull(branch="agent/x", commit="b" * 40, url="")


def snapshot(**changes: Any) -> TaskSnapshot:
    """A task as its source shows it."""
    plain: dict[str, Any] = {
        "source": "plane",
        "provider": "plane",
        "object_id": "item-1",
        "key": "DISP-1",
        "title": "Fix it",
        "project": "DISP",
        "repository": "sample",
        "read_at": NOW,
        "digest": "d1",
    }
    return TaskSnapshot(**{**plain, **changes})


def a_task(**changes: Any) -> Task:
    """A task the dispatcher knows."""
    plain: dict[str, Any] = {"id": TASK_ID, "org": "default", "version": 1, "snapshot": snapshot()}
    return Task(**{**plain, **changes})


def a_run(**changes: Any) -> Run:
    """A run in its first state."""
    plain: dict[str, Any] = {
        "id": RUN_ID,
        "org": "default",
        "task_id": TASK_ID,
        "lane": "coder",
        "task_version": 1,
        "trigger": "label:agent:coder",
        "role": "coder",
        "wake_reason": WakeReason.TICKET_ASSIGNMENT,
        "actor": ALICE,
    }
    return Run(**{**plain, **changes})


def an_ask(key: str = "comment:1", text: str = "And this.", role: str = "coder") -> Ask:
    """One demand that happened once."""
    return Ask(key=key, role=role, instruction=text)


def a_label(role: str = "coder", agent: str | None = None) -> Wanted:
    """What a standing label asks for."""
    return Wanted(key=f"label:agent:{role}", role=role, agent=agent)


def received(
    minute: int, *wanted: Wanted, asks: tuple[Ask, ...] = (), may: bool = True, **changes: Any
) -> TaskReceived:
    """A reading of the task, taken some minutes after NOW."""
    changes.setdefault("digest", f"{changes.get('title')}{wanted}{changes.get('closed')}")
    return TaskReceived(
        id=ids.derived("received", minute, wanted, asks),
        time=NOW,
        delivery_ids=(ids.derived("delivery", minute),),
        snapshot=snapshot(read_at=NOW + timedelta(minutes=minute), **changes),
        wanted=wanted,
        asks=asks,
        actor=ALICE,
        may_start=may,
    )


# --- what other services say of the run ---


def said(*parts: object) -> dict[str, Any]:
    """The envelope of a fact about the run."""
    return {"id": ids.derived("said", *parts), "time": NOW, "run_id": RUN_ID}


@cache
def policy(
    verdict: Verdict, ask: int = 1, approval_id: UUID | None = None, stage: Stage = Stage.LAUNCH
) -> PolicyDecided:
    return PolicyDecided(
        **said("policy", verdict, ask),
        ask=ask,
        stage=stage,
        decision_id=ids.derived("decision", ask),
        verdict=verdict,
        reasons=(Reason(code="rule", sentence="So says the rule."),),
        grant=GRANT if verdict is Verdict.ALLOW else None,
        approval_id=approval_id,
    )


@cache
def approval(outcome: ApprovalOutcome, approval_id: UUID) -> ApprovalDecided:
    return ApprovalDecided(
        **said("approval", outcome, approval_id), approval_id=approval_id, outcome=outcome, by=BOB, sentence="So be it."
    )


@cache
def claimed(attempt: int) -> SlotClaimed:
    return SlotClaimed(ids.derived("attempt", RUN_ID, attempt), VEGA, SAMPLE, "Vega takes it.")


def _of(fence: int) -> dict[str, Any]:
    return {"attempt_id": ids.derived("attempt", RUN_ID, fence), "fence": fence}


@cache
def preparing(fence: int = 1) -> AttemptPreparing:
    return AttemptPreparing(**said("preparing", fence), **_of(fence), executor="here")


@cache
def started(fence: int = 1) -> AttemptStarted:
    return AttemptStarted(**said("started", fence), **_of(fence))


@cache
def finished(
    fence: int = 1,
    outcome: AttemptOutcome = AttemptOutcome.SUCCEEDED,
    family: ErrorFamily | None = None,
    retry_at: datetime | None = None,
) -> AttemptFinished:
    result = RESULT if outcome is AttemptOutcome.SUCCEEDED else None
    return AttemptFinished(
        **said("finished", fence, outcome, family),
        **_of(fence),
        outcome=outcome,
        family=family,
        sentence="It ended.",
        result=result,
        retry_at=retry_at,
    )


@cache
def question(fence: int = 1, question_id: str = "q1") -> QuestionAsked:
    return QuestionAsked(
        **said("question", fence, question_id),
        **_of(fence),
        question_id=question_id,
        text="Which one?",
        grace_until=NOW + timedelta(minutes=10),
    )


@cache
def answered(question_id: str = "q1") -> AnswerGiven:
    return AnswerGiven(**said("answer", question_id), question_id=question_id, text="The first.", by=BOB)


@cache
def verified(verification: Verification, revision: int = 1) -> ResultVerified:
    return ResultVerified(
        **said("verified", verification, revision),
        revision=revision,
        verification=verification,
        reasons=(Reason(code="path", sentence="It touches CI."),),
        result_digest="r1",
        paths=(".ci/run",),
    )


@cache
def published(outcome: PublishOutcome, revision: int = 1) -> ResultPublished:
    pull = PULL if outcome is PublishOutcome.PUBLISHED else None
    return ResultPublished(
        **said("published", outcome, revision), revision=revision, outcome=outcome, sentence="Done.", pull=pull
    )


@cache
def cancel() -> CancelAsked:
    return CancelAsked(**said("cancel"), by=BOB)
