"""What a run may use: a permission set cut down by everything that has a say, each cut with its reason. Pure.

Nothing here can widen a grant. Where two lists of patterns overlap in a way that no list can express, that is lost.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from dispatch_common import resources, values
from dispatch_common.resources import AgentPermissionSet, LimitsPart, Narrowing, Repository
from dispatch_common.values import Grant, Reason

#: What a run with an outsider's text gets when no profile says otherwise: no network, one attempt.
UNTRUSTED: Final = Narrowing(hosts=(), max_attempts=1)

_LIMITS: Final = (
    ("wall", "wall_seconds", "wall time"),
    ("idle", "idle_seconds", "silence"),
    ("cpu", "cpus", "CPUs"),
    ("memory", "memory_mib", "memory"),
    ("disk", "disk_mib", "disk"),
    ("pids", "pids", "processes"),
)
_NUMBERS: Final = (
    ("max_attempts", "attempts"),
    ("max_files", "changed files"),
    ("max_bytes", "new bytes"),
    ("tokens", "tokens"),
    ("money_microusd", "millionths of a dollar"),
)
_PATTERNS: Final = (("tools", "tools", "tools"), ("hosts", "hosts", "hosts"), ("paths", "paths_allowed", "paths"))


def of(permissions: AgentPermissionSet, repository: str | None) -> Grant:
    """Return the most that a permission set gives."""
    return Grant(
        tools=permissions.tools,
        hosts=permissions.hosts,
        repository=repository,
        paths_allowed=permissions.paths,
        paths_needing_approval=permissions.paths_needing_approval,
        max_files=permissions.max_files,
        max_bytes=permissions.max_bytes,
        limits=permissions.limits.over(values.Limits()),
        max_attempts=permissions.max_attempts,
        tokens=permissions.tokens,
        money_microusd=permissions.money_microusd,
    )


def as_narrowing(permissions: AgentPermissionSet) -> Narrowing:
    """Return a permission set as a cut, for a run whose agent is not chosen yet."""
    limits = permissions.limits.over(values.Limits())
    return Narrowing(
        tools=permissions.tools,
        hosts=permissions.hosts,
        paths=permissions.paths,
        paths_needing_approval=permissions.paths_needing_approval,
        limits=LimitsPart(**{part: getattr(limits, field) for part, field, _ in _LIMITS}),
        max_attempts=permissions.max_attempts,
        max_files=permissions.max_files,
        max_bytes=permissions.max_bytes,
        tokens=permissions.tokens,
        money_microusd=permissions.money_microusd,
    )


def for_repository(grant: Grant, repository: Repository, by: str) -> tuple[Grant, tuple[Reason, ...]]:
    """Return the grant with what a repository asks for."""
    grant, reasons = cut(grant, repository.grant, by)
    grant, more = cut(grant, Narrowing(paths_needing_approval=repository.paths_needing_approval), by)
    return grant.model_copy(update={"paths_protected": repository.protected_paths}), (*reasons, *more)


def cut(grant: Grant, part: Narrowing, by: str) -> tuple[Grant, tuple[Reason, ...]]:
    """Return the grant within ``part``, and a reason for each thing that became less."""
    if not part.model_fields_set:
        return grant, ()
    changes: dict[str, Any] = {}
    reasons: list[Reason] = []
    for name, field, word in _PATTERNS:
        have, wanted = getattr(grant, field), getattr(part, name)
        if wanted is not None and (less := meet(have, wanted)) != have:
            changes[field] = less
            reasons.append(_narrowed(f"{by} allows {_listed(less)} of the {word} {_listed(have)}."))
    for name, word in _NUMBERS:
        have, wanted = getattr(grant, name), getattr(part, name)
        if wanted is not None and (have is None or wanted < have):
            changes[name] = wanted
            instead = "" if have is None else f" instead of {have:,}"
            reasons.append(_narrowed(f"{by} allows {wanted:,} {word}{instead}."))
    limits = dict(_less(grant.limits, part.limits, by, reasons))
    if limits:
        changes["limits"] = grant.limits.model_copy(update=limits)
    more = tuple(path for path in part.paths_needing_approval if path not in grant.paths_needing_approval)
    if more:
        changes["paths_needing_approval"] = grant.paths_needing_approval + more
        reasons.append(_narrowed(f"{by} wants a person to look at changes of {_listed(more)}."))
    return (grant.model_copy(update=changes) if changes else grant), tuple(reasons)


def _less(limits: values.Limits, part: LimitsPart, by: str, reasons: list[Reason]) -> Iterable[tuple[str, float]]:
    for name, field, word in _LIMITS:
        have, wanted = getattr(limits, field), getattr(part, name)
        if wanted is not None and wanted < have:
            reasons.append(
                _narrowed(f"{by} allows {_amount(field, wanted)} of {word} instead of {_amount(field, have)}.")
            )
            yield field, wanted


def _amount(field: str, value: float) -> str:
    if field.endswith("_seconds"):
        return span(value)
    return f"{value:g} MiB" if field.endswith("_mib") else f"{value:g}"


def meet(one: Sequence[str], other: Sequence[str]) -> tuple[str, ...]:
    """Return the patterns of either list that the other list covers whole."""
    kept = [p for p in one if any(resources.covers(q, p) for q in other)]
    kept += [q for q in other if any(resources.covers(p, q) for p in one)]
    return tuple(dict.fromkeys(kept))


def span(seconds: float) -> str:
    """Return a duration as people say it."""
    whole = int(seconds)
    for size, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if whole >= size and whole % size == 0:
            return f"{whole // size} {word}"
    return f"{whole} s"


def _narrowed(sentence: str) -> Reason:
    return Reason(code="grant.narrowed", sentence=sentence)


def _listed(patterns: Sequence[str]) -> str:
    shown = ", ".join(patterns[:5])
    return f"[{shown}{', …' if len(patterns) > 5 else ''}]" if patterns else "none"
