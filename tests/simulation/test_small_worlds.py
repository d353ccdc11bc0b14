"""Small worlds, whole: every order of what can happen, with one misfortune or two that have to do with each other."""

import pytest

from dispatch_common.lifecycle import RunState
from tests.simulation.explorer import Exploration
from tests.simulation.parts import Parts
from tests.simulation.settings import SMALL, setting, small


@pytest.mark.parametrize("name", SMALL)
def test_every_promise_holds_in_every_order(name: str) -> None:
    explored = Exploration(small(name), most=60_000).run()

    assert explored.ends
    assert explored.worlds > 100


def test_without_an_inbox_a_doubled_message_still_breaks_nothing() -> None:
    """The inbox is not the only guard: what is decided twice is decided once."""
    without = setting(parts=Parts(remembers=False), misfortune={"double": 1})

    assert Exploration(without, most=20_000).run().ends


def test_together_the_small_worlds_see_every_state() -> None:
    reached = {state for name in ("bad", "label", "close", "late") for state in Exploration(small(name)).run().states}
    asked = Exploration(small("questions")).run().states
    judged = Exploration(small("approvals of what changes")).run().states

    # Nothing supersedes a run yet.
    assert reached | asked | judged == set(RunState) - {RunState.SUPERSEDED}
