"""The states of a run and every legal step between them: the only list of them.

The database CHECK, the diagram in docs/architecture.md and the walk test are made from this table.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from dispatch_common.errors import IllegalStep


class RunState(StrEnum):
    """Where a run stands. Only the dispatcher moves it."""

    REQUESTED = "requested"  #: known; policy has not answered
    AWAITING_APPROVAL = "awaiting_approval"  #: policy wants a person
    QUEUED = "queued"  #: allowed; waits for a free slot
    ASSIGNED = "assigned"  #: holds a slot; the executor was asked
    PREPARING = "preparing"  #: the executor took it: mirror, workspace, context
    RUNNING = "running"  #: the agent's process is alive
    AWAITING_ANSWER = "awaiting_answer"  #: the agent asked a person; keeps its slot for a grace period
    VERIFYING = "verifying"  #: the attempt ended with a result; it is being imported and checked
    PUBLISHING = "publishing"  #: accepted; branch, pull request and work item are being written
    PARKED = "parked"  #: waits for a quota, a budget or a backoff; holds no slot
    CANCELLING = "cancelling"  #: a stop was asked and is not confirmed
    COMPLETED = "completed"
    FAILED = "failed"
    DENIED = "denied"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


_S = RunState

TERMINAL: Final = frozenset({_S.COMPLETED, _S.FAILED, _S.DENIED, _S.CANCELLED, _S.SUPERSEDED})
#: States in which an attempt may be alive, so the run holds its slot.
HOLDS_SLOT: Final = frozenset({_S.ASSIGNED, _S.PREPARING, _S.RUNNING, _S.AWAITING_ANSWER})
#: States in which nothing runs yet: a changed task sends the run back to policy, a cancel ends it at once.
FOLLOWS_TASK: Final = frozenset({_S.REQUESTED, _S.AWAITING_APPROVAL, _S.QUEUED, _S.PARKED})
#: States in which the publisher may be writing to the outside.
IN_PUBLISHER: Final = frozenset({_S.VERIFYING, _S.PUBLISHING})

_AFTER_AN_ATTEMPT: Final = frozenset({_S.VERIFYING, _S.QUEUED, _S.PARKED, _S.FAILED, _S.CANCELLING, _S.CANCELLED})

NEXT: Final[Mapping[RunState, frozenset[RunState]]] = MappingProxyType(
    {
        # PUBLISHING: a result that waited for approval was judged again and allowed; no agent runs twice for it.
        _S.REQUESTED: frozenset(
            {_S.AWAITING_APPROVAL, _S.QUEUED, _S.PUBLISHING, _S.DENIED, _S.FAILED, _S.CANCELLED, _S.SUPERSEDED}
        ),
        _S.AWAITING_APPROVAL: frozenset({_S.REQUESTED, _S.DENIED, _S.CANCELLED, _S.SUPERSEDED}),
        _S.QUEUED: frozenset({_S.ASSIGNED, _S.REQUESTED, _S.CANCELLED, _S.SUPERSEDED}),
        _S.ASSIGNED: _AFTER_AN_ATTEMPT | {_S.PREPARING, _S.RUNNING, _S.AWAITING_ANSWER},
        _S.PREPARING: _AFTER_AN_ATTEMPT | {_S.RUNNING, _S.AWAITING_ANSWER},
        _S.RUNNING: _AFTER_AN_ATTEMPT | {_S.AWAITING_ANSWER},
        _S.AWAITING_ANSWER: _AFTER_AN_ATTEMPT | {_S.RUNNING},
        _S.VERIFYING: frozenset({_S.PUBLISHING, _S.QUEUED, _S.PARKED, _S.COMPLETED, _S.FAILED, _S.CANCELLING}),
        _S.PUBLISHING: frozenset({_S.AWAITING_APPROVAL, _S.COMPLETED, _S.FAILED, _S.CANCELLING}),
        _S.PARKED: frozenset({_S.QUEUED, _S.REQUESTED, _S.CANCELLED, _S.SUPERSEDED}),
        # COMPLETED: the stop came after the last effect; the truth is that it is done.
        _S.CANCELLING: frozenset({_S.CANCELLED, _S.COMPLETED, _S.SUPERSEDED}),
        **{state: frozenset() for state in TERMINAL},
    }
)


def step(source: RunState, to: RunState) -> RunState:
    """Return ``to``, or raise IllegalStep. Everything that changes a state calls this."""
    if to not in NEXT[source]:
        raise IllegalStep(source=source, to=to)
    return to


def sql_list(states: Iterable[RunState] = RunState) -> str:
    """Return states as a quoted SQL list, in the order of the enum."""
    wanted = frozenset(states)
    return ", ".join(f"'{state.value}'" for state in RunState if state in wanted)


def mermaid() -> str:
    """Return the state diagram, as docs/architecture.md shows it."""
    lines = ["stateDiagram-v2", "    [*] --> requested"]
    for source in RunState:
        lines += [f"    {source.value} --> {to.value}" for to in RunState if to in NEXT[source]]
    lines += [f"    {state.value} --> [*]" for state in RunState if state in TERMINAL]
    return "\n".join(lines)
