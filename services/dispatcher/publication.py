"""How the publisher's reports move a run. Pure."""

from dispatch_common.events import PublishOutcome, ResultPublished, ResultVerified, Verification
from dispatch_common.families import ErrorFamily
from dispatch_common.lifecycle import IN_PUBLISHER, RunState
from dispatch_common.values import Stage
from services.dispatcher import ending
from services.dispatcher.draft import Draft
from services.dispatcher.run import Rules

_S = RunState


def result_verified(draft: Draft, fact: ResultVerified, rules: Rules) -> str:
    """Take what the checks say: go on, ask a person, or try again."""
    run = draft.run
    if fact.revision != run.revision or run.state not in IN_PUBLISHER:
        return f"revision {fact.revision} was verified for a run that is {run.state} with revision {run.revision}"
    reasons = " ".join(reason.sentence for reason in fact.reasons)
    match fact.verification:
        case Verification.ACCEPTED if run.state is _S.VERIFYING:
            draft.move(_S.PUBLISHING, "result.accepted", reasons or "The result passed every check.")
        case Verification.ACCEPTED:
            return "its publication is already under way"
        case Verification.NEEDS_APPROVAL:
            if run.state is _S.VERIFYING:
                draft.move(_S.PUBLISHING, "result.accepted", "The result passed every check but the path rules.")
            draft.set(stage=Stage.PUBLISH, result_digest=fact.result_digest, paths=fact.paths, approval_id=None)
            action = f"An approver runs: dispatch approve {run.id.hex[:8]}"
            draft.move(_S.AWAITING_APPROVAL, "result.needs-approval", reasons, action)
            draft.ask_policy()
        case Verification.REFUSED if run.state is _S.VERIFYING:
            ending.retry_or_fail(draft, ErrorFamily.VERIFICATION_FAILED, reasons, rules)
        case Verification.REFUSED:
            family = ErrorFamily.VERIFICATION_FAILED
            draft.move(_S.FAILED, "result.refused", reasons, "Look at the reasons and ask again.", family=family)
    return ""


def result_published(draft: Draft, fact: ResultPublished) -> str:
    """Take the end of a publication: nothing of it is in flight any more."""
    run = draft.run
    if fact.revision != run.revision or run.state not in (*IN_PUBLISHER, _S.CANCELLING) or run.attempt_id is not None:
        return f"revision {fact.revision} was published for a run that is {run.state} with revision {run.revision}"
    done = fact.outcome in (PublishOutcome.PUBLISHED, PublishOutcome.NOTHING)
    if run.state is _S.CANCELLING:
        if fact.outcome is PublishOutcome.PUBLISHED:
            sentence = f"It was published before the stop could reach it. {fact.sentence}"
            draft.move(_S.COMPLETED, "result.published", sentence, pull=fact.pull, family=None)
        else:
            draft.move(run.stop_to, f"run.{run.stop_to}", f"{run.stop or ''} {fact.sentence}".strip())
        return ""
    if fact.outcome is PublishOutcome.STOPPED:
        draft.move(_S.CANCELLING, "result.stopped", fact.sentence, family=ErrorFamily.CANCELLED)
        draft.move(_S.CANCELLED, "run.cancelled", fact.sentence)
        return ""
    if run.state is _S.VERIFYING and done:
        draft.move(_S.PUBLISHING, "result.accepted", "The result passed every check.")
    if done:
        draft.move(_S.COMPLETED, f"result.{fact.outcome}", fact.sentence, pull=fact.pull)
    else:
        family = fact.family or ErrorFamily.PUBLISH_FAILED
        draft.move(_S.FAILED, f"result.{family}", fact.sentence, "Mend the cause and ask again.", family=family)
    return ""
