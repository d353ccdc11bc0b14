"""Work that goes on beside an attempt. None of it may die unseen: whoever starts it says what its failure means."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable


def begin(work: Coroutine[None, None, None], *, fails: Callable[[BaseException], None]) -> asyncio.Task[None]:
    """Start a chore; ``fails`` is called with whatever ends it other than its own end."""

    def over(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            fails(error)

    task = asyncio.create_task(work)
    task.add_done_callback(over)
    return task


async def cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """End chores and wait until they have."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
