"""The generated tables of docs/ and its diagram: settings, facts, error families, metrics, states."""

import importlib
import pkgutil
from collections.abc import Iterable, Sequence
from typing import Any, Final

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase
from pydantic.fields import FieldInfo

import dispatch_common
import services
from dispatch_common import lifecycle
from dispatch_common.events import FACTS
from dispatch_common.families import TREATMENT
from dispatch_common.settings import Settings
from services.cli.contracts import FOR_PEOPLE, NOT_SAID_YET, Charter

#: Defaults that depend on the machine, said in words.
_IN_WORDS: Final = {
    "data": "`$XDG_DATA_HOME/agent-dispatch`, else `~/.local/share/agent-dispatch`",
    "kek_file": "`$XDG_CONFIG_HOME/agent-dispatch/master.key`, else `~/.config/…`",
    "executor_name": "the host's name",
}


def states() -> str:
    """Return the state diagram, as a block that code hosts draw."""
    return f"```mermaid\n{lifecycle.mermaid()}\n```"


def settings() -> str:
    """Return the table of all settings."""
    rows = ((f"`DISPATCH_{name.upper()}`", _default(name, field), _meaning(name, field)) for name, field in _settings())
    return table(("variable", "default", "meaning"), rows)


def _settings() -> Iterable[tuple[str, FieldInfo]]:
    return Settings.model_fields.items()


def _default(name: str, field: FieldInfo) -> str:
    if name in _IN_WORDS:
        return _IN_WORDS[name]
    default: Any = field.get_default(call_default_factory=True, validated_data={})
    return "(empty)" if default in ("", None) else f"`{default}`"


def _meaning(name: str, field: FieldInfo) -> str:
    if not field.description:
        raise ValueError(f"Settings.{name}: has no description. Say in Field(description=...) what it does.")
    return field.description


def families() -> str:
    """Return the table of error families."""
    rows = (
        (
            f"`{family.value}`",
            "yes" if what.retryable else "no",
            "yes" if what.consumes_attempt else "no",
            (f"from {what.backoff} s" if what.backoff else "at once") if what.retryable else "",
            what.acts.value,
        )
        for family, what in TREATMENT.items()
    )
    return table(("family", "tried again", "uses up an attempt", "wait", "who must act"), rows)


def facts(known: Sequence[Charter]) -> str:
    """Return the table of facts with who says and who hears them."""
    rows: list[tuple[str, str, str, str]] = []
    for fact in sorted(FACTS.values(), key=lambda each: each.type):
        says = ", ".join(charter.service for charter in known if fact in charter.says)
        says = says or f"nobody yet: {NOT_SAID_YET.get(fact.__name__)}"
        hears = ", ".join(charter.service for charter in known if fact in charter.hears)
        heard = hears or f"people: {FOR_PEOPLE.get(fact.__name__)}"
        rows.append((f"[{fact.__name__}](events/{fact.type}.schema.json)", says, heard, (fact.__doc__ or "").strip()))
    return table(("fact", "said by", "heard by", "meaning"), rows)


def metrics() -> str:
    """Return the table of the metrics that any of our modules registers."""
    for package in (dispatch_common, services):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations." not in module.name and not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    rows = ((f"`{each.name}`", each.kind, each.labels, each.text) for each in sorted(_metrics(), key=str))
    return table(("metric", "kind", "labels", "meaning"), rows)


class _Metric:
    """What a collector says of itself."""

    def __init__(self, collector: MetricWrapperBase) -> None:
        described = next(iter(collector.describe()))
        self.kind = described.type
        self.name = described.name + ("_total" if self.kind == "counter" else "")
        self.text = described.documentation
        self.labels = ", ".join(getattr(collector, "_labelnames", ())) or "none"

    def __str__(self) -> str:
        return self.name


def _metrics() -> Iterable[_Metric]:
    collectors: Iterable[object] = getattr(REGISTRY, "_collector_to_names", {})
    for collector in collectors:
        if isinstance(collector, MetricWrapperBase):
            metric = _Metric(collector)
            if metric.name.startswith("dispatch_"):
                yield metric


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a bar or a line break inside a cell does not break it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
