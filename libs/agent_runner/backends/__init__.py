"""The agent CLIs this runner can drive: how each is started, what its output means, and how its end is judged.

A backend knows one CLI and does no input or output of its own. More backends come from the entry points group
``agent_dispatch.backends``: a name, and an object that is a Backend.
"""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Final

from agent_runner.backends.scripted import SCRIPTED
from agent_runner.backends.shape import AgentCommand, AgentVerdict, Backend, Exit, Reader

__all__ = ["AgentCommand", "AgentVerdict", "Backend", "Exit", "Reader", "UnknownBackend", "backend"]

_BUILT_IN: Final[Mapping[str, Backend]] = {"scripted": SCRIPTED}


class UnknownBackend(Exception):
    """There is no backend of this name."""


def backend(name: str) -> Backend:
    """Return the backend of this name, built in or installed beside us."""
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    for entry in entry_points(group="agent_dispatch.backends", name=name):
        return entry.load()
    known = sorted({*_BUILT_IN, *(entry.name for entry in entry_points(group="agent_dispatch.backends"))})
    raise UnknownBackend(f"agent.backend: there is no backend {name!r}. Choose one of {', '.join(known)}.")
