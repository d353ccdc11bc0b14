"""Explores worlds: small ones whole, larger ones along seeded walks that end in a calm time."""

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from dispatch_common.errors import DispatchError
from dispatch_common.invariants import AT_REST, Broken, broken
from dispatch_common.lifecycle import RunState
from tests.simulation.canon import key as key_of
from tests.simulation.machine import begin, misfortunes, ordinary, patience, perform
from tests.simulation.seen import snapshot
from tests.simulation.story import Trace, story
from tests.simulation.world import Action, Setting, World

_MOST_CALM = 20_000


class BrokenPromise(AssertionError):
    """A promise does not hold, and the shortest way there that was found."""

    def __init__(self, what: str, trace: Trace) -> None:
        super().__init__(what)
        self.what = what
        self.trace = trace

    def __str__(self) -> str:
        name = "careful" if self.trace.setting.careful else "large"
        seed = self.trace.seed
        again = "" if seed is None else f"\nreplay: python -m tests.simulation --seed {seed} --world {name}"
        return f"{self.what}{again}\n{story(self.trace)}"


def step(world: World, action: Action, trace: Trace) -> World:
    """Perform one action and judge what came of it, even in a known world: its history may be another."""
    try:
        after = perform(world, action)
        bad = broken(snapshot(after), trace.setting.promises)
    except (AssertionError, DispatchError) as error:
        raise BrokenPromise(f"{type(error).__name__}: {error}", trace.with_one_more(action)) from error
    if bad:
        raise BrokenPromise(_told(bad), trace.with_one_more(action))
    return after


def _told(bad: tuple[Broken, ...]) -> str:
    return "; ".join(str(each) for each in bad)


# --- the calm time ---


def calm_step(world: World) -> Action | None:
    """Return what happens next when nothing goes wrong any more, None when everything is at rest."""
    first = ordinary(world)
    if first:
        return first[0]
    frozen = [attempt_id for attempt_id, it in world.supervisors.items() if it.is_frozen]
    if frozen:
        return ("wake", frozen[0])
    waits = patience(world)
    return waits[0] if waits else None


def calm_down(world: World, trace: Trace) -> World:
    """Let everything come to its end."""
    for _ in range(_MOST_CALM):
        action = calm_step(world)
        if action is None:
            bad = broken(snapshot(world), AT_REST)
            if bad:
                raise BrokenPromise(_told(bad), trace)
            return world
        world = step(world, action, trace)
        trace.actions.append(action)
    raise BrokenPromise("everything ended: it goes on for ever", trace)


# --- small worlds, whole ---


@dataclass(frozen=True)
class Explored:
    """What was seen of a small world."""

    worlds: int
    steps: int
    ends: int
    states: frozenset[RunState]


class Exploration:
    """Breadth first over worlds that differ, so that the first broken promise is told by a shortest story."""

    def __init__(self, setting: Setting, *, most: int = 1_000_000) -> None:
        self._setting = setting
        self._most = most
        self._came: dict[int, tuple[int, Action] | None] = {}
        self._calm: dict[int, int] = {}
        self._ended: set[int] = set()
        self._steps = 0
        self._states: set[RunState] = set()

    def run(self) -> Explored:
        start = begin(World(self._setting))
        self._came[key_of(start)] = None
        todo = deque([start])
        while todo:
            world = todo.popleft()
            todo.extend(self._successors(world))
        self._everything_calms_down()
        return Explored(len(self._came), self._steps, len(self._ended), frozenset(self._states))

    def _successors(self, world: World) -> Iterator[World]:
        key = key_of(world)
        trace = Trace(self._setting)
        calm = calm_step(world)
        if calm is None:
            self._ends(world, key)
        free = ordinary(world) or patience(world)
        actions: list[Action] = [*free, *misfortunes(world), *([calm] if calm and calm not in free else [])]
        for action in actions:
            self._steps += 1
            try:
                after = step(world, action, trace)
            except BrokenPromise as error:
                raise BrokenPromise(error.what, self._trace(key, action)) from error.__cause__
            after_key = key_of(after)
            if action == calm:
                self._calm[key] = after_key
            if after_key not in self._came:
                self._came[after_key] = (key, action)
                self._states.update(run.state for run in after.runs.values())
                assert len(self._came) <= self._most, f"more than {self._most} worlds"
                yield after

    def _ends(self, world: World, key: int) -> None:
        self._ended.add(key)
        bad = broken(snapshot(world), AT_REST)
        if bad:
            raise BrokenPromise(_told(bad), self._trace(key))

    def _everything_calms_down(self) -> None:
        """Follow the calm way of every world: it ends."""
        good = set(self._ended)
        for key in self._calm:
            way: list[int] = []
            while key not in good:
                way.append(key)
                good.add(key)
                key = self._calm[key]
            if key in way:
                raise BrokenPromise("everything ended: it goes round in a circle", self._trace(key))

    def _trace(self, key: int, *last: Action) -> Trace:
        actions: list[Action] = list(last)
        came = self._came[key]
        while came is not None:
            actions.insert(0, came[1])
            came = self._came[came[0]]
        return Trace(self._setting, actions)


# --- larger worlds, at random ---


def walk(setting: Setting, seed: int, steps: int) -> Trace:
    """Take a seeded walk through misfortune, then let the world calm down. The same seed takes the same walk."""
    chance = random.Random(seed)
    world = begin(World(setting))
    trace = Trace(setting, seed=seed)
    for _ in range(steps):
        action = _chosen(world, chance)
        if action is None:
            break
        world = step(world, action, trace)
        trace.actions.append(action)
    calm_down(world, trace)
    return trace


def _chosen(world: World, chance: random.Random) -> Action | None:
    """Mostly what happens anyway, in any order; sometimes a misfortune."""
    ordinarily, wrong = ordinary(world), misfortunes(world)
    if wrong and chance.random() < 0.15:
        verbs = sorted({action[0] for action in wrong})
        verb = chance.choice(verbs)
        return chance.choice([action for action in wrong if action[0] == verb])
    if ordinarily:
        return chance.choice(ordinarily)
    waits = patience(world)
    return waits[0] if waits else None
