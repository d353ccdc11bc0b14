"""Why a run waits, as pure functions: for every state there is an answer, what moves it on, and who must act."""

from datetime import UTC, datetime, timedelta

import pytest

from dispatch_common import ids
from dispatch_common.families import ErrorFamily
from dispatch_common.lifecycle import RunState
from dispatch_common.values import Actor, Reason, Usage
from dispatch_common.view import RunBody
from services.console.schemas import AgentOut, BusyWith, RunDetail, TaskRef
from services.console.why import until, why

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
RUN = ids.derived("run")


def detail(
    state: RunState, *, sentence: str = "It happened.", code: str = "test.code", next_action: str = ""
) -> RunDetail:
    return RunDetail(
        id=RUN, short=RUN.hex[:8], state=state, terminal=False, lane="main", role="coder", agent=None, repository=None,
        task=TaskRef(id=RUN, source="plane", key="DISP-1", title="Fix it", url=""), wake_reason="schedule", attempt=0,
        code=code, sentence=sentence, next_action=next_action, created_at=NOW, updated_at=NOW, actor=Actor(id="a"),
        instruction="", parent=None, family=None, grant=None, steps=[], decisions=[], approvals=[], attempts=[],
        effects=[], pull=None, usage=Usage(), files_changed=0, summary="",
    )  # fmt: skip


def agent(name: str, *, role: str = "coder", slots: int = 1, busy: int = 0, status: str = "active") -> AgentOut:
    work = BusyWith(run=RUN, short="0a1b2c3d", key="DISP-9", title="Long", state=RunState.RUNNING, since=NOW)
    return AgentOut(
        name=name, display_name="", role=role, status=status, backend="scripted", model=None, skills=(), slots=slots,
        in_use=busy, draining=0, runs=[work] * busy,
    )  # fmt: skip


@pytest.mark.parametrize("state", list(RunState))
def test_every_state_has_an_answer_and_a_next(state: RunState) -> None:
    answer = why(detail(state), RunBody(role="coder"), now=NOW)

    assert answer.answer
    assert answer.next
    assert answer.who in {"nobody", "user", "operator", "approver"}


def test_a_queued_run_names_the_busy_agents_and_how_many_are_before_it() -> None:
    agents = [agent("vega", busy=1), agent("altair", role="ops")]

    answer = why(detail(RunState.QUEUED), RunBody(role="coder"), now=NOW, position=2, agents=agents)

    assert answer.answer == (
        "It waits for an agent with the role 'coder'; every slot is taken: vega (1/1) with 0a1b2c3d DISP-9 (running). "
        "2 runs stand before it."
    )
    assert [each.name for each in answer.agents] == ["vega"]


def test_a_queued_run_that_no_agent_can_take_needs_the_operator() -> None:
    agents = [agent("vega", status="inactive")]

    answer = why(detail(RunState.QUEUED), RunBody(role="coder"), now=NOW, position=0, agents=agents)

    assert answer.who == "operator"
    assert "there is none" in answer.answer
    assert "role 'coder'" in answer.next


def test_a_run_that_wants_one_agent_looks_at_that_one_alone() -> None:
    agents = [agent("vega", busy=1), agent("rigel")]

    answer = why(
        detail(RunState.QUEUED), RunBody(role="coder", wanted_agent="vega"), now=NOW, position=0, agents=agents
    )

    assert "the agent 'vega'; every slot is taken" in answer.answer
    assert "rigel" not in answer.answer


def test_a_free_slot_is_said_as_such() -> None:
    answer = why(detail(RunState.QUEUED), RunBody(role="coder"), now=NOW, position=0, agents=[agent("vega")])

    assert answer.answer.endswith("vega has a free slot. It is next in line.")


def test_a_parked_run_says_until_when() -> None:
    body = RunBody(wake_at=NOW + timedelta(minutes=5))

    answer = why(detail(RunState.PARKED, sentence="The quota is used up."), body, now=NOW)

    assert answer.answer == "It waits 5 min longer. The quota is used up."
    assert answer.until == body.wake_at


@pytest.mark.parametrize(
    ("family", "who"),
    [(ErrorFamily.CLI_MISSING, "operator"), (ErrorFamily.LOOPING, "user"), (ErrorFamily.TIMEOUT, "nobody")],
)
def test_a_failed_run_needs_whom_its_family_needs(family: ErrorFamily, who: str) -> None:
    assert why(detail(RunState.FAILED), RunBody(family=family), now=NOW).who == who


def test_the_last_step_is_the_reason_when_policy_did_not_decide() -> None:
    answer = why(detail(RunState.VERIFYING, code="attempt.succeeded", sentence="It ended."), RunBody(), now=NOW)

    assert answer.because == [Reason(code="attempt.succeeded", sentence="It ended.")]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "a moment longer"), (40, "40 s longer"), (300, "5 min longer"), (7200, "until 2026-11-21 11:00 UTC")],
)
def test_moments_are_said_as_people_say_them(seconds: int, text: str) -> None:
    assert until(NOW + timedelta(seconds=seconds), NOW) == text
