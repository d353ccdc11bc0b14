"""How an attempt ended: from what its supervisor reports and what the gateway itself recorded. PURE.

The gateway's own record goes before the supervisor's words, and those before the agent's: an agent that says "done"
after its budget was cut is not done.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from agent_runner.protocol import Blob, Outcome, ResultReport, UsageReport
from dispatch_common.events import AttemptOutcome
from dispatch_common.families import TREATMENT, Actor, ErrorFamily
from dispatch_common.values import BlobRef, ResultRef, Usage
from services.executor.attempt import Answer

_F = ErrorFamily

#: What can go wrong in an attempt. Other families belong to other services; a report that names one is not believed.
OF_ATTEMPTS: Final = frozenset(
    {
        _F.CONFIG_INVALID,
        _F.PREFLIGHT_FAILED,
        _F.CLI_MISSING,
        _F.AUTH_FAILED,
        _F.QUOTA_EXHAUSTED,
        _F.RATE_LIMITED,
        _F.PROVIDER_OVERLOADED,
        _F.CONTEXT_TOO_LARGE,
        _F.MODEL_UNAVAILABLE,
        _F.BUDGET_EXCEEDED,
        _F.TIMEOUT,
        _F.STALLED,
        _F.LOOPING,
        _F.EMPTY,
        _F.SANDBOX_VIOLATION,
        _F.SANDBOX_INFRA,
        _F.WORKER_LOST,
        _F.WORKSPACE_FAILED,
    }
)

_NEXT: Final[Mapping[ErrorFamily, str]] = MappingProxyType(
    {
        _F.CONFIG_INVALID: "Correct the Agent resource it names and apply it again.",
        _F.CLI_MISSING: "Install the agent's command on the executor's host; see: dispatch doctor",
        _F.AUTH_FAILED: "Give the agent a working credential; see: dispatch doctor",
        _F.CONTEXT_TOO_LARGE: "Make the task or its files smaller.",
        _F.MODEL_UNAVAILABLE: "Choose a model that the grant and the provider allow.",
        _F.BUDGET_EXCEEDED: "Raise the budget in the AgentPermissionSet, or make the task smaller.",
        _F.TIMEOUT: "Raise limits.wall_seconds in the AgentPermissionSet, or make the task smaller.",
        _F.STALLED: "Raise limits.idle_seconds in the AgentPermissionSet, or look at what it waited for.",
        _F.LOOPING: "Say in the task what is missing.",
        _F.EMPTY: "Say in the task what a result looks like.",
        _F.SANDBOX_VIOLATION: "Allow it in the AgentPermissionSet if it is wanted.",
        _F.SANDBOX_INFRA: "Look at: dispatch doctor",
        _F.WORKSPACE_FAILED: "Look at the repository's address and branch; see: dispatch doctor",
    }
)
_BY_ACTOR: Final[Mapping[Actor, str]] = MappingProxyType(
    {
        Actor.NOBODY: "It is tried again by itself.",
        Actor.USER: "Change the task and ask again.",
        Actor.OPERATOR: "An operator must mend the installation; see: dispatch doctor",
        Actor.APPROVER: "An approver must allow more.",
    }
)


@dataclass(frozen=True, slots=True)
class Record:
    """What the gateway itself knows of an attempt. It cannot be talked into anything.

    ``cut``: why the gateway ended the agent's means (budget, model, quota), with the sentence for people.
    """

    stop: str | None = None
    cut: ErrorFamily | None = None
    cut_sentence: str = ""
    retry_at: datetime | None = None
    spoke: bool = False  #: at least one event of the agent arrived
    input_tokens: int = 0
    output_tokens: int = 0
    money_microusd: int | None = None


def outcome(report: ResultReport | None, record: Record) -> Answer:
    """Return how the attempt ended. No report means that its supervisor died."""
    if report is None:
        return failed(_F.WORKER_LOST, "Its supervisor died, and nothing of the attempt lives any more.")
    usage = _usage(report.usage, record)
    result = _result(report, usage)
    if report.outcome is Outcome.STOPPED:
        return Answer(AttemptOutcome.STOPPED, record.stop or report.sentence, result=result, usage=usage)
    family, sentence = _went_wrong(report, record)
    if family is None:
        return Answer(AttemptOutcome.SUCCEEDED, sentence, result=result, usage=usage)
    return failed(family, sentence, result=result, usage=usage, retry_at=record.retry_at)


def failed(
    family: ErrorFamily,
    sentence: str,
    *,
    result: ResultRef | None = None,
    usage: Usage | None = None,
    retry_at: datetime | None = None,
) -> Answer:
    """Return the answer of a failure, with what a person can do about it."""
    return Answer(
        AttemptOutcome.FAILED,
        sentence,
        family,
        next_action(family),
        result=result,
        usage=usage or Usage(),
        retry_at=retry_at,
    )


def next_action(family: ErrorFamily) -> str:
    """Return what helps against a family, as a sentence for people."""
    return _NEXT.get(family, _BY_ACTOR[TREATMENT[family].acts])


def _went_wrong(report: ResultReport, record: Record) -> tuple[ErrorFamily | None, str]:
    if record.cut is not None:
        return record.cut, record.cut_sentence or report.sentence
    if report.outcome is Outcome.FAILED:
        return _believed(report.family), _with_exit(report)
    if (report.commit is None) != (report.bundle is None):
        return _F.WORKSPACE_FAILED, "What the agent committed and what was bundled do not fit together."
    if report.commit is None and not report.summary.strip() and not record.spoke:
        return _F.EMPTY, "The agent ended without a change and without a word."
    return None, report.sentence


def _believed(family: str | None) -> ErrorFamily:
    try:
        named = ErrorFamily(family or "")
    except ValueError:
        return _F.UNKNOWN
    return named if named in OF_ATTEMPTS else _F.UNKNOWN


def _with_exit(report: ResultReport) -> str:
    if report.sentence:
        return report.sentence
    if report.signal is not None:
        return f"The agent was killed by signal {report.signal}."
    return f"The agent ended with exit code {report.exit_code}."


def _usage(reported: UsageReport, record: Record) -> Usage:
    metered = record.input_tokens or record.output_tokens
    return Usage(
        wall_ms=reported.wall_ms,
        cpu_ms=reported.cpu_ms,
        peak_memory_mib=reported.peak_memory_mib,
        input_tokens=record.input_tokens if metered else reported.input_tokens,
        output_tokens=record.output_tokens if metered else reported.output_tokens,
        money_microusd=record.money_microusd if metered else reported.money_microusd,
    )


def _result(report: ResultReport, usage: Usage) -> ResultRef:
    return ResultRef(
        base_commit=report.base_commit or "",
        commit=report.commit,
        bundle=_ref(report.bundle),
        manifest=_ref(report.manifest),
        stdout=_ref(report.stdout),
        stderr=_ref(report.stderr),
        summary=report.summary,
        files_changed=report.files_changed,
        usage=usage,
    )


def _ref(blob: Blob | None) -> BlobRef | None:
    return None if blob is None else BlobRef(digest=blob.digest, size=blob.size)
