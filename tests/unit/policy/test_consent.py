"""judge() with approvals: consent counts for exactly what was judged, and nothing else."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dispatch_common.resources import Resource
from dispatch_common.values import Grant, Stage, Trust, Verdict
from services.policy.approval import Answer, ApprovalState, Base, answer, digest_of, void
from services.policy.question import Policies, Question
from services.policy.rules import Judgement, judge
from tests.support.policies import BASE, BOB, NOW, approval, policies, question, resource


def asked(q: Question, p: Policies | None = None, *approvals: Any, base: Base | None = None) -> Judgement:
    return judge(q, p or policies(), approvals, NOW, base=base)


def codes(judgement: Judgement) -> list[str]:
    return [reason.code for reason in judgement.reasons]


def profile(name: str = "extra", **spec: Any) -> Resource:
    return resource("PolicyProfile", name, **{"appliesTo": {}, "default": "allow", **spec})


def rule(when: str, verdict: str, name: str = "r", **more: Any) -> dict[str, Any]:
    return {"name": name, "when": when, "verdict": verdict, "reason": f"because {name}", **more}


class TestApprovals:
    escalating = question(trust=Trust.OUTSIDER)

    def fresh(self) -> Judgement:
        return asked(self.escalating, base=BASE)

    def granted(self, **changes: Any) -> Any:
        fresh = self.fresh()
        pending = approval(digest=fresh.digest, grant=fresh.grant)
        ended = answer(pending, Answer(BOB, True, roles=frozenset({"approver"})), NOW, NOW - timedelta(days=1))
        return replace(ended.approval, **changes)

    def test_an_escalation_first_wants_the_base_commit(self) -> None:
        judgement = asked(self.escalating)

        assert judgement.needs_base
        assert judgement.digest == ""

    def test_a_pinned_escalation_carries_the_commit(self) -> None:
        fresh = self.fresh()

        assert fresh.grant is not None
        assert (fresh.verdict, fresh.needs_base, fresh.grant.base_commit) == (Verdict.ESCALATE, False, BASE.commit)

    def test_the_same_question_is_allowed_once_it_was_approved(self) -> None:
        judgement = asked(self.escalating, None, self.granted())

        assert judgement.verdict is Verdict.ALLOW
        assert judgement.grant is not None
        assert judgement.grant.base_commit == BASE.commit
        assert judgement.reasons[0].sentence == "bob approved it."

    def test_a_pending_approval_is_waited_for_and_not_asked_for_twice(self) -> None:
        pending = approval(digest=self.fresh().digest)

        judgement = asked(self.escalating, None, pending)

        assert judgement.verdict is Verdict.ESCALATE
        assert judgement.approval == pending

    @pytest.mark.parametrize(
        ("state", "code"),
        [(ApprovalState.REFUSED, "approval.denied"), (ApprovalState.EXPIRED, "approval.expired")],
    )
    def test_an_approval_that_ended_without_consent_denies(self, state: ApprovalState, code: str) -> None:
        judgement = asked(self.escalating, None, self.granted(state=state))

        assert judgement.verdict is Verdict.DENY
        assert codes(judgement)[0] == code
        assert judgement.grant is None

    @pytest.mark.parametrize(
        "changes",
        [
            {"task_version": 2},
            {"labels": ("agent:coder", "more")},
            {"title": "Something else"},
            {"agent": "vega"},
            {"instruction": "and delete it"},
            {"actor": BOB},
        ],
    )
    def test_a_changed_question_is_asked_afresh(self, changes: dict[str, Any]) -> None:
        judgement = asked(question(trust=Trust.OUTSIDER, **changes), None, self.granted())

        assert (judgement.verdict, judgement.needs_base, judgement.approval) == (Verdict.ESCALATE, True, None)

    def test_a_changed_grant_is_asked_afresh(self) -> None:
        today = policies(resource("AgentPermissionSet", "build", hosts=["pypi.org"], maxFiles=3))

        judgement = asked(self.escalating, today, self.granted())

        assert judgement.needs_base

    @pytest.mark.parametrize("spec", [{"url": "/elsewhere.git"}, {"url": BASE.url, "defaultBranch": "next"}])
    def test_a_changed_base_is_asked_afresh(self, spec: dict[str, Any]) -> None:
        spec["pathsNeedingApproval"] = [".github/**"]

        judgement = asked(self.escalating, policies(resource("Repository", "sample", **spec)), self.granted())

        assert judgement.needs_base

    def test_a_digest_covers_the_commit_and_the_stage(self) -> None:
        about = self.escalating.judged
        digests = {
            digest_of(about, stage, Grant(), base)
            for stage in Stage
            for base in (None, BASE, replace(BASE, commit="b" * 40), replace(BASE, branch="next"))
        }

        assert len(digests) == 8

    def test_another_commit_is_another_question(self) -> None:
        fresh = asked(self.escalating, base=replace(BASE, commit="b" * 40))

        assert fresh.digest != self.fresh().digest

    def test_a_term_that_has_ended_does_not_count(self) -> None:
        judgement = asked(self.escalating, None, self.granted(expires_at=NOW))

        assert judgement.needs_base

    def test_a_void_approval_does_not_count(self) -> None:
        judgement = asked(self.escalating, None, void(self.granted()))

        assert judgement.needs_base

    def test_todays_policy_may_still_deny(self) -> None:
        today = policies(profile(rules=[rule("true", "deny")]))

        assert asked(self.escalating, today, self.granted()).verdict is Verdict.DENY

    def test_approvers_and_terms_come_from_the_rules_that_escalate(self) -> None:
        rules = [
            rule("true", "escalate", "one", approvers=["ann", "ben"], expiresAfter="2h"),
            rule("true", "escalate", "two", approvers=["ben", "cleo"], expiresAfter="1h"),
            rule("true", "allow", "three", approvers=["dave"], expiresAfter="1m"),
        ]

        judgement = asked(question(), policies(profile(rules=rules)), base=BASE)

        assert judgement.approvers == ("ben",)
        assert judgement.expires_after == timedelta(hours=1)


class TestPublishing:
    asking = question(stage=Stage.PUBLISH, result_digest="r1", paths=(".github/workflows/ci.yml",))

    def test_a_result_that_wants_a_person_is_always_escalated(self) -> None:
        judgement = asked(self.asking)

        assert (judgement.verdict, judgement.needs_base) == (Verdict.ESCALATE, False)
        assert ".github/workflows/ci.yml" in judgement.reasons[0].sentence

    def test_the_approval_of_one_result_is_none_of_another(self) -> None:
        first = asked(self.asking)
        granted = replace(approval(digest=first.digest, stage=Stage.PUBLISH, base=None), state=ApprovalState.GRANTED)

        same = asked(self.asking, None, granted)
        other = asked(question(stage=Stage.PUBLISH, result_digest="r2", paths=self.asking.judged.paths), None, granted)

        assert (same.verdict, other.verdict) == (Verdict.ALLOW, Verdict.ESCALATE)

    def test_the_approval_of_a_launch_is_none_of_its_result(self) -> None:
        launch = asked(question(trust=Trust.OUTSIDER), base=BASE)
        granted = replace(approval(digest=launch.digest), state=ApprovalState.GRANTED)
        asking = question(stage=Stage.PUBLISH, trust=Trust.OUTSIDER)

        assert asked(asking, None, granted).verdict is Verdict.ESCALATE
