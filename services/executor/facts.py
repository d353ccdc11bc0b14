"""The facts about an attempt, built from its values. PURE.

Their ids are derived from what led to them, so a fact that is worked out twice is the same fact, and one that is asked
for again is a new one.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from dispatch_common import ids
from dispatch_common.events import (
    AttemptFact,
    AttemptFinished,
    AttemptOutcome,
    AttemptPreparing,
    AttemptStarted,
    Fact,
    QuestionAsked,
)
from services.executor.attempt import Answer, Attempt, Say


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a fact comes from. ``cause``: the fact that asked for it; None when the attempt itself brought it about."""

    org: str
    now: datetime
    cause: UUID | None = None
    traceparent: str | None = None


def about(attempt: Attempt, says: tuple[Say, ...], origin: Origin) -> list[Fact]:
    """Return the facts to say, in order."""
    return [_fact(attempt, say, origin) for say in says]


def _fact(attempt: Attempt, say: Say, origin: Origin) -> AttemptFact:
    head: dict[str, Any] = {
        "org": origin.org,
        "time": origin.now,
        "cause": origin.cause,
        "traceparent": origin.traceparent,
        "run_id": attempt.run_id,
        "attempt_id": attempt.id,
        "fence": attempt.fence,
    }
    match say:
        case Say.PREPARING:
            return AttemptPreparing(**head, id=_id(attempt, say, origin), executor=attempt.executor)
        case Say.STARTED:
            return AttemptStarted(**head, id=_id(attempt, say, origin), base_commit=attempt.base_commit)
        case Say.QUESTION:
            question = attempt.question
            assert question is not None, "a question is said that was not asked"
            return QuestionAsked(
                **head,
                id=_id(attempt, say, origin, question.id),
                question_id=question.id,
                text=question.text,
                grace_until=question.grace_until,
            )
        case Say.FINISHED:
            answer = attempt.answer or Answer(AttemptOutcome.FAILED, "It ended without an answer.")
            return AttemptFinished(
                **head,
                id=_id(attempt, say, origin),
                outcome=answer.outcome,
                family=answer.family,
                sentence=answer.sentence,
                next_action=answer.next_action,
                result=answer.result,
                usage=answer.usage,
                retry_at=answer.retry_at,
            )


def _id(attempt: Attempt, say: Say, origin: Origin, *more: str) -> UUID:
    return ids.derived("attempt", say, attempt.id, *more, origin.cause or "")
