"""Error families: why an attempt or a run did not succeed, and what follows from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class ErrorFamily(StrEnum):
    """One reason of failure. The executor and the publisher choose it; the dispatcher acts on it."""

    CONFIG_INVALID = "config_invalid"
    POLICY_DENIED = "policy_denied"
    APPROVAL_DENIED = "approval_denied"
    APPROVAL_EXPIRED = "approval_expired"
    PREFLIGHT_FAILED = "preflight_failed"
    CLI_MISSING = "cli_missing"
    AUTH_FAILED = "auth_failed"
    QUOTA_EXHAUSTED = "quota_exhausted"
    RATE_LIMITED = "rate_limited"
    PROVIDER_OVERLOADED = "provider_overloaded"
    CONTEXT_TOO_LARGE = "context_too_large"
    MODEL_UNAVAILABLE = "model_unavailable"
    BUDGET_EXCEEDED = "budget_exceeded"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    LOOPING = "looping"
    EMPTY = "empty"
    SANDBOX_VIOLATION = "sandbox_violation"
    SANDBOX_INFRA = "sandbox_infra"
    WORKER_LOST = "worker_lost"
    WORKSPACE_FAILED = "workspace_failed"
    MERGE_CONFLICT = "merge_conflict"
    VERIFICATION_FAILED = "verification_failed"
    PUBLISH_FAILED = "publish_failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    UNKNOWN = "unknown"


class Actor(StrEnum):
    """Who must act before another try can help."""

    NOBODY = "nobody"  #: the system itself, by trying again
    USER = "user"  #: whoever wrote the task
    OPERATOR = "operator"  #: whoever runs this installation
    APPROVER = "approver"


@dataclass(frozen=True, slots=True)
class Treatment:
    """What follows from a family. ``backoff`` is a base in seconds, doubled per failure; 0 means at once."""

    retryable: bool
    consumes_attempt: bool
    backoff: int
    acts: Actor


def _never(acts: Actor) -> Treatment:
    return Treatment(retryable=False, consumes_attempt=True, backoff=0, acts=acts)


def _again(backoff: int, *, free: bool = False) -> Treatment:
    return Treatment(retryable=True, consumes_attempt=not free, backoff=backoff, acts=Actor.NOBODY)


_F = ErrorFamily

TREATMENT: Final[Mapping[ErrorFamily, Treatment]] = MappingProxyType(
    {
        _F.CONFIG_INVALID: _never(Actor.OPERATOR),
        _F.POLICY_DENIED: _never(Actor.APPROVER),
        _F.APPROVAL_DENIED: _never(Actor.APPROVER),
        _F.APPROVAL_EXPIRED: _never(Actor.APPROVER),
        _F.PREFLIGHT_FAILED: _never(Actor.OPERATOR),
        _F.CLI_MISSING: _never(Actor.OPERATOR),
        _F.AUTH_FAILED: _never(Actor.OPERATOR),
        _F.QUOTA_EXHAUSTED: _again(60, free=True),
        _F.RATE_LIMITED: _again(30, free=True),
        _F.PROVIDER_OVERLOADED: _again(30, free=True),
        _F.CONTEXT_TOO_LARGE: _never(Actor.USER),
        _F.MODEL_UNAVAILABLE: _never(Actor.OPERATOR),
        _F.BUDGET_EXCEEDED: _never(Actor.APPROVER),
        _F.TIMEOUT: _again(5),
        _F.STALLED: _again(5),
        _F.LOOPING: _never(Actor.USER),
        _F.EMPTY: _again(5),
        _F.SANDBOX_VIOLATION: _never(Actor.OPERATOR),
        _F.SANDBOX_INFRA: _again(5),
        _F.WORKER_LOST: _again(1),
        _F.WORKSPACE_FAILED: _again(5),
        _F.MERGE_CONFLICT: _again(5),
        _F.VERIFICATION_FAILED: _again(5),
        _F.PUBLISH_FAILED: _never(Actor.OPERATOR),
        _F.CANCELLED: _never(Actor.NOBODY),
        _F.SUPERSEDED: _never(Actor.NOBODY),
        _F.UNKNOWN: _again(5),
    }
)
