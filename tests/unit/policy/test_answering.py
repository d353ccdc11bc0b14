"""What follows from a judgement: one fact, at most one living approval per stage, the stored answer said again."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from dispatch_common import ids
from dispatch_common.events import PolicyAsked
from dispatch_common.values import Stage, Trust, Verdict
from services.policy.answering import reply, said_again, without_base
from services.policy.approval import Answer, ApprovalState, answer
from services.policy.snapshot import policies as read_policies
from tests.support.policies import BASE, BOB, NOW, approval, catalog, judged, policies, resource

RUN = UUID(int=0xA1)


def asked(ask: int = 1, *, stage: Stage = Stage.LAUNCH, **changes: Any) -> PolicyAsked:
    about = judged(**{"trust": Trust.OUTSIDER, **changes})
    mark = f"00-{'a' * 32}-{'b' * 16}-01"
    return PolicyAsked(
        id=ids.derived("test", ask), time=NOW, run_id=RUN, ask=ask, stage=stage, judged=about, traceparent=mark, org="o"
    )


def test_an_escalation_opens_an_approval_that_waits_for_a_base() -> None:
    waiting = reply(asked(), policies(), (), NOW)
    opened = reply(asked(), policies(), (), NOW, base=BASE)

    assert (waiting.decided, waiting.changed) == (None, ())
    assert opened.decided is not None
    (made,) = opened.approvals
    assert opened.changed == (made,)
    assert (made.ask, made.base, made.requester, made.state) == (1, BASE, judged().actor, ApprovalState.PENDING)
    assert made.expires_at == NOW + timedelta(hours=24)
    assert (opened.decided.approval_id, opened.decided.expires_at) == (made.id, made.expires_at)
    assert (opened.decided.grant, opened.decided.digest) == (None, made.digest)


def test_the_answer_repeats_what_belongs_to_the_question() -> None:
    decided = reply(asked(3, trust=Trust.MEMBER), policies(), (), NOW).decided

    assert decided is not None
    question = asked(3)
    assert (decided.org, decided.run_id, decided.ask, decided.stage) == ("o", RUN, 3, Stage.LAUNCH)
    assert (decided.cause, decided.traceparent) == (question.id, question.traceparent)
    assert (decided.verdict, decided.grant is not None) == (Verdict.ALLOW, True)


def test_the_same_question_always_has_the_same_ids() -> None:
    assert reply(asked(), policies(), (), NOW, base=BASE) == reply(asked(), policies(), (), NOW, base=BASE)


def test_a_base_elsewhere_is_no_base() -> None:
    moved = policies(resource("Repository", "sample", url="/elsewhere.git"))

    assert reply(asked(), moved, (), NOW, base=BASE).decided is None


def test_a_changed_task_voids_what_was_asked_before() -> None:
    first = reply(asked(1), policies(), (), NOW, base=BASE)
    second = reply(asked(2, task_version=2), policies(), first.approvals, NOW, base=BASE)

    assert [each.state for each in second.approvals] == [ApprovalState.VOID, ApprovalState.PENDING]
    assert len(second.changed) == 2


def test_asked_again_while_it_waits_it_is_the_same_approval_for_the_newer_question() -> None:
    first = reply(asked(1), policies(), (), NOW, base=BASE)
    second = reply(asked(2), policies(), first.approvals, NOW)

    assert [(each.id, each.ask) for each in second.approvals] == [(first.approvals[0].id, 2)]
    assert second.decided is not None
    assert second.decided.approval_id == first.approvals[0].id


def test_the_approval_of_a_launch_outlives_the_question_about_its_result() -> None:
    first = reply(asked(1), policies(), (), NOW, base=BASE)
    said = Answer(BOB, approve=True, roles=frozenset({"approver"}))
    granted = answer(first.approvals[0], said, NOW, NOW - timedelta(days=1)).approval

    after = reply(asked(2, stage=Stage.PUBLISH, result_digest="r"), policies(), (granted,), NOW).approvals

    assert [(each.stage, each.state) for each in after] == [
        (Stage.LAUNCH, ApprovalState.GRANTED),
        (Stage.PUBLISH, ApprovalState.PENDING),
    ]


def test_what_todays_policy_allows_needs_nobodys_consent_any_more() -> None:
    first = reply(asked(1), policies(), (), NOW, base=BASE)

    after = reply(asked(2, trust=Trust.MEMBER), policies(), first.approvals, NOW)

    assert [each.state for each in after.approvals] == [ApprovalState.VOID]
    assert after.decided is not None
    assert after.decided.approval_id is None


def test_without_a_base_it_is_denied_with_the_remedy() -> None:
    waiting = approval(run_id=RUN)

    done = without_base(asked(2), "it does not answer", (waiting, replace(waiting, stage=Stage.PUBLISH)), NOW)

    assert done.decided is not None
    assert (done.decided.verdict, done.decided.reasons[0].code) == (Verdict.DENY, "base.unknown")
    assert "it does not answer" in done.decided.reasons[0].sentence
    assert [each.state for each in done.approvals] == [ApprovalState.VOID, ApprovalState.PENDING]


def test_a_stored_answer_is_said_again_under_an_id_of_its_own() -> None:
    decided = reply(asked(trust=Trust.MEMBER), policies(), (), NOW).decided
    assert decided is not None

    again = said_again(decided, asked(9), NOW + timedelta(hours=1))

    assert again.id != decided.id
    assert again.model_copy(update={"id": decided.id, "time": NOW, "cause": decided.cause}) == decided


class TestSnapshots:
    rows = tuple({"kind": each.kind, "name": each.name, "spec": each.document} for each in catalog())

    def test_hold_every_kind_that_judging_needs(self) -> None:
        read = read_policies([row for row in self.rows if row["kind"] not in {"Source", "TriggerRule"}], "7")

        plain = policies()
        assert (read.agents, read.profiles, read.repositories) == (plain.agents, plain.profiles, plain.repositories)
        assert (read.stacks, read.permission_sets, read.generation) == (plain.stacks, plain.permission_sets, "7")

    def test_a_profile_that_cannot_be_read_lets_nothing_pass_by_itself(self) -> None:
        broken = [{"kind": "PolicyProfile", "name": "everyone", "spec": {"rules": 1}}]
        kept = [row for row in self.rows if row["kind"] in {"Agent", "AgentStack", "Repository", "AgentPermissionSet"}]

        consequence = reply(asked(trust=Trust.MEMBER), read_policies([*kept, *broken], ""), (), NOW, base=BASE)

        assert consequence.decided is not None
        assert consequence.decided.verdict is Verdict.ESCALATE
