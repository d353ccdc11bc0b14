"""Every promise of the invariants notices a bug that was planted for it."""

import pytest

from dispatch_common.invariants import ALWAYS
from tests.simulation.explorer import BrokenPromise, Exploration
from tests.simulation.planted import PLANTED


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_noticed(name: str) -> None:
    planted = PLANTED[name]
    promise = planted.promise.__name__.replace("_", " ")

    with pytest.raises(BrokenPromise, match=promise):
        Exploration(planted.setting, most=60_000).run()


def test_every_promise_has_a_bug_that_breaks_it() -> None:
    assert {planted.promise for planted in PLANTED.values()} == set(ALWAYS)
