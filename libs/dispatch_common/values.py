"""The values that facts carry: what a task, an actor, a grant, a result are. Frozen, self-contained, no behaviour."""

from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class Value(BaseModel):
    """A frozen value. Unknown fields are ignored, so that old readers survive new writers."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def but(self, **changes: Any) -> Self:
        """Return a copy with some fields changed, unvalidated: what ``model_copy`` does, eight times quicker."""
        new = self.__class__.__new__(self.__class__)
        object.__setattr__(new, "__dict__", self.__dict__ | changes)
        object.__setattr__(new, "__pydantic_fields_set__", self.__pydantic_fields_set__ | changes.keys())
        object.__setattr__(new, "__pydantic_extra__", None)
        object.__setattr__(new, "__pydantic_private__", None)
        return new


class Priority(StrEnum):
    """Plane's five priorities, most urgent first; other sources are mapped onto them."""

    URGENT = "urgent"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    NONE = "none"


class Trust(StrEnum):
    """How far the author of a text may be believed. A run is as trusted as its least trusted text."""

    MEMBER = "member"  #: may start runs
    OUTSIDER = "outsider"  #: may be read, never obeyed


class WakeReason(StrEnum):
    """Why a run exists."""

    USER_MESSAGE = "user_message"
    TICKET_ASSIGNMENT = "ticket_assignment"
    PIPELINE_STEP = "pipeline_step"
    REVIEW_REQUEST = "review_request"
    SCHEDULE = "schedule"
    RECOVERY = "recovery"
    FOLLOW_UP = "follow_up"


class Actor(Value):
    """Somebody, as the source proved it (never as a body claims it)."""

    id: str
    name: str = ""
    bot: bool = False


class Message(Value):
    """One comment of the task's conversation, oldest first in lists. ``text`` is Markdown."""

    id: str
    author: Actor
    trust: Trust = Trust.OUTSIDER
    at: AwareDatetime
    text: str


class TaskSnapshot(Value):
    """A unit of work as its source showed it at ``read_at``. ``digest`` covers all that a run depends on."""

    source: str  #: name of the Source resource
    provider: str  #: plane, github, api
    object_id: str  #: the source's own id
    key: str  #: what people call it: DISP-1
    url: str = ""
    title: str
    body: str = ""  #: Markdown
    labels: tuple[str, ...] = ()
    priority: Priority = Priority.NONE
    project: str = ""  #: the source's project (its identifier)
    repository: str | None = None  #: name of the Repository resource
    closed: bool = False  #: completed, cancelled, archived or deleted at its source
    cancelled: bool = False  #: closed because nobody wants it any more
    author_trust: Trust = Trust.MEMBER
    messages: tuple[Message, ...] = ()
    read_at: AwareDatetime
    digest: str

    @property
    def trust(self) -> Trust:
        """Return the trust of the least trusted text in the snapshot."""
        outsiders = [m for m in self.messages if m.trust is Trust.OUTSIDER]
        return Trust.OUTSIDER if outsiders else self.author_trust


class Wanted(Value):
    """What the task's present form asks for (a label, an assignment). Level, not edge."""

    key: str  #: label:agent:coder
    role: str
    agent: str | None = None
    wake_reason: WakeReason = WakeReason.TICKET_ASSIGNMENT


class Ask(Value):
    """One demand that happened once (a comment, an API call). ``key`` is unique per task, so it is obeyed once."""

    key: str  #: comment:<id>, api:<idempotency key>
    role: str
    agent: str | None = None
    instruction: str
    wake_reason: WakeReason = WakeReason.USER_MESSAGE


class Limits(Value):
    """What one attempt may use. Times in seconds, sizes in MiB; ``cpus`` may be a fraction."""

    wall_seconds: int = 1800
    idle_seconds: int = 600
    cpus: float = 2.0
    memory_mib: int = 4096
    disk_mib: int = 4096
    pids: int = 512


class Grant(Value):
    """What an allowed run may use."""

    tools: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    repository: str | None = None
    base_commit: str | None = None  #: pinned when a person approved exactly this commit; else the branch's tip
    paths_allowed: tuple[str, ...] = ("**",)
    paths_needing_approval: tuple[str, ...] = ()
    paths_protected: tuple[str, ...] = ()  #: no result may touch them, approved or not
    max_files: int = 200
    max_bytes: int = 20_000_000
    limits: Limits = Limits()
    max_attempts: int = 3
    tokens: int | None = None
    money_microusd: int | None = None


class Reason(Value):
    """One reason of a decision: the rule's code for programs, the sentence for people."""

    code: str
    sentence: str
    next_action: str = ""


class Verdict(StrEnum):
    """Policy's answer."""

    ALLOW = "allow"
    DENY = "deny"
    ESCALATE = "escalate"


class Stage(StrEnum):
    """What policy is asked about: launching an agent, or publishing what it made."""

    LAUNCH = "launch"
    PUBLISH = "publish"


class Judged(Value):
    """What policy judges. ``digest`` of it (with the grant and the base commit) is what an approval is bound to."""

    task_id: UUID
    task_version: int
    source: str
    provider: str
    project: str
    key: str
    title: str
    labels: tuple[str, ...]
    priority: Priority
    trust: Trust
    role: str
    agent: str | None
    repository: str | None
    instruction: str
    wake_reason: WakeReason
    actor: Actor
    result_digest: str | None = None  #: only for Stage.PUBLISH
    paths: tuple[str, ...] = ()  #: only for Stage.PUBLISH: those that want a person


class AgentSpec(Value):
    """A named agent of the catalog, as a run needs it."""

    name: str
    role: str
    backend: str
    model: str | None = None
    persona: str = ""
    skills: tuple[str, ...] = ()
    options: dict[str, str] = Field(default_factory=dict)


class RepositorySpec(Value):
    """A repository as a run needs it. ``url`` is a path or URL without credentials."""

    name: str
    url: str
    forge: str = "local"
    default_branch: str = "main"
    test_command: str = ""


class BlobRef(Value):
    """A blob in the blob store."""

    digest: str  #: sha256 hex
    size: int


class Usage(Value):
    """What an attempt used. Tokens and money are 0 for a backend that uses no model."""

    wall_ms: int = 0
    cpu_ms: int = 0
    peak_memory_mib: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    money_microusd: int | None = None  #: None: not known


class ResultRef(Value):
    """What an attempt produced: a bundle (None when nothing was changed) and a manifest, both blobs."""

    base_commit: str
    commit: str | None = None
    bundle: BlobRef | None = None
    manifest: BlobRef | None = None
    stdout: BlobRef | None = None
    stderr: BlobRef | None = None
    summary: str = ""
    files_changed: int = 0
    usage: Usage = Usage()


class Pull(Value):
    """Where the outside can see a published result."""

    branch: str
    commit: str
    url: str
    number: int | None = None
