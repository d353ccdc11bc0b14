"""Policy's judgement: permission sets and profiles against one question. Pure: no I/O, no clock, no randomness.

Deny wins over escalate, escalate over allow. Every rule that matched and every cut of the grant is among the reasons.
What cannot be judged is never allowed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from dispatch_common import resources_expression as expression
from dispatch_common.resources import Narrowing, PolicyProfile, Rule
from dispatch_common.values import Grant, Judged, Reason, Stage, Trust, Verdict
from services.policy import grant as grants
from services.policy.approval import Approval, ApprovalState, Base, digest_of
from services.policy.question import Policies, Question, candidates, facts
from services.policy.refusals import refusals

DEFAULT_TERM: Final = timedelta(days=1)
#: What speaks where no profile does: members may, outsiders' text wants a person.
DEFAULT_PROFILE: Final = PolicyProfile(default=Verdict.ALLOW, untrusted=grants.UNTRUSTED)
_BY: Final = "PolicyProfile/"
NOTHING: Final = Narrowing()
_STRENGTH: Final = {Verdict.ALLOW: 0, Verdict.ESCALATE: 1, Verdict.DENY: 2}


@dataclass(frozen=True, slots=True)
class Judgement:
    """The answer. ``approval`` is the one it stands on; ``needs_base`` says that a commit must be pinned first."""

    verdict: Verdict
    reasons: tuple[Reason, ...]
    grant: Grant | None = None
    digest: str = ""
    base: Base | None = None
    approvers: tuple[str, ...] = ()
    expires_after: timedelta = DEFAULT_TERM
    approval: Approval | None = None
    needs_base: bool = False


@dataclass(frozen=True, slots=True)
class _Voice:
    """What one rule (or one profile's default) says."""

    verdict: Verdict
    reason: Reason
    by: str
    grant: Narrowing = NOTHING
    approvers: tuple[str, ...] = ()
    expires_after: timedelta = DEFAULT_TERM


def judge(
    question: Question, policies: Policies, approvals: Sequence[Approval], now: datetime, *, base: Base | None = None
) -> Judgement:
    """Answer one question by today's policy. ``approvals`` are its run's; ``base`` is known once pinned."""
    asked = question.judged
    no = refusals(asked.role, asked.agent, asked.repository, asked.source, policies)
    if no:
        return Judgement(Verdict.DENY, no)
    profiles = _profiles(question.judged, policies)
    voices = tuple(_voices(question, profiles, now))
    verdict = max((voice.verdict for voice in voices), key=_STRENGTH.__getitem__)
    grant, cuts = _granted(question.judged, policies, profiles, voices)
    # The reasons that decided come first: people read the beginning.
    ordered = sorted(voices, key=lambda voice: -_STRENGTH[voice.verdict])
    reasons = (*(voice.reason for voice in ordered), *cuts)
    if verdict is Verdict.DENY:
        return Judgement(verdict, reasons)
    if verdict is Verdict.ALLOW:
        return Judgement(verdict, reasons, grant, digest_of(question.judged, question.stage, grant, None))
    asking = [voice for voice in voices if voice.verdict is Verdict.ESCALATE]
    escalation = Judgement(
        verdict,
        reasons,
        grant,
        approvers=_approvers(asking),
        expires_after=min(voice.expires_after for voice in asking),
    )
    return _with_consent(question, policies, escalation, approvals, now, base)


def _profiles(judged: Judged, policies: Policies) -> dict[str, PolicyProfile]:
    """Return the profiles that speak about a question: those its agents name, and those that say so themselves."""
    named = {agent.profile for agent in candidates(judged.role, judged.agent, policies).values()}
    speaking = {
        f"{_BY}{name}": profile
        for name, profile in sorted(policies.profiles.items())
        if name in named or (profile.applies_to is not None and profile.applies_to.includes(judged))
    }
    return speaking or {"the default policy": DEFAULT_PROFILE}


def _voices(question: Question, profiles: Mapping[str, PolicyProfile], now: datetime) -> Iterator[_Voice]:
    seen = facts(question, now)
    for by, profile in profiles.items():
        spoke = False
        for rule in profile.rules:
            voice = _heard(rule, profile, by, seen)
            if voice is not None:
                spoke = True
                yield voice
        if not spoke:
            yield _default(by, profile, question.judged)
    if question.stage is Stage.PUBLISH:
        yield _result_wants_a_person(question.judged)


def _heard(rule: Rule, profile: PolicyProfile, by: str, seen: Mapping[str, Any]) -> _Voice | None:
    """Return what a rule says, None when it does not match. A rule that cannot be evaluated wants a person."""
    compiled = expression.compiled(rule.when)
    answer = compiled if isinstance(compiled, expression.Failed) else compiled.holds(seen)
    approvers = rule.approvers or profile.approvers
    term = timedelta(seconds=rule.expires_after or profile.expires_after)
    if isinstance(answer, expression.Failed):
        reason = Reason(
            code=f"rule.{rule.name}.failed",
            sentence=f"The rule '{rule.name}' of {by} could not be judged: {answer.sentence}.",
            next_action="Mend the rule's expression, or let a person decide.",
        )
        # A rule that would have denied must not become weaker than a person's word by failing; none may become yes.
        return _Voice(Verdict.ESCALATE, reason, by, approvers=approvers, expires_after=term)
    if not answer:
        return None
    reason = Reason(code=f"rule.{rule.name}", sentence=rule.reason, next_action=rule.next_action)
    return _Voice(rule.verdict, reason, f"rule {rule.name} of {by}", rule.grant, approvers, term)


def _default(by: str, profile: PolicyProfile, judged: Judged) -> _Voice:
    term = timedelta(seconds=profile.expires_after)
    if profile is DEFAULT_PROFILE and judged.trust is Trust.OUTSIDER:
        reason = Reason(
            code="default.outsider",
            sentence="The task holds text by somebody who may not start runs.",
            next_action="Read the task and its comments, then approve or deny.",
        )
        return _Voice(Verdict.ESCALATE, reason, by)
    sentence = {
        Verdict.ALLOW: f"No rule of {by} speaks against it.",
        Verdict.ESCALATE: f"No rule of {by} allows it by itself.",
        Verdict.DENY: f"No rule of {by} allows it.",
    }[profile.default]
    action = "" if profile.default is Verdict.ALLOW else f"Approve it, or add a rule to {by} that covers it."
    reason = Reason(code=f"default.{profile.default.value}", sentence=sentence, next_action=action)
    return _Voice(profile.default, reason, by, approvers=profile.approvers, expires_after=term)


def _result_wants_a_person(judged: Judged) -> _Voice:
    shown = ", ".join(judged.paths[:5]) + (f" and {len(judged.paths) - 5} more" if len(judged.paths) > 5 else "")
    reason = Reason(
        code="result.needs-approval",
        sentence=f"The result changes paths that want a person: {shown}." if shown else "The result wants a person.",
        next_action="Look at the result, then approve or deny.",
    )
    return _Voice(Verdict.ESCALATE, reason, "the repository's paths")


def _granted(
    judged: Judged, policies: Policies, profiles: Mapping[str, PolicyProfile], voices: Sequence[_Voice]
) -> tuple[Grant, tuple[Reason, ...]]:
    """Return what the run may use, cut by everything that has a say, with the reason of each cut."""
    grant, reasons = _standing(
        judged.role, judged.agent, judged.repository or "", judged.trust, tuple(profiles), policies
    )
    for voice in voices:
        grant, more = grants.cut(grant, voice.grant, voice.by)
        reasons += more
    return grant, reasons


@lru_cache(maxsize=4096)
def _standing(
    role: str, agent: str | None, repository: str, trust: Trust, profiles: tuple[str, ...], policies: Policies
) -> tuple[Grant, tuple[Reason, ...]]:
    """Return the grant as resources alone leave it, before any rule has its say."""
    agents = candidates(role, agent, policies)
    sets = list(dict.fromkeys(spec.permission_set for spec in agents.values()))
    cuts = [(f"AgentPermissionSet/{name}", grants.as_narrowing(policies.permission_sets[name])) for name in sets[1:]]
    stacks = dict.fromkeys(spec.stack for spec in agents.values() if spec.stack)
    cuts += [(f"AgentStack/{name}", policies.stacks[name].grant) for name in stacks]
    speaking = {by: policies.profiles.get(by.removeprefix(_BY), DEFAULT_PROFILE) for by in profiles}
    cuts += [(by, profile.grant) for by, profile in speaking.items()]
    if trust is Trust.OUTSIDER:
        named = [(f"{by} (untrusted text)", p.untrusted) for by, p in speaking.items() if p.untrusted is not None]
        cuts += named or [("the default policy (untrusted text)", grants.UNTRUSTED)]
    grant = grants.of(policies.permission_sets[sets[0]], repository)
    grant, reasons = grants.for_repository(grant, policies.repositories[repository], f"Repository/{repository}")
    for by, part in cuts:
        grant, more = grants.cut(grant, part, by)
        reasons += more
    return grant, reasons


def _approvers(asking: Sequence[_Voice]) -> tuple[str, ...]:
    """Return who may answer besides holders of the role: those whom every escalating rule with a list names."""
    lists = [voice.approvers for voice in asking if voice.approvers]
    return tuple(name for name in lists[0] if all(name in other for other in lists)) if lists else ()


def _with_consent(
    question: Question,
    policies: Policies,
    escalation: Judgement,
    approvals: Sequence[Approval],
    now: datetime,
    base: Base | None,
) -> Judgement:
    """Return the escalation, or what an approval of exactly this question, grant and base makes of it."""
    repository = policies.repositories[question.judged.repository or ""]
    here = Base(question.judged.repository or "", repository.url, repository.default_branch, "")
    for approval in sorted(approvals, key=lambda each: (each.ask, each.created_at), reverse=True):
        if _is_history(approval, now) or (approval.base and not approval.base.same_place(here)):
            continue
        bound = _bound(question, escalation, approval.base)
        if bound.digest == approval.digest:
            return _by_approval(bound, approval)
    if question.stage is Stage.LAUNCH and (base is None or not base.same_place(here)):
        return replace(escalation, needs_base=True)
    return _bound(question, escalation, base)


def _bound(question: Question, escalation: Judgement, base: Base | None) -> Judgement:
    grant = (escalation.grant or Grant()).model_copy(update={"base_commit": base.commit if base else None})
    return replace(escalation, grant=grant, base=base, digest=digest_of(question.judged, question.stage, grant, base))


def _is_history(approval: Approval, now: datetime) -> bool:
    over = approval.state is ApprovalState.GRANTED and now >= approval.expires_at
    return over or approval.state is ApprovalState.VOID


def _by_approval(bound: Judgement, approval: Approval) -> Judgement:
    who, said = approval.answered_by or "Somebody", f": {approval.comment}" if approval.comment else "."
    match approval.state:
        case ApprovalState.GRANTED:
            reason = Reason(code="approval.granted", sentence=f"{who.removeprefix('principal:')} approved it{said}")
            return replace(bound, verdict=Verdict.ALLOW, reasons=(reason, *bound.reasons), approval=approval)
        case ApprovalState.REFUSED:
            reason = Reason(code="approval.denied", sentence=f"{who.removeprefix('principal:')} refused it{said}")
            return replace(bound, verdict=Verdict.DENY, reasons=(reason, *bound.reasons), grant=None, approval=approval)
        case ApprovalState.EXPIRED:
            reason = Reason(
                code="approval.expired", sentence="Nobody answered in time.", next_action="Ask again with a new run."
            )
            return replace(bound, verdict=Verdict.DENY, reasons=(reason, *bound.reasons), grant=None, approval=approval)
        case ApprovalState.PENDING | ApprovalState.VOID:
            return replace(bound, approval=approval)
