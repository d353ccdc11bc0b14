"""Resources: what people apply to say who works on what, when, and with what permission. Others import this module.

The kinds are in ``resources_spec`` and ``resources_grants``, reading YAML in ``resources_yaml``, references in
``resources_check``. Writes nothing: the console stores resources; others read the view ``resources_current``.
"""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import orjson

from dispatch_common.resources_check import check
from dispatch_common.resources_grants import (
    AgentPermissionSet,
    AppliesTo,
    LimitsPart,
    Narrowing,
    PolicyProfile,
    Rule,
)
from dispatch_common.resources_spec import (
    API_VERSION,
    KINDS,
    Agent,
    AgentStack,
    AgentStatus,
    MinimumRole,
    Project,
    Provider,
    Repository,
    Source,
    TriggerEvent,
    TriggerRule,
    as_json,
)
from dispatch_common.resources_types import Part, Spec, covers, matches
from dispatch_common.resources_yaml import Problem, Resource, ResourceErrors, load, parse_spec, read

__all__ = [
    "API_VERSION",
    "KINDS",
    "Agent",
    "AgentPermissionSet",
    "AgentStack",
    "AgentStatus",
    "AppliesTo",
    "LimitsPart",
    "MinimumRole",
    "Narrowing",
    "Part",
    "PolicyProfile",
    "Problem",
    "Project",
    "Provider",
    "Repository",
    "Resource",
    "ResourceErrors",
    "Rule",
    "Source",
    "Spec",
    "TriggerEvent",
    "TriggerRule",
    "as_json",
    "check",
    "covers",
    "json_schemas",
    "load",
    "load_all",
    "matches",
    "parse_spec",
    "read",
    "stored",
]

S = TypeVar("S", bound=Spec)


class Fetches(Protocol):
    """What can run a query: a Db, or the connection of a transaction."""

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Any]:
        """Return the rows."""
        ...


async def load_all(source: Fetches, kind: type[S], *, org: str = "default") -> dict[str, S]:
    """Return the current resources of a kind by name. Takes a Db, a connection, or a Tx (which has one)."""
    reader: Fetches = getattr(source, "conn", source)
    rows = await reader.fetch("SELECT name, spec FROM resources_current WHERE org = $1 AND kind = $2", org, kind.kind)
    return {row["name"]: stored(kind, row["spec"]) for row in rows}


def stored(kind: type[S], spec: Any) -> S:
    """Return a stored spec. What was accepted once stays readable: its fields are not judged again in strict mode."""
    return kind.model_validate(orjson.loads(spec) if isinstance(spec, str | bytes) else spec)


def json_schemas() -> dict[str, str]:
    """Return the JSON Schema of every kind as a file name and its text, as docs/resources keeps them."""
    schemas: dict[str, str] = {}
    for kind, cls in KINDS.items():
        head = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": kind,
            "type": "object",
            "required": ["apiVersion", "kind", "metadata", "spec"],
            "properties": {
                "apiVersion": {"const": API_VERSION},
                "kind": {"const": kind},
                "metadata": {"type": "object", "required": ["name"]},
                "spec": {"$ref": "#/$defs/spec"},
            },
        }
        body = cls.model_json_schema(by_alias=True)
        body.pop("title", None)
        nested = body.pop("$defs", {})
        document = {**head, "$defs": {"spec": body, **nested}}
        text = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode()
        schemas[f"{cls.plural}.schema.json"] = f"{text}\n"
    return schemas
