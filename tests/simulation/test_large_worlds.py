"""Larger worlds, at random: five tasks, three agents, everything goes wrong, and a calm time in which all must end."""

from collections import Counter

import pytest

from tests.simulation.__main__ import LARGE, STEPS, main
from tests.simulation.explorer import BrokenPromise, walk
from tests.simulation.parts import Parts
from tests.simulation.planted import never_looks_again
from tests.simulation.settings import large
from tests.simulation.story import story

WALKS = 120
ALWAYS_SEEN = {
    "lose",
    "double",
    "forget",
    "recall",
    "late",
    "crash",
    "die",
    "freeze",
    "wake",
    "renew unheard",
    "cancel",
}


@pytest.mark.parametrize("name", LARGE)
def test_every_promise_holds_along_every_walk(name: str) -> None:
    happened: Counter[str] = Counter()
    for seed in range(WALKS):
        trace = walk(LARGE[name](), seed, STEPS)
        happened.update(action[0] for action in trace.actions)

    assert set(happened) >= ALWAYS_SEEN


def test_the_same_seed_takes_the_same_walk() -> None:
    assert walk(large(), 7, STEPS).actions == walk(large(), 7, STEPS).actions


def test_a_broken_promise_tells_its_story_and_its_seed() -> None:
    with pytest.raises(BrokenPromise) as told:
        walk(large(Parts(decide=never_looks_again)), 7, STEPS)

    assert "nothing will ever move" in str(told.value)
    assert "--seed 7 --world large" in str(told.value)
    assert "   1. 08:00:00 deliver" in str(told.value)


def test_a_seed_can_be_replayed_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "3", "--steps", "50"]) == 0

    assert capsys.readouterr().out.startswith(story(walk(large(), 3, 50))[:200])
