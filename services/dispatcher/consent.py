"""How policy's answers and people's approvals move a run. Pure."""

from dispatch_common.events import ApprovalDecided, ApprovalOutcome, PolicyDecided
from dispatch_common.families import ErrorFamily
from dispatch_common.lifecycle import RunState
from dispatch_common.values import Stage, Verdict
from services.dispatcher.draft import Draft

_S = RunState


def policy_decided(draft: Draft, fact: PolicyDecided) -> str:
    """Take policy's answer to the open question; an older one is nobody's answer any more."""
    run = draft.run
    if run.state not in (_S.REQUESTED, _S.AWAITING_APPROVAL):
        return f"policy answered a run that is {run.state}"
    if fact.ask != run.ask:
        return f"policy answered question {fact.ask}; question {run.ask} is open"
    sentence = " ".join(reason.sentence for reason in fact.reasons)
    match fact.verdict:
        case Verdict.DENY:
            action = next((reason.next_action for reason in fact.reasons if reason.next_action), "Change the policy.")
            draft.move(_S.DENIED, "policy.denied", sentence, action, family=_family(fact))
        case Verdict.ESCALATE if run.state is _S.AWAITING_APPROVAL:
            draft.set(approval_id=fact.approval_id)
        case Verdict.ESCALATE:
            action = f"An approver runs: dispatch approve {run.id.hex[:8]}"
            draft.move(_S.AWAITING_APPROVAL, "policy.escalated", sentence, action, approval_id=fact.approval_id)
        case Verdict.ALLOW:
            _allowed(draft, fact, sentence)
    return ""


def _family(fact: PolicyDecided) -> ErrorFamily:
    codes = {reason.code for reason in fact.reasons}
    for family in (ErrorFamily.APPROVAL_DENIED, ErrorFamily.APPROVAL_EXPIRED):
        if any(code.startswith(family.value.replace("_", ".")) for code in codes):
            return family
    return ErrorFamily.POLICY_DENIED


def _allowed(draft: Draft, fact: PolicyDecided, sentence: str) -> None:
    if draft.run.state is _S.AWAITING_APPROVAL:
        draft.move(_S.REQUESTED, "policy.judged-again", "Policy judged it again.")
    if draft.run.stage is Stage.PUBLISH:
        changes = {"revision": draft.run.revision + 1, "approved_digest": draft.run.result_digest, "approval_id": None}
        draft.move(_S.PUBLISHING, "policy.allowed", sentence, "The result is published.", **changes)
        draft.request_publication()
        return
    changes = {"grant": fact.grant, "approval_id": None, "queued_at": draft.run.queued_at or draft.now}
    draft.move(_S.QUEUED, "policy.allowed", sentence, "It starts as soon as an agent has a free slot.", **changes)


def approval_decided(draft: Draft, fact: ApprovalDecided) -> str:
    """Take a person's word: a consent is judged again, anything else ends the run."""
    run = draft.run
    if run.state not in (_S.REQUESTED, _S.AWAITING_APPROVAL):
        return f"an approval was decided for a run that is {run.state}"
    if run.state is _S.REQUESTED or run.approval_id is None:
        # It overtook policy's own answer, or belongs to an older question: policy is asked again rather than believed.
        draft.ask_policy()
        return ""
    if run.approval_id != fact.approval_id:
        return "an approval was decided that this run does not wait for any more"
    match fact.outcome:
        case ApprovalOutcome.GRANTED:
            draft.move(_S.REQUESTED, "approval.granted", fact.sentence, "Policy judges it again.", approval_id=None)
            draft.ask_policy()
        case ApprovalOutcome.REFUSED:
            family = ErrorFamily.APPROVAL_DENIED
            draft.move(_S.DENIED, "approval.refused", fact.sentence, "Ask for something else.", family=family)
        case ApprovalOutcome.EXPIRED:
            family = ErrorFamily.APPROVAL_EXPIRED
            action = "Ask again; nobody answered in time."
            draft.move(_S.DENIED, "approval.expired", fact.sentence, action, family=family)
    return ""
