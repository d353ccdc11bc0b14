"""Why an attempt ended, and what that makes of it. PURE: the one place where causes become outcomes and families."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from agent_runner.backends.shape import AgentVerdict
from agent_runner.protocol import LaunchLimits, Outcome, SandboxViolation


class Cause(StrEnum):
    """What ended the agent. The first cause counts."""

    EXITED = "exited"  #: by itself
    STOP_ASKED = "stop_asked"
    WALL = "wall"
    IDLE = "idle"
    LIMIT = "limit"  #: the watchdog saw a limit broken
    DISK = "disk"  #: the same, and what fills the disk is not worth packing
    SANDBOX = "sandbox"  #: the sandbox could not be set up
    LEASE_LOST = "lease_lost"
    NOT_OURS = "not_ours"  #: a newer attempt exists, or the token is revoked


@dataclass(frozen=True, slots=True)
class Ending:
    """One cause with its sentence for people."""

    cause: Cause
    sentence: str = ""
    family: str | None = None

    @property
    def is_graceful(self) -> bool:
        """Whether the agent may tidy up before it is killed."""
        return self.cause in {Cause.STOP_ASKED, Cause.WALL, Cause.IDLE}

    @property
    def leaves_a_result(self) -> bool:
        """Whether anybody may still want to hear of it."""
        return self.cause not in {Cause.LEASE_LOST, Cause.NOT_OURS}

    @property
    def collects(self) -> bool:
        """Whether what the agent changed is worth a bundle."""
        return self.cause in {Cause.EXITED, Cause.WALL, Cause.IDLE, Cause.LIMIT}


@dataclass(frozen=True, slots=True)
class Judgement:
    """The outcome as it is reported."""

    outcome: Outcome
    family: str | None
    sentence: str
    summary: str = ""


def wall(limits: LaunchLimits) -> Ending:
    return Ending(
        Cause.WALL,
        f"The agent ran longer than {limits.wall_seconds:g} s and was stopped."
        " Allow more with limits.wall_seconds, or make the task smaller.",
        "timeout",
    )


def idle(limits: LaunchLimits) -> Ending:
    return Ending(
        Cause.IDLE,
        f"The agent said nothing for {limits.idle_seconds:g} s and was stopped."
        " Allow longer silence with limits.idle_seconds.",
        "stalled",
    )


def broken_limit(violation: SandboxViolation) -> Ending:
    cause = Cause.DISK if violation.what == "disk" else Cause.LIMIT
    return Ending(cause, violation.text, "sandbox_violation")


def judge(ending: Ending, agent: AgentVerdict, violations: Sequence[SandboxViolation]) -> Judgement:
    """Return what the attempt came to."""
    match ending.cause:
        case Cause.STOP_ASKED:
            return Judgement(Outcome.STOPPED, None, ending.sentence, agent.summary)
        case Cause.EXITED if agent.ok:
            return Judgement(Outcome.SUCCEEDED, None, agent.sentence, agent.summary)
        case Cause.EXITED if violations and agent.family in {None, "unknown"}:
            return Judgement(Outcome.FAILED, "sandbox_violation", violations[-1].text, agent.summary)
        case Cause.EXITED:
            return Judgement(Outcome.FAILED, agent.family or "unknown", agent.sentence, agent.summary)
        case Cause.SANDBOX:
            return Judgement(Outcome.FAILED, ending.family or "sandbox_infra", ending.sentence)
        case Cause.LEASE_LOST | Cause.NOT_OURS:
            return Judgement(Outcome.FAILED, "worker_lost", ending.sentence, agent.summary)
        case _:
            return Judgement(Outcome.FAILED, ending.family or "unknown", ending.sentence, agent.summary)
