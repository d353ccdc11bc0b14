"""Every promise of the invariants notices a bug that was planted for it."""

import pytest

from dispatch_common.invariants import ALWAYS
from tests.simulation.explorer import BrokenPromise, Exploration
from tests.simulation.parts import Parts
from tests.simulation.planted import PLANTED, never_wakes, serves_nobody
from tests.simulation.settings import setting


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_noticed(name: str) -> None:
    planted = PLANTED[name]
    promise = planted.promise.__name__.replace("_", " ")

    with pytest.raises(BrokenPromise, match=promise):
        Exploration(planted.setting, most=60_000).run()


def test_every_promise_has_a_bug_that_breaks_it() -> None:
    assert {planted.promise for planted in PLANTED.values()} == set(ALWAYS)


def test_a_run_that_nobody_serves_is_noticed_when_all_is_calm() -> None:
    nobody_served = setting(parts=Parts(match=serves_nobody))

    with pytest.raises(BrokenPromise, match="everything ended: it is still queued"):
        Exploration(nobody_served).run()


def test_a_run_that_is_looked_at_in_vain_is_noticed() -> None:
    sleepy = setting(parts=Parts(decide=never_wakes), outcomes=("clean", "fails"), misfortune={"bad": 1})

    with pytest.raises(BrokenPromise, match="an overdue run stays overdue"):
        Exploration(sleepy).run()
