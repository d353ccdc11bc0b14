"""Waiting for a condition, never for a time. The only place in the tests that sleeps."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from datetime import timedelta
from time import monotonic

Condition = Callable[[], object | Awaitable[object]]


async def eventually(
    condition: Condition,
    *,
    within: timedelta = timedelta(seconds=10),
    describe: str | Condition | None = None,
) -> object:
    """Returns the condition's first true value.

    A condition that asserts is false while it does. When time is up, the failure tells what was awaited, what the
    condition said last, and what ``describe`` (a sentence, or a function that looks at the world) adds.
    """
    deadline, pause = monotonic() + within.total_seconds(), 0.002
    while True:
        try:
            last: object = await _value(condition)
            if last:
                return last
        except AssertionError as error:
            last = error
        if monotonic() > deadline:
            raise AssertionError(await _story(condition, within, last, describe))
        await asyncio.sleep(pause)
        pause = min(pause * 1.6, 0.1)


async def _value(condition: Condition) -> object:
    value = condition()
    return await value if inspect.isawaitable(value) else value


async def _story(condition: Condition, within: timedelta, last: object, describe: str | Condition | None) -> str:
    name = getattr(condition, "__qualname__", repr(condition))
    lines = [f"not true within {within.total_seconds():g} s: {name}", f"it said last: {last!r}"]
    if describe is not None:
        lines.append(describe if isinstance(describe, str) else str(await _value(describe)))
    return "\n".join(lines)
