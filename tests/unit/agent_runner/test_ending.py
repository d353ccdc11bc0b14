"""Causes become outcomes and families in one place."""

import pytest

from agent_runner.backends import AgentVerdict
from agent_runner.ending import Cause, Ending, broken_limit, idle, judge, wall
from agent_runner.protocol import LaunchLimits, Outcome, SandboxViolation

GOOD = AgentVerdict(True, None, "All done.", "All done.")
BAD = AgentVerdict(False, "unknown", "It failed.")
MEMORY = SandboxViolation(what="memory", text="The agent ran out of memory.")
LIMITS = LaunchLimits(wall_seconds=60, idle_seconds=5)


@pytest.mark.parametrize(
    ("ending", "agent", "outcome", "family"),
    [
        (Ending(Cause.EXITED), GOOD, Outcome.SUCCEEDED, None),
        (Ending(Cause.EXITED), BAD, Outcome.FAILED, "unknown"),
        (Ending(Cause.EXITED), AgentVerdict(False, "rate_limited", "Later."), Outcome.FAILED, "rate_limited"),
        (Ending(Cause.STOP_ASKED, "Cancelled."), GOOD, Outcome.STOPPED, None),
        (wall(LIMITS), GOOD, Outcome.FAILED, "timeout"),
        (idle(LIMITS), GOOD, Outcome.FAILED, "stalled"),
        (broken_limit(MEMORY), BAD, Outcome.FAILED, "sandbox_violation"),
        (Ending(Cause.SANDBOX, "No."), BAD, Outcome.FAILED, "sandbox_infra"),
        (Ending(Cause.SANDBOX, "No.", "config_invalid"), BAD, Outcome.FAILED, "config_invalid"),
    ],
)
def test_each_cause_has_its_outcome(ending: Ending, agent: AgentVerdict, outcome: Outcome, family: str | None):
    judged = judge(ending, agent, [])

    assert (judged.outcome, judged.family) == (outcome, family)
    assert judged.sentence


def test_a_violation_explains_a_failure_that_nothing_else_explains():
    assert judge(Ending(Cause.EXITED), BAD, [MEMORY]).family == "sandbox_violation"
    assert judge(Ending(Cause.EXITED), AgentVerdict(False, "rate_limited", "Later."), [MEMORY]).family == "rate_limited"
    assert judge(Ending(Cause.EXITED), GOOD, [MEMORY]).outcome is Outcome.SUCCEEDED


def test_who_lost_the_lease_leaves_no_result_and_packs_nothing():
    for cause in (Cause.LEASE_LOST, Cause.NOT_OURS):
        assert not Ending(cause).leaves_a_result
        assert not Ending(cause).collects
        assert not Ending(cause).is_graceful


def test_what_fills_the_disk_is_not_packed():
    assert not broken_limit(SandboxViolation(what="disk", text="Too much.")).collects
    assert broken_limit(MEMORY).collects
