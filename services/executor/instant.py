"""Launchers that end an attempt the moment they hear of it: no process, no socket, no workspace. For benchmarks."""

from collections.abc import Sequence
from typing import Protocol

from typing_extensions import TypeIs

from dispatch_common.events import AttemptRequested
from services.executor.attempt import Answer
from services.executor.launchers import Launcher


class InstantLauncher(Protocol):
    """Answers a batch of requests at once, inside the transaction that takes them. Does no input or output."""

    instant: bool

    def answers(self, asked: Sequence[AttemptRequested]) -> Sequence[Answer]:
        """Return one answer per request, in order."""
        ...


AnyLauncher = Launcher | InstantLauncher


def is_instant(launcher: AnyLauncher) -> TypeIs[InstantLauncher]:
    """Return whether attempts of this launcher are over as soon as they are accepted."""
    return getattr(launcher, "instant", False)
