"""What others may read of a run's row: the part of the dispatcher's Run that people ask about. Read only, lenient."""

from uuid import UUID

from pydantic import AwareDatetime

from dispatch_common.families import ErrorFamily
from dispatch_common.values import Actor, AgentSpec, Grant, Pull, RepositorySpec, ResultRef, Stage, Value, WakeReason


class RunBody(Value):
    """``runs.body`` as readers see it. A field that the dispatcher does not write has its default."""

    task_version: int = 0
    trigger: str = ""
    role: str = ""
    wanted_agent: str | None = None
    instruction: str = ""
    wake_reason: WakeReason = WakeReason.TICKET_ASSIGNMENT
    actor: Actor = Actor(id="")
    parent: UUID | None = None
    ask: int = 1
    stage: Stage = Stage.LAUNCH
    grant: Grant | None = None
    approval_id: UUID | None = None
    queued_at: AwareDatetime | None = None
    attempt: int = 0
    attempt_id: UUID | None = None
    deadline: AwareDatetime | None = None
    agent: AgentSpec | None = None
    repository: RepositorySpec | None = None
    failures: int = 0
    question_id: str | None = None
    result: ResultRef | None = None
    revision: int = 0
    paths: tuple[str, ...] = ()
    pull: Pull | None = None
    stop: str | None = None
    family: ErrorFamily | None = None
    wake_at: AwareDatetime | None = None
    next_check: AwareDatetime | None = None

    @property
    def agent_name(self) -> str | None:
        """Return the agent that has the run, or the one it asks for."""
        return self.agent.name if self.agent is not None else self.wanted_agent
