"""The kinds of resources people apply, one pydantic class per spec. YAML is camelCase, Python snake_case. Pure; no I/O.

Grow a kind by optional fields. A resource says itself what a run needs of it (``as_value``).
"""

from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from dispatch_common import values
from dispatch_common.resources_grants import AgentPermissionSet, Narrowing, PolicyProfile
from dispatch_common.resources_types import (
    Branch,
    GitUrl,
    HttpUrl,
    Name,
    Part,
    PathPattern,
    Seconds,
    Short,
    Spec,
    Text,
    Token,
    wrong,
)

API_VERSION: Final = "dispatch.dev/v1alpha1"


class Provider(StrEnum):
    """Where work comes from."""

    PLANE = "plane"
    GITHUB = "github"
    API = "api"


class MinimumRole(StrEnum):
    """The least role at the source that may start a run; ``level`` is Plane's number for it."""

    GUEST = "guest"
    MEMBER = "member"
    ADMIN = "admin"

    @property
    def level(self) -> int:
        """Return Plane's number for the role."""
        return {"guest": 5, "member": 15, "admin": 20}[self.value]


class Project(Part):
    """One project of a source."""

    identifier: Short  #: as people write it: DISP
    repository: Name | None = None


class Source(Spec):
    """A place that work comes from and is reported back to."""

    kind = "Source"
    plural = "sources"
    provider: Provider
    base_url: HttpUrl = ""
    workspace: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{0,100}$")] = ""
    projects: dict[Token, Project] = Field(default_factory=dict)  #: by the source's own project id
    webhook_secret: Name | None = None  #: name of a secret
    api_token: Name | None = None  #: name of a secret
    bot_actor_id: Token | None = None  #: our own user at the source; its events are never obeyed
    trusted_bots: tuple[Token, ...] = ()  #: ids of bots that may start runs
    minimum_role: MinimumRole = MinimumRole.MEMBER
    default_repository: Name | None = None
    state_on_start: Short = ""
    state_on_publish: Short = ""
    state_on_failure: Short = ""
    comment: bool = True
    poll_interval: Seconds = 60
    paused: bool = False

    @model_validator(mode="after")
    def _complete(self) -> Self:
        wanted = {
            "baseUrl": self.base_url,
            "workspace": self.workspace,
            "webhookSecret": self.webhook_secret,
            "apiToken": self.api_token,
        }
        missing = [field for field, value in wanted.items() if not value]
        if self.provider is Provider.PLANE and missing:
            raise wrong(
                f"a plane source needs {', '.join(missing)}",
                "Add what is missing; secrets are given by name, never by value.",
            )
        return self


class AgentStack(Spec):
    """What several agents share. An agent's own fields win; the stack's ``grant`` cuts every one of them."""

    kind = "AgentStack"
    plural = "agentstacks"
    backend: Name | None = None
    model: Token | None = None
    image: Annotated[str, Field(pattern=r"^[a-z0-9][A-Za-z0-9_.:/@-]{0,254}$")] | None = None
    options: dict[Token, Short] = Field(default_factory=dict)
    skills: tuple[Name, ...] = ()
    grant: Narrowing = Narrowing()


class AgentStatus(StrEnum):
    """Whether an agent takes work: standby only what names it, inactive none."""

    ACTIVE = "active"
    STANDBY = "standby"
    INACTIVE = "inactive"


class Agent(Spec):
    """A named agent: who does the work, how much of it at a time, with what permissions."""

    kind = "Agent"
    plural = "agents"
    role: Name
    status: AgentStatus = AgentStatus.ACTIVE
    max_concurrent_tasks: Annotated[int, Field(ge=1, le=1000)] = 1
    backend: Name | None = None
    model: Token | None = None
    persona: Text = ""
    skills: tuple[Name, ...] = ()
    permission_set: Name
    profile: Name | None = None
    stack: Name | None = None
    labels: dict[Token, Short] = Field(default_factory=dict)
    display_name: Short = ""
    options: dict[Token, Short] = Field(default_factory=dict)

    def as_value(self, name: str, stack: AgentStack | None) -> values.AgentSpec:
        """Return the agent as a run needs it, with what its stack gives."""
        base = stack or AgentStack()
        return values.AgentSpec(
            name=name,
            role=self.role,
            backend=self.backend or base.backend or "",
            model=self.model or base.model,
            persona=self.persona,
            skills=tuple(dict.fromkeys(self.skills + base.skills)),
            options={**base.options, **({"image": base.image} if base.image else {}), **self.options},
        )


class Repository(Spec):
    """A repository that agents may work on. ``url`` never holds a credential."""

    kind = "Repository"
    plural = "repositories"
    url: GitUrl
    default_branch: Branch = "main"
    forge: Literal["local", "github"] = "local"
    credential: Name | None = None  #: name of a secret
    test_command: Annotated[str, Field(max_length=500, pattern=r"^[^\x00\n]*$")] = ""
    paths_needing_approval: tuple[PathPattern, ...] = ()
    protected_paths: tuple[PathPattern, ...] = ()  #: no result may touch them, approved or not
    grant: Narrowing = Narrowing()

    def as_value(self, name: str) -> values.RepositorySpec:
        """Return the repository as a run needs it."""
        return values.RepositorySpec(
            name=name,
            url=self.url,
            forge=self.forge,
            default_branch=self.default_branch,
            test_command=self.test_command,
        )


class TriggerEvent(StrEnum):
    """What happened at the source."""

    CREATED = "created"
    LABELLED = "labelled"
    ASSIGNED = "assigned"
    COMMENTED = "commented"
    REVIEW_REQUESTED = "review-requested"


class TriggerRule(Spec):
    """When a task becomes a run. A ``*`` in a label gives the role when ``role`` is left out."""

    kind = "TriggerRule"
    plural = "triggerrules"
    sources: tuple[Name, ...] = ()  #: empty: every source
    labels: tuple[Annotated[str, Field(pattern=r"^[^\x00-\x1f]{1,100}$")], ...] = ()
    commands: tuple[Annotated[str, Field(pattern=r"^[/@][A-Za-z0-9_-]{1,50}$")], ...] = ()  #: first word of a comment
    events: tuple[TriggerEvent, ...] = ()  #: empty: any event that shows the label or the command
    role: Name | None = None
    agent: Name | None = None
    lane: Name = "main"
    wake_reason: values.WakeReason = values.WakeReason.TICKET_ASSIGNMENT

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if not self.labels and not self.commands and not self.events:
            raise wrong("the rule never fires", "Add labels, commands or events.")
        wild = all(label.count("*") == 1 for label in self.labels) and bool(self.labels) and not self.commands
        if self.role is None and self.agent is None and not wild:
            raise wrong(
                "the rule names no role", "Add role, or write labels with one * where the role stands, like agent:*."
            )
        return self

    def role_for(self, label: str) -> str | None:
        """Return the role that a label asks for by this rule, None when the rule does not know the label."""
        for pattern in self.labels:
            head, star, tail = pattern.partition("*")
            if label == pattern or (
                star and len(label) > len(head) + len(tail) and label.startswith(head) and label.endswith(tail)
            ):
                return self.role or label[len(head) : len(label) - len(tail)]
        return None


KINDS: Final[dict[str, type[Spec]]] = {
    cls.kind: cls for cls in (Source, Agent, AgentStack, Repository, TriggerRule, AgentPermissionSet, PolicyProfile)
}


def as_json(spec: Spec) -> dict[str, Any]:
    """Return a spec as it is stored: camelCase, only what differs from the defaults."""
    return spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
