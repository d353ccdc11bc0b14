"""What follows from a judgement: the fact that is said, the approvals that begin or end with it. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from dispatch_common import ids
from dispatch_common.events import ApprovalDecided, PolicyAsked, PolicyDecided
from dispatch_common.values import Actor, Reason, Verdict
from services.policy.approval import Answered, Approval, Base, void
from services.policy.question import Policies, Question
from services.policy.rules import Judgement, judge

#: How often the base commit of an escalation is looked for before the run is denied.
BASE_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Consequence:
    """The answer to one ask, and the approvals as they are now. ``decided`` is None while a base commit is wanted."""

    asked: PolicyAsked
    decided: PolicyDecided | None
    approvals: tuple[Approval, ...]
    changed: tuple[Approval, ...] = ()


def reply(
    asked: PolicyAsked,
    policies: Policies,
    approvals: Sequence[Approval],
    now: datetime,
    *,
    base: Base | None = None,
) -> Consequence:
    """Judge one ask and say what follows. At most one approval per stage stays alive: the one the answer stands on."""
    judgement = judge(Question(asked.judged, asked.stage), policies, approvals, now, base=base)
    if judgement.needs_base:
        return Consequence(asked, None, tuple(approvals))
    standing = judgement.approval
    if judgement.verdict is Verdict.ESCALATE:
        standing = _opened(asked, judgement, now) if standing is None else replace(standing, ask=asked.ask)
    others = [each for each in approvals if standing is None or each.id != standing.id]
    kept = [void(each) if each.stage is asked.stage else each for each in others]
    after = (*kept, *([standing] if standing else []))
    changed = tuple(each for each in after if each not in approvals)
    return Consequence(asked, _decided(asked, judgement, standing, now), after, changed)


def without_base(asked: PolicyAsked, why: str, approvals: Sequence[Approval], now: datetime) -> Consequence:
    """Deny a run that needs a person's consent to a commit nobody could name."""
    name = asked.judged.repository
    reason = Reason(
        code="base.unknown",
        sentence=f"It wants a person's approval of a commit, and repository '{name}' could not be read: {why}.",
        next_action=f"Check 'url' and 'defaultBranch' of Repository '{name}', then start it again.",
    )
    judgement = Judgement(Verdict.DENY, (reason,))
    after = tuple(void(each) if each.stage is asked.stage else each for each in approvals)
    changed = tuple(each for each in after if each not in approvals)
    return Consequence(asked, _decided(asked, judgement, None, now), after, changed)


def said_again(decided: PolicyDecided, asked: PolicyAsked, now: datetime) -> PolicyDecided:
    """Return a stored answer as a new fact, for somebody who asks the same again."""
    again = ids.derived("policy-decided", asked.run_id, asked.ask, asked.id)
    return decided.model_copy(update={"id": again, "time": now, "cause": asked.id, "traceparent": asked.traceparent})


def approval_decided(
    ended: Answered, org: str, now: datetime, *, by: Actor | None = None, cause: PolicyAsked | None = None
) -> ApprovalDecided | None:
    """Return the fact that an approval has ended; None when the answer did not count."""
    if ended.outcome is None:
        return None
    return ApprovalDecided(
        id=ids.derived("approval-decided", ended.approval.id),
        org=org,
        time=now,
        cause=cause.id if cause else None,
        run_id=ended.approval.run_id,
        approval_id=ended.approval.id,
        outcome=ended.outcome,
        by=by,
        sentence=ended.sentence,
    )


def newest(asks: Iterable[int]) -> int:
    """Return the newest of a run's asks, 0 when there was none."""
    return max(asks, default=0)


def _opened(asked: PolicyAsked, judgement: Judgement, now: datetime) -> Approval:
    assert judgement.grant is not None
    return Approval(
        id=ids.derived("approval", asked.run_id, asked.ask),
        run_id=asked.run_id,
        ask=asked.ask,
        stage=asked.stage,
        digest=judgement.digest,
        grant=judgement.grant,
        base=judgement.base,
        requester=asked.judged.actor,
        reasons=judgement.reasons,
        approvers=judgement.approvers,
        created_at=now,
        expires_at=now + judgement.expires_after,
    )


def _decided(asked: PolicyAsked, judgement: Judgement, standing: Approval | None, now: datetime) -> PolicyDecided:
    waits = standing if judgement.verdict is Verdict.ESCALATE else None
    return PolicyDecided(
        id=ids.derived("policy-decided", asked.run_id, asked.ask),
        org=asked.org,
        time=now,
        cause=asked.id,
        traceparent=asked.traceparent,
        run_id=asked.run_id,
        ask=asked.ask,
        stage=asked.stage,
        decision_id=ids.derived("decision", asked.run_id, asked.ask),
        verdict=judgement.verdict,
        reasons=judgement.reasons,
        grant=judgement.grant if judgement.verdict is Verdict.ALLOW else None,
        digest=judgement.digest,
        approval_id=standing.id if standing else None,
        expires_at=waits.expires_at if waits else None,
    )
