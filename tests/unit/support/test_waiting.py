"""The waiter tells what it waited for."""

from datetime import timedelta

import pytest

from tests.support.waiting import eventually

SOON = timedelta(milliseconds=50)


async def test_it_returns_the_first_true_value() -> None:
    answers = iter([0, None, "there"])

    assert await eventually(lambda: next(answers)) == "there"


async def test_it_waits_out_assertions_and_awaits_coroutines() -> None:
    answers = iter([1, 2, 3])

    async def three() -> bool:
        assert next(answers) == 3
        return True

    assert await eventually(three)


async def test_it_says_what_it_saw_last_and_what_the_world_looked_like() -> None:
    with pytest.raises(AssertionError, match=r"(?s)not true within 0.05 s.*said last: \[\].*the queue is empty"):
        await eventually(list[str], within=SOON, describe=lambda: "the queue is empty")


async def test_other_errors_are_not_waited_out() -> None:
    def broken() -> bool:
        raise KeyError("run")

    with pytest.raises(KeyError):
        await eventually(broken)
