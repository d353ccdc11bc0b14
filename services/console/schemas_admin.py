"""What the API takes and answers about resources, secrets, pulls, new tasks and the system's own health."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr

from dispatch_common.values import Priority
from services.console.schemas import Out


class In(BaseModel):
    """What a request carries. Unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NewTask(In):
    """A unit of work that a person or program asks for directly."""

    title: Annotated[str, Field(min_length=1, max_length=500)]
    body: Annotated[str, Field(max_length=200_000)] = ""
    repository: Annotated[str, Field(min_length=1, max_length=63)]
    role: Annotated[str, Field(min_length=1, max_length=63)]
    agent: str | None = None
    priority: Priority = Priority.NONE
    labels: tuple[Annotated[str, Field(max_length=100)], ...] = ()
    project: Annotated[str, Field(max_length=100)] = ""
    idempotency_key: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class Comment(In):
    """Words of a person, kept with what they asked for."""

    comment: Annotated[str, Field(max_length=4000)] = ""


class File(In):
    """One YAML file; it may hold several documents."""

    name: Annotated[str, Field(min_length=1, max_length=500)]
    text: Annotated[str, Field(max_length=2_000_000)]


class Apply(In):
    """Files to apply. With ``dry_run`` everything is checked and nothing is stored."""

    files: Annotated[list[File], Field(min_length=1, max_length=500)]
    dry_run: bool = False


class AppliedOut(Out):
    """What applying did (or would do) to one resource."""

    kind: str
    name: str
    outcome: Literal["created", "changed", "unchanged", "deleted"]
    generation: int
    fields: list[str] = Field(default_factory=list[str])  #: the fields that differ


class ApplyOut(Out):
    """What applying did."""

    dry_run: bool
    items: list[AppliedOut]


class ResourceOut(Out):
    """A resource as it was applied."""

    kind: str
    name: str
    generation: int
    spec: dict[str, Any]
    applied_by: str
    applied_at: AwareDatetime


class SecretIn(In):
    """A secret's value. It can be used and replaced, never read again."""

    value: SecretStr
    keep_previous: bool = True


class SecretOut(Out):
    """That a secret exists."""

    name: str
    key_id: str
    has_previous: bool
    set_at: AwareDatetime


class PullOut(Out):
    """A pull request in the local forge. ``id`` is what routes and commands take: repository/number."""

    id: str
    repository: str
    number: int
    title: str
    state: str
    head: str
    base: str
    head_commit: str
    run: str | None
    created_at: AwareDatetime
    created_by: str
    ended_at: AwareDatetime | None
    ended_by: str | None
    merge_commit: str | None


class FileOut(Out):
    """One changed file; counts are None for a binary one."""

    path: str
    added: int | None
    removed: int | None


class PullDetail(PullOut):
    """A pull request with its text and what it changes."""

    body: str
    commits: list[str]
    files: list[FileOut]
    diff: str
    truncated: bool


class DeadLetterOut(Out):
    """A message that a service could not take."""

    id: str
    service: str
    subject: str
    reason: str
    deliveries: int
    at: AwareDatetime


class Finding(Out):
    """Something that a person should look at. ``level``: problem, warning, note."""

    level: Literal["problem", "warning", "note"]
    code: str
    sentence: str
    remedy: str = ""


class OutboxLag(Out):
    """Facts of one service that are committed and not published."""

    service: str
    waiting: int
    oldest_seconds: float


class StreamState(Out):
    """One stream of the broker."""

    name: str
    messages: int
    bytes: int
    last_seq: int
    consumers: int


class LimitOut(Out):
    """One promise about isolation, and whether this host lets us keep it."""

    name: str
    real: bool
    sentence: str
    remedy: str = ""


class Doctor(Out):
    """The system's own view of itself."""

    healthy: bool
    findings: list[Finding]
    database: str
    broker: str
    not_ready: dict[str, str]
    outbox: list[OutboxLag]
    streams: list[StreamState]
    dead_letters: list[DeadLetterOut]
    runs: dict[str, int]
    isolation: list[LimitOut]


class TaskTaken(Out):
    """The request was stored. ``GET /v1/deliveries/{delivery}`` tells what becomes of it."""

    model_config = ConfigDict(extra="allow")

    delivery: str
