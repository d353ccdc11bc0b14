"""The life of an approval, walked: every sequence of small steps, with what must never happen checked after each."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from dispatch_common.events import ApprovalOutcome
from dispatch_common.values import Actor, Trust, Verdict
from services.policy.approval import (
    GRACE,
    Answer,
    Approval,
    ApprovalState,
    Base,
    answer,
    expired,
    identities,
    same_person,
    void,
)
from services.policy.question import Question
from services.policy.rules import judge
from tests.support.policies import ALICE, BASE, BOB, NOW, approval, policies, question

NO_ROLE: set[str] = set()
UP = NOW - timedelta(days=9)
YES = Answer(BOB, True, roles=frozenset({"approver"}))


class TestWhoMayAnswer:
    @pytest.mark.parametrize(
        ("by", "roles", "counts"),
        [
            (BOB, {"approver"}, True),
            (BOB, {"admin"}, True),
            (BOB, {"operator"}, False),
            (BOB, NO_ROLE, False),
            (Actor(id="principal:ann"), NO_ROLE, True),
            (Actor(id="42", name="Ann"), NO_ROLE, True),
            (ALICE, {"approver"}, False),
            (Actor(id="principal:alice", name="Alice"), {"approver"}, False),
            (Actor(id="principal:x", name="alice"), {"approver"}, False),
            (Actor(id=ALICE.id, name="somebody"), {"approver"}, False),
            (Actor(id="principal:robot", name="robot", bot=True), {"approver"}, False),
        ],
    )
    def test_somebody_else_who_is_listed_or_holds_the_role(self, by: Actor, roles: set[str], counts: bool) -> None:
        done = answer(approval(approvers=("ann",)), Answer(by, True, roles=frozenset(roles)), NOW, UP)

        assert done.counted is counts
        assert done.sentence

    def test_a_requester_with_no_name_is_still_not_everybody(self) -> None:
        nameless = approval(requester=Actor(id="1"))

        assert answer(nameless, Answer(Actor(id="2"), True, roles=frozenset({"approver"})), NOW, UP).counted

    def test_people_are_the_same_in_doubt(self) -> None:
        assert same_person(Actor(id="principal:Ada"), Actor(id="77", name="ada "))
        assert not same_person(Actor(id="1"), Actor(id="2"))
        assert identities(Actor(id="principal:ada")) == {"principal:ada", "ada"}


class TestAnAnswer:
    def test_grants_for_as_long_as_the_question_was_open(self) -> None:
        done = answer(approval(), YES, NOW + timedelta(hours=23), UP)

        assert done.outcome is ApprovalOutcome.GRANTED
        assert done.approval.expires_at == NOW + timedelta(hours=47)
        assert done.approval.counts("d1", NOW + timedelta(hours=46))
        assert not done.approval.counts("d1", NOW + timedelta(hours=47))
        assert not done.approval.counts("d2", NOW)

    def test_refuses_with_the_comment(self) -> None:
        done = answer(approval(), replace(YES, approve=False, comment="too broad"), NOW, UP)

        assert done.outcome is ApprovalOutcome.REFUSED
        assert done.sentence == "bob refused it: too broad"
        assert not done.approval.counts("d1", NOW)

    @pytest.mark.parametrize("state", [each for each in ApprovalState if each is not ApprovalState.PENDING])
    def test_changes_nothing_that_was_decided(self, state: ApprovalState) -> None:
        ended = approval(state=state)

        done = answer(ended, YES, NOW, UP)

        assert (done.counted, done.approval) == (False, ended)


class TestExpiry:
    def test_comes_at_the_end_of_the_term(self) -> None:
        assert expired(approval(), NOW + timedelta(hours=23), UP) is None
        done = expired(approval(), NOW + timedelta(hours=24), UP)
        assert done is not None
        assert done.outcome is ApprovalOutcome.EXPIRED

    def test_waits_until_people_had_a_chance_after_an_outage(self) -> None:
        late = NOW + timedelta(hours=30)

        assert expired(approval(), late, late - GRACE / 2) is None
        assert expired(approval(), late, late - GRACE) is not None

    def test_an_answer_in_that_time_counts(self) -> None:
        late = NOW + timedelta(hours=30)

        assert answer(approval(), YES, late, late - GRACE / 2).counted
        assert not answer(approval(), YES, late, late - GRACE).counted

    def test_a_short_term_has_a_short_grace(self) -> None:
        short = approval(expires_at=NOW + timedelta(seconds=10))
        late = NOW + timedelta(minutes=30)

        assert expired(short, late, late - timedelta(seconds=10)) is not None


# --- the walk ---

STEPS = ("bob approves", "bob refuses", "alice approves", "a day passes", "the task changes", "the base moves", "ask")
World = tuple[tuple[Approval, ...], int, int, str]


def walk(depth: int) -> Iterator[tuple[World, str, World]]:
    """Every step from every world within reach, each told as before, step, after."""
    start: World = ((), 0, 1, "a" * 40)
    seen: set[World] = {start}
    edge = [start]
    for _ in range(depth):
        following: list[World] = []
        for world in edge:
            for step in STEPS:
                after = apply(world, step)
                yield world, step, after
                if after not in seen:
                    seen.add(after)
                    following.append(after)
        edge = following


def apply(world: World, step: str) -> World:
    """The world as the service makes it: it holds a run's approvals, the day, the task's version, the branch's tip."""
    approvals, day, version, tip = world
    now = NOW + timedelta(days=day, minutes=1)
    match step:
        case "a day passes":
            ended = tuple(done.approval if (done := expired(a, now + timedelta(days=1), UP)) else a for a in approvals)
            return ended, day + 1, version, tip
        case "the task changes":
            return approvals, day, min(version + 1, 3), tip
        case "the base moves":
            return approvals, day, version, "b" * 40
        case "ask":
            return asked(world)[0], day, version, tip
        case _:
            by, verb = step.split()
            given = Answer(BOB if by == "bob" else ALICE, verb == "approves", roles=frozenset({"approver"}))
            return tuple(answer(a, given, now, UP).approval for a in approvals), day, version, tip


def the_question(version: int) -> Question:
    return question(trust=Trust.OUTSIDER, task_version=version)


def asked(world: World) -> tuple[tuple[Approval, ...], Verdict]:
    """Ask policy as the service does: pin a base when one is wanted, void what the answer does not stand on."""
    approvals, day, version, tip = world
    now = NOW + timedelta(days=day, minutes=1)
    judgement = judge(the_question(version), policies(), approvals, now)
    if judgement.needs_base:
        pinned = Base(BASE.repository, BASE.url, BASE.branch, tip)
        judgement = judge(the_question(version), policies(), approvals, now, base=pinned)
    if judgement.verdict is not Verdict.ESCALATE or judgement.approval is not None:
        keep = judgement.approval.id if judgement.approval else None
        return tuple(a if a.id == keep else void(a) for a in approvals), judgement.verdict
    new = approval(
        id=UUID(int=100 + len(approvals)),
        ask=len(approvals) + 1,
        digest=judgement.digest,
        base=judgement.base,
        created_at=now,
        expires_at=now + judgement.expires_after,
    )
    return (*(void(a) for a in approvals), new), judgement.verdict


def test_no_walk_breaks_a_promise() -> None:
    edges = 0
    for before, step, after in walk(7):
        edges += 1
        approvals, day, version, _ = after
        now = NOW + timedelta(days=day, minutes=1)
        valid = [a for a in approvals if a.counts(a.digest, now)]
        alive = [a for a in approvals if a.state is ApprovalState.PENDING or a in valid]

        assert len(alive) <= 1, f"two approvals are alive after '{step}'"
        assert all(a.answered_by != ALICE.id for a in approvals), "the requester approved it"
        for old, new in zip(before[0], approvals, strict=False):
            ended = old.state not in {ApprovalState.PENDING, ApprovalState.GRANTED}
            assert not (ended and new.state is not old.state), f"{old.state} became {new.state}"
            assert old.digest == new.digest
        if step == "ask":
            verdict = asked(before)[1]
            allowed_by = [a for a in before[0] if a.counts(a.digest, now)]
            assert (verdict is Verdict.ALLOW) <= bool(allowed_by), "allowed without anybody's consent"
            assert verdict is not Verdict.ALLOW or judged_the_same(allowed_by[0], version), "consent to something else"
    assert edges > 500


def judged_the_same(consent: Approval, version: int) -> bool:
    assert consent.base is not None
    again = judge(the_question(version), policies(), (), NOW, base=consent.base)
    return again.digest == consent.digest


def test_every_outcome_is_reached() -> None:
    worlds = [after for _, _, after in walk(7)]

    assert {a.state for world in worlds for a in world[0]} == set(ApprovalState)
    assert {asked(world)[1] for world in worlds} == set(Verdict)
