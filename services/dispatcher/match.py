"""Which waiting run gets which free slot: role, then the wanted agent, then relevant skills, then the least load.

Pure. Lines are the queues of ``Run.line``; a busy line never blocks another.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Waiting:
    """A queued run. ``rank`` counts from 0 within its project, so that projects take turns."""

    run_id: UUID
    line: str
    project: str
    skills: frozenset[str]
    sort_key: int
    rank: int = 0

    @property
    def role(self) -> str:
        return self.line.partition("@")[0]

    @property
    def agent(self) -> str | None:
        return self.line.partition("@")[2] or None


@dataclass(frozen=True, slots=True)
class FreeSlot:
    """A free slot of an active agent; ``load`` is how many of the agent's slots are taken."""

    agent: str
    number: int
    role: str
    skills: frozenset[str]
    load: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """A run and the slot it gets, with the reason."""

    waiting: Waiting
    slot: FreeSlot
    sentence: str


def match(waiting: Iterable[Waiting], slots: Sequence[FreeSlot]) -> tuple[Assignment, ...]:
    """Pair runs with slots. Each run and each slot is used at most once; the first in turn chooses first."""
    free = list(slots)
    taken: Counter[str] = Counter()
    pairs: list[Assignment] = []
    for run in sorted(waiting, key=lambda w: (w.rank, w.sort_key, w.run_id)):
        fitting = [slot for slot in free if slot.role == run.role and run.agent in (None, slot.agent)]
        if not fitting:
            continue
        best = min(fitting, key=lambda s: (-len(s.skills & run.skills), s.load + taken[s.agent], s.agent, s.number))
        free.remove(best)
        taken[best.agent] += 1
        pairs.append(Assignment(run, best, _sentence(run, best, len({slot.agent for slot in fitting}))))
    return tuple(pairs)


def _sentence(run: Waiting, slot: FreeSlot, agents: int) -> str:
    shared = sorted(slot.skills & run.skills)
    if run.agent is not None:
        return f"{slot.agent} was asked for and has a free slot."
    if shared:
        return f"{slot.agent} takes it: role {run.role}, skilled in {', '.join(shared)}."
    if agents > 1:
        return f"{slot.agent} takes it: role {run.role}, least loaded of {agents}."
    return f"{slot.agent} takes it: role {run.role}."
