"""Small worlds, whole: every order of what can happen, with one misfortune or two that have to do with each other."""

from functools import cache

import pytest

from dispatch_common.lifecycle import RunState
from tests.simulation.explorer import Exploration, Explored
from tests.simulation.parts import Parts
from tests.simulation.settings import SMALL, setting, small


@cache
def explored(name: str) -> Explored:
    """Explore a small world once for all tests."""
    return Exploration(small(name), most=60_000).run()


@pytest.mark.parametrize("name", SMALL)
def test_every_promise_holds_in_every_order(name: str) -> None:
    assert explored(name).ends
    assert explored(name).worlds > 100


def test_together_the_small_worlds_see_every_state() -> None:
    seen = {state for name in SMALL for state in explored(name).states}

    # Nothing supersedes a run yet.
    assert seen == set(RunState) - {RunState.SUPERSEDED}


def test_without_an_inbox_a_doubled_message_still_breaks_nothing() -> None:
    """The inbox is not the only guard: what is decided twice is decided once."""
    without = setting(parts=Parts(remembers=False), misfortune={"double": 1})

    assert Exploration(without, most=20_000).run().ends
