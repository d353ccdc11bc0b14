"""The worlds that are explored: each small one asks one question, the large ones ask all at once."""

from dataclasses import replace
from functools import cache
from typing import Any, Final

from services.policy.question import Policies
from tests.simulation.parts import Parts
from tests.simulation.world import Setting
from tests.support.policies import resource

_LARGE_MISFORTUNE: Final = {
    "lose": 6, "double": 4, "forget": 2, "recall": 2, "late": 8, "crash": 4, "die": 3, "freeze": 3, "deaf": 4,
    "timeout": 4, "bad": 6, "ask": 2, "answer": 2, "edit": 3, "close": 1, "reopen": 1, "label": 4, "comment": 4,
    "cancel": 2, "consent": 6,
}  # fmt: skip
_EVERY_OUTCOME: Final = ("clean", "guarded", "refused", "nothing", "fails", "waits for quota", "breaks")


@cache
def policies(*, careful: bool) -> Policies:
    """Two coders, one repository; policy wants a person for every launch, or for none."""
    agent = {"role": "coder", "backend": "scripted", "permissionSet": "standard", "profile": "all"}
    profile = {"default": "escalate" if careful else "allow", "expiresAfter": 600}
    limits = {"wall": 600, "idle": 600}
    made = [
        resource("Agent", "vega", **agent),
        resource("Agent", "lyra", **{**agent, "role": "docs"}),
        resource("Repository", "sample", url="/srv/sample.git"),
        resource("AgentPermissionSet", "standard", repositories=["*"], maxAttempts=2, limits=limits),
        resource("PolicyProfile", "all", **profile),
    ]
    kinds: dict[str, dict[str, Any]] = {}
    for each in made:
        kinds.setdefault(each.kind, {})[each.name] = each.spec
    return Policies(
        agents=kinds["Agent"],
        repositories=kinds["Repository"],
        permission_sets=kinds["AgentPermissionSet"],
        profiles=kinds["PolicyProfile"],
        generation="1",
    )


def setting(*, careful: bool = False, parts: Parts | None = None, **changes: Any) -> Setting:
    misfortune = tuple(sorted(changes.pop("misfortune", {}).items()))
    return Setting(
        careful=careful,
        policies=policies(careful=careful),
        misfortune=misfortune,
        parts=parts or Parts(),
        **changes,
    )


TWO: Final = (("one", ("coder",)), ("two", ("coder",)))


def small(name: str, parts: Parts | None = None) -> Setting:
    """One task (or two) and one slot; a few misfortunes of a kind."""
    return setting(parts=parts, **{**SMALL, **LONG}[name])


#: One misfortune of every kind, alone; and those together that have something to do with each other.
SMALL: Final[dict[str, dict[str, Any]]] = {
    **{
        each: {"misfortune": {each: 1}, "outcomes": _EVERY_OUTCOME}
        for each in (
            "lose",
            "double",
            "late",
            "crash",
            "die",
            "freeze",
            "deaf",
            "timeout",
            "cancel",
            "edit",
            "close",
            "label",
            "bad",
        )
    },
    "the broker forgets": {"misfortune": {"forget": 1, "recall": 1}},
    "lost and late": {"misfortune": {"lose": 1, "late": 1}},
    "lost cancel": {"misfortune": {"lose": 1, "cancel": 1}},
    "late cancel": {"misfortune": {"late": 1, "cancel": 1}},
    "dead and late": {"misfortune": {"die": 1, "late": 1}},
    "closed and reopened": {"misfortune": {"close": 1, "reopen": 1}},
    "publisher": {"misfortune": {"timeout": 1, "crash": 1, "cancel": 1}},
    "tracker": {"provider": "plane", "misfortune": {"timeout": 1, "crash": 1}},
    "approvals": {"careful": True, "misfortune": {"consent": 1}},
    "approvals of what changes": {"careful": True, "misfortune": {"edit": 1}},
    "guarded results": {"outcomes": ("clean", "guarded"), "misfortune": {"bad": 1, "consent": 1}},
    "questions": {"misfortune": {"ask": 1, "answer": 1}},
    "two tasks": {"items": TWO, "outcomes": ("nothing",)},
    "two tasks, one dies": {"items": TWO, "outcomes": ("nothing",), "misfortune": {"die": 1}},
}
#: The same for a patient person: minutes each.
LONG: Final[dict[str, dict[str, Any]]] = {
    "two tasks, to the end": {"items": TWO},
    "label off and on": {"misfortune": {"label": 2}},
    "approvals that cross changes": {"careful": True, "misfortune": {"consent": 1, "edit": 1}},
    "answers that come late": {"misfortune": {"ask": 1, "answer": 1, "late": 1}},
    "guarded results and cancels": {
        "outcomes": ("clean", "guarded"),
        "misfortune": {"bad": 1, "consent": 1, "cancel": 1},
    },
    "two tasks, one cancelled": {"items": TWO, "outcomes": ("nothing",), "misfortune": {"cancel": 1}},
    "two tasks, one lost message": {"items": TWO, "outcomes": ("nothing",), "misfortune": {"lose": 1}},
}


def large(parts: Parts | None = None) -> Setting:
    """Five tasks in two roles, three agents, everything can go wrong."""
    return setting(
        parts=parts,
        slots=(("vega", 1, "coder"), ("rigel", 1, "coder"), ("lyra", 1, "docs")),
        items=(*TWO, ("three", ("docs",)), ("four", ("coder", "docs")), ("five", ("coder",))),
        provider="plane",
        outcomes=_EVERY_OUTCOME,
        misfortune=_LARGE_MISFORTUNE,
    )


def careful(parts: Parts | None = None) -> Setting:
    """The same with an approval for everything."""
    return replace(large(parts), careful=True, policies=policies(careful=True))
