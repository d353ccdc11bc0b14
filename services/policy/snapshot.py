"""Today's policies of an org, read again when a resource has changed: from the view resources_current."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from dispatch_common import resources, telemetry
from dispatch_common.db import Tx
from dispatch_common.resources import (
    Agent,
    AgentPermissionSet,
    AgentStack,
    AppliesTo,
    PolicyProfile,
    Repository,
    Spec,
)
from dispatch_common.values import Verdict
from services.policy.question import Policies

_KINDS: Final[Sequence[type[Spec]]] = (Agent, AgentStack, Repository, AgentPermissionSet, PolicyProfile)
_LOOK: Final = """
SELECT clock_timestamp() AS now,
       coalesce(md5(string_agg(kind || '/' || name || '@' || generation, ',' ORDER BY kind, name)), '') AS generation
FROM resources_current WHERE org = $1 AND kind = ANY($2)
"""
_READ: Final = "SELECT kind, name, spec FROM resources_current WHERE org = $1 AND kind = ANY($2)"
#: Stands for a profile that cannot be read any more: nothing passes it without a person.
_UNREADABLE: Final = PolicyProfile(applies_to=AppliesTo(), default=Verdict.ESCALATE)


class Snapshots:
    """Each org's policies, as of the newest generation that was seen."""

    def __init__(self) -> None:
        self._known: dict[str, Policies] = {}

    async def today(self, tx: Tx, org: str) -> tuple[Policies, datetime]:
        """Return the policies that hold in this transaction, and Postgres's clock."""
        kinds = [kind.kind for kind in _KINDS]
        look = await tx.conn.fetchrow(_LOOK, org, kinds)
        known = self._known.get(org)
        if known is None or known.generation != look["generation"]:
            rows = await tx.conn.fetch(_READ, org, kinds)
            known = self._known[org] = policies(rows, look["generation"])
        return known, look["now"]


def policies(rows: Sequence[Any], generation: str) -> Policies:
    """Return the policies in rows. What cannot be read is left out, and that can only make answers stricter."""
    found: dict[str, dict[str, Any]] = {kind.kind: {} for kind in _KINDS}
    for row in rows:
        kind = resources.KINDS[row["kind"]]
        try:
            found[kind.kind][row["name"]] = resources.stored(kind, row["spec"])
        except ValidationError as error:
            telemetry.log.error("a resource cannot be read", kind=kind.kind, name=row["name"], reason=str(error))
            if kind is PolicyProfile:
                found[kind.kind][row["name"]] = _UNREADABLE
    return Policies(
        agents=found[Agent.kind],
        stacks=found[AgentStack.kind],
        repositories=found[Repository.kind],
        permission_sets=found[AgentPermissionSet.kind],
        profiles=found[PolicyProfile.kind],
        generation=generation,
    )
