"""judge(): every verdict with every reason, table by table."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from dispatch_common.resources import Resource
from dispatch_common.values import Priority, Trust, Verdict, WakeReason
from services.policy.approval import Base
from services.policy.question import Policies, Question
from services.policy.rules import Judgement, judge
from tests.support.policies import ALICE, BASE, BOB, NOW, policies, question, resource


def asked(q: Question, p: Policies | None = None, *approvals: Any, base: Base | None = None) -> Judgement:
    return judge(q, p or policies(), approvals, NOW, base=base)


def codes(judgement: Judgement) -> list[str]:
    return [reason.code for reason in judgement.reasons]


def profile(name: str = "extra", **spec: Any) -> Resource:
    return resource("PolicyProfile", name, **{"appliesTo": {}, "default": "allow", **spec})


def rule(when: str, verdict: str, name: str = "r", **more: Any) -> dict[str, Any]:
    return {"name": name, "when": when, "verdict": verdict, "reason": f"because {name}", **more}


class TestWhatDoesNotExist:
    @pytest.mark.parametrize(
        ("changes", "without", "code", "remedy"),
        [
            ({"role": "poet"}, "", "role.unknown", "Roles: coder, docs, ops, reviewer."),
            ({"agent": "vegga"}, "", "agent.unknown", "Agents: altair, lyra, rigel, sirius, vega."),
            ({"agent": "lyra"}, "", "agent.other-role", "Name another agent"),
            ({"repository": "nowhere"}, "", "repository.unknown", "Repositories: sample."),
            ({"repository": None}, "", "repository.none", "Source 'plane-local'"),
            ({}, "AgentPermissionSet/build", "permission-set.unknown", "Apply it"),
            ({"role": "ops"}, "PolicyProfile/careful", "reference.unknown", "Apply it"),
            ({}, "AgentStack/scripted", "reference.unknown", "Apply it"),
        ],
    )
    def test_is_denied_with_the_remedy(self, changes: dict[str, Any], without: str, code: str, remedy: str) -> None:
        judgement = asked(question(**changes), policies(without=without))

        assert judgement.verdict is Verdict.DENY
        found = next(reason for reason in judgement.reasons if reason.code == code)
        assert remedy in found.next_action
        assert judgement.grant is None

    def test_every_reason_is_told_at_once(self) -> None:
        judgement = asked(question(role="poet", repository="nowhere"))

        assert codes(judgement) == ["role.unknown", "repository.unknown"]

    @pytest.mark.parametrize(
        ("spec", "code"),
        [({"repositories": ["other-*"]}, "repository.not-permitted"), ({"refs": ["topic/*"]}, "ref.not-permitted")],
    )
    def test_what_the_permission_set_does_not_cover_is_denied(self, spec: dict[str, Any], code: str) -> None:
        judgement = asked(question(), policies(resource("AgentPermissionSet", "build", **spec)))

        assert judgement.verdict is Verdict.DENY
        assert code in codes(judgement)


class TestTheDefaultPolicy:
    def bare(self) -> Policies:
        return replace(policies(), profiles={})

    def test_allows_members(self) -> None:
        judgement = asked(question(), self.bare())

        assert judgement.verdict is Verdict.ALLOW
        assert codes(judgement)[0] == "default.allow"

    def test_escalates_outsiders_text_with_the_narrower_grant(self) -> None:
        judgement = asked(question(trust=Trust.OUTSIDER), self.bare(), base=BASE)

        assert judgement.verdict is Verdict.ESCALATE
        assert judgement.grant is not None
        assert (judgement.grant.hosts, judgement.grant.max_attempts) == ((), 1)

    def test_is_silent_where_a_profile_speaks(self) -> None:
        speaking = policies(profile(default="deny"), without="PolicyProfile/everyone")

        assert codes(asked(question(), speaking)) == ["default.deny"]


class TestRules:
    def test_deny_wins_over_escalate_wins_over_allow(self) -> None:
        said = {
            "allow": rule("true", "allow", "a"),
            "escalate": rule("true", "escalate", "e"),
            "deny": rule("true", "deny", "d"),
        }
        for chosen, strongest in [
            (["allow"], Verdict.ALLOW),
            (["allow", "escalate"], Verdict.ESCALATE),
            (["escalate", "deny", "allow"], Verdict.DENY),
        ]:
            extra = profile(rules=[said[each] for each in chosen])

            assert asked(question(), policies(extra), base=BASE).verdict is strongest

    def test_every_rule_that_matched_is_a_reason_the_decisive_first(self) -> None:
        extra = profile(rules=[rule("true", "allow", "a"), rule("false", "deny", "n"), rule("true", "deny", "d")])

        judgement = asked(question(), policies(extra))

        assert [c for c in codes(judgement) if c.startswith("rule.")] == ["rule.d", "rule.a"]
        assert judgement.reasons[0].sentence == "because d"

    def test_a_profile_whose_rules_are_silent_says_its_default(self) -> None:
        extra = profile(default="escalate", rules=[rule("false", "allow")])

        assert asked(question(), policies(extra), base=BASE).verdict is Verdict.ESCALATE

    @pytest.mark.parametrize("verdict", ["allow", "deny"])
    def test_a_rule_that_fails_while_it_is_judged_wants_a_person(self, verdict: str) -> None:
        extra = profile(rules=[rule("labels[9] == 'x'", verdict)])

        judgement = asked(question(), policies(extra), base=BASE)

        assert judgement.verdict is Verdict.ESCALATE
        assert judgement.reasons[0].code == "rule.r.failed"
        assert "IndexError" in judgement.reasons[0].sentence

    @pytest.mark.parametrize(
        ("when", "changes"),
        [
            ("trust == 'outsider'", {"trust": Trust.OUTSIDER}),
            ("priority == 'urgent'", {"priority": Priority.URGENT}),
            ("'big' in labels", {"labels": ("big",)}),
            ("role == 'docs'", {"role": "docs"}),
            ("agent == 'vega'", {"agent": "vega"}),
            ("actor.name == 'bob'", {"actor": BOB}),
            ("task.version == 4", {"task_version": 4}),
            ("task.title.startsWith('Drop')", {"title": "Drop it"}),
            ("wake_reason == 'schedule'", {"wake_reason": WakeReason.SCHEDULE}),
            ("instruction.contains('rm -rf')", {"instruction": "rm -rf /"}),
            ("project == 'OPS'", {"project": "OPS"}),
            ("now.getHours() == 8 && agent == 'rigel'", {"agent": "rigel"}),
        ],
    )
    def test_an_expression_sees_the_question(self, when: str, changes: dict[str, Any]) -> None:
        watched = policies(profile(rules=[rule(when, "deny")]), without="PolicyProfile/everyone")

        assert "rule.r" in codes(asked(question(**changes), watched))
        assert "rule.r" not in codes(asked(question(), watched))

    @pytest.mark.parametrize(
        ("applies", "speaks"),
        [
            (None, False),
            ({}, True),
            ({"roles": ["coder"]}, True),
            ({"roles": ["docs"]}, False),
            ({"roles": ["coder"], "projects": ["OTHER"]}, False),
            ({"sources": ["plane-*"], "projects": ["DISP"]}, True),
            ({"repositories": ["sample"]}, True),
            ({"agents": ["vega"]}, False),
        ],
    )
    def test_a_profile_speaks_where_it_says(self, applies: dict[str, Any] | None, speaks: bool) -> None:
        spec: dict[str, Any] = {"default": "deny"} if applies is None else {"default": "deny", "appliesTo": applies}

        judgement = asked(question(), policies(resource("PolicyProfile", "extra", **spec)))

        assert (judgement.verdict is Verdict.DENY) is speaks

    def test_a_profile_speaks_for_agents_that_name_it(self) -> None:
        judgement = asked(question(role="ops", priority=Priority.URGENT), base=BASE)

        assert judgement.verdict is Verdict.ESCALATE
        assert judgement.expires_after == timedelta(hours=4)
        assert "careful" in judgement.reasons[0].sentence


class TestTheGrant:
    def test_is_cut_by_everything_that_has_a_say_and_says_by_whom(self) -> None:
        judgement = asked(question(trust=Trust.OUTSIDER), base=BASE)

        assert judgement.grant is not None
        assert judgement.grant.limits.wall_seconds == 900
        assert judgement.grant.limits.memory_mib == 2048
        assert judgement.grant.max_attempts == 1
        sentences = [reason.sentence for reason in judgement.reasons if reason.code == "grant.narrowed"]
        assert "PolicyProfile/everyone (untrusted text) allows 15 min of wall time instead of 30 min." in sentences

    def test_of_a_member_is_not_cut_for_untrusted_text(self) -> None:
        judgement = asked(question())

        assert judgement.grant is not None
        assert judgement.grant.limits.wall_seconds == 1800

    def test_of_a_run_without_an_agent_fits_every_agent_of_the_role(self) -> None:
        spec = {"role": "coder", "stack": "scripted", "permissionSet": "write-docs"}

        judgement = asked(question(), policies(resource("Agent", "rigel", **spec)))

        assert judgement.grant is not None
        assert judgement.grant.paths_allowed == ("docs/**", "**/*.md")
        assert judgement.grant.limits.memory_mib == 1024

    def test_fits_the_last_of_them_too(self) -> None:
        spec = {"role": "coder", "stack": "scripted", "permissionSet": "write-docs"}

        judgement = asked(question(), policies(resource("Agent", "zeta", **spec)))

        assert judgement.grant is not None
        assert judgement.grant.limits.memory_mib == 1024
        told = [reason.sentence for reason in judgement.reasons]
        assert "AgentPermissionSet/write-docs allows 1024 MiB of memory instead of 4096 MiB." in told

    def test_of_agents_out_of_service_is_not_counted(self) -> None:
        spec = {"role": "coder", "stack": "scripted", "permissionSet": "write-docs", "status": "inactive"}

        judgement = asked(question(), policies(resource("Agent", "zeta", **spec)))

        assert judgement.grant is not None
        assert judgement.grant.limits.memory_mib == 4096

    def test_is_cut_by_every_profile_that_speaks(self) -> None:
        judgement = asked(question(), policies(profile(grant={"maxFiles": 5})))

        assert judgement.grant is not None
        assert judgement.grant.max_files == 5

    def test_of_untrusted_text_is_the_default_narrow_one_where_profiles_say_nothing(self) -> None:
        today = policies(resource("AgentPermissionSet", "build", hosts=["pypi.org"]), profile("everyone"))

        judgement = asked(question(trust=Trust.OUTSIDER), today)

        assert judgement.grant is not None
        assert (judgement.grant.hosts, judgement.grant.max_attempts) == ((), 1)

    def test_of_a_named_agent_is_that_agents(self) -> None:
        spec = {"role": "coder", "stack": "scripted", "permissionSet": "write-docs"}

        judgement = asked(question(agent="vega"), policies(resource("Agent", "rigel", **spec)))

        assert judgement.grant is not None
        assert judgement.grant.paths_allowed == ("**",)

    def test_is_cut_by_a_rule_that_matched_and_by_none_that_did_not(self) -> None:
        rules = [
            rule("true", "allow", "yes", grant={"maxFiles": 7}),
            rule("false", "allow", "no", grant={"maxFiles": 1}),
        ]

        judgement = asked(question(), policies(profile(rules=rules)))

        assert judgement.grant is not None
        assert judgement.grant.max_files == 7

    def test_holds_what_the_repository_asks_for(self) -> None:
        spec: dict[str, Any] = {"url": "/srv/x", "pathsNeedingApproval": ["ci/**"], "protectedPaths": ["keys/**"]}
        spec["grant"] = {"limits": {"pids": 9}}

        judgement = asked(question(), policies(resource("Repository", "sample", **spec)))

        assert judgement.grant is not None
        assert "ci/**" in judgement.grant.paths_needing_approval
        assert judgement.grant.paths_protected == ("keys/**",)
        assert judgement.grant.limits.pids == 9

    def test_is_cut_by_the_stack(self) -> None:
        spec = {"backend": "scripted", "grant": {"tools": ["Read"]}}

        judgement = asked(question(), policies(resource("AgentStack", "scripted", **spec)))

        assert judgement.grant is not None
        assert judgement.grant.tools == ("Read",)


def test_the_same_question_always_has_the_same_answer() -> None:
    assert asked(question()) == asked(question())


def test_nobody_is_named_in_a_default_judgement() -> None:
    assert ALICE.name not in repr(asked(question()).reasons)
