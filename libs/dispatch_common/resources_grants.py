"""What may be granted and when: permission sets, policy profiles, and the cuts that narrow a grant. Pure; no I/O."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from dispatch_common import values
from dispatch_common.resources_types import (
    Cpus,
    HostPattern,
    Mebibytes,
    Name,
    Part,
    PathPattern,
    RefPattern,
    Seconds,
    Spec,
    Token,
    Tool,
    matches,
    wrong,
)
from dispatch_common.values import Verdict


class LimitsPart(Part):
    """Limits of one attempt. What is left out is not limited here (an AgentPermissionSet fills in the defaults)."""

    wall: Seconds | None = None
    idle: Seconds | None = None
    cpu: Cpus | None = None
    memory: Mebibytes | None = None
    disk: Mebibytes | None = None
    pids: Annotated[int, Field(ge=1, le=1_000_000)] | None = None

    def over(self, base: values.Limits) -> values.Limits:
        """Return ``base`` with what this part names instead. A default for the other; it may widen."""
        return values.Limits(
            wall_seconds=self.wall or base.wall_seconds,
            idle_seconds=self.idle or base.idle_seconds,
            cpus=self.cpu or base.cpus,
            memory_mib=self.memory or base.memory_mib,
            disk_mib=self.disk or base.disk_mib,
            pids=self.pids or base.pids,
        )


class Narrowing(Part):
    """What a grant is cut down to. What is left out stays as it is; nothing here can widen a grant."""

    tools: tuple[Tool, ...] | None = None
    hosts: tuple[HostPattern, ...] | None = None
    paths: tuple[PathPattern, ...] | None = None
    paths_needing_approval: tuple[PathPattern, ...] = ()
    limits: LimitsPart = LimitsPart()
    max_attempts: Annotated[int, Field(ge=1, le=20)] | None = None
    max_files: Annotated[int, Field(ge=1, le=100_000)] | None = None
    max_bytes: Annotated[int, Field(ge=1, le=10_000_000_000)] | None = None
    tokens: Annotated[int, Field(ge=1)] | None = None
    money_microusd: Annotated[int, Field(ge=1)] | None = None


class AgentPermissionSet(Spec):
    """The most that agents with this set may ever be granted."""

    kind = "AgentPermissionSet"
    plural = "agentpermissionsets"
    tools: tuple[Tool, ...] = ("*",)
    hosts: tuple[HostPattern, ...] = ()
    repositories: tuple[Annotated[str, Field(pattern=r"^[a-z0-9*-]{1,63}$")], ...] = ("*",)
    refs: tuple[RefPattern, ...] = ("agent/*",)  #: branches that results may be published on
    paths: tuple[PathPattern, ...] = ("**",)
    paths_needing_approval: tuple[PathPattern, ...] = ()
    limits: LimitsPart = LimitsPart()
    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    max_files: Annotated[int, Field(ge=1, le=100_000)] = 200
    max_bytes: Annotated[int, Field(ge=1, le=10_000_000_000)] = 20_000_000
    tokens: Annotated[int, Field(ge=1)] | None = None
    money_microusd: Annotated[int, Field(ge=1)] | None = None


Pattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.*-]{1,100}$")]


class AppliesTo(Part):
    """What a profile speaks about. An empty list stands for all; every list that is given must match."""

    sources: tuple[Pattern, ...] = ()
    projects: tuple[Pattern, ...] = ()
    roles: tuple[Pattern, ...] = ()
    agents: tuple[Pattern, ...] = ()
    repositories: tuple[Pattern, ...] = ()

    def includes(self, judged: values.Judged) -> bool:
        """Tell whether a question is one of those this profile speaks about."""
        pairs = (
            (self.sources, judged.source),
            (self.projects, judged.project),
            (self.roles, judged.role),
            (self.agents, judged.agent or ""),
            (self.repositories, judged.repository or ""),
        )
        return all(not patterns or any(matches(p, text) for p in patterns) for patterns, text in pairs)


class Rule(Part):
    """One rule: when its expression is true, its verdict counts. Deny wins over escalate wins over allow."""

    name: Name
    when: Annotated[str, Field(min_length=1, max_length=1000)]
    verdict: Verdict
    reason: Annotated[str, Field(min_length=1, max_length=500)]
    next_action: Annotated[str, Field(max_length=500)] = ""
    grant: Narrowing = Narrowing()
    approvers: tuple[Token, ...] = ()
    expires_after: Seconds | None = None


class PolicyProfile(Spec):
    """Rules over runs. It speaks where an agent names it and where ``appliesTo`` says so (left out: nowhere)."""

    kind = "PolicyProfile"
    plural = "policyprofiles"
    applies_to: AppliesTo | None = None
    rules: Annotated[tuple[Rule, ...], Field(max_length=100)] = ()
    default: Verdict = Verdict.ESCALATE
    grant: Narrowing = Narrowing()  #: cuts every grant this profile speaks about
    untrusted: Narrowing | None = None  #: cuts the grant of a run that holds an outsider's text
    approvers: tuple[Token, ...] = ()
    expires_after: Seconds = 86400

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise wrong(f"several rules are called {', '.join(twice)}", "Give each rule of a profile its own name.")
        return self
