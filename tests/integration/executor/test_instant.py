"""An instant launcher: a batch of attempts is over in the transaction that took it."""

from collections.abc import Sequence
from datetime import timedelta

from dispatch_common.events import AttemptFinished, AttemptOutcome, AttemptRequested
from dispatch_common.settings import Settings
from services.executor import app
from services.executor.attempt import Answer
from tests.support.executing import Asker, a_request, again
from tests.support.waiting import eventually


class NoOp:
    """Says that everything went well."""

    instant = True

    def answers(self, asked: Sequence[AttemptRequested]) -> Sequence[Answer]:
        return [Answer(AttemptOutcome.SUCCEEDED, "Nothing was to be done.") for _ in asked]


async def test_many_attempts_are_over_at_once_and_each_only_once(settings: Settings, ask: Asker) -> None:
    asked = [a_request() for _ in range(500)]
    async with app.serve(settings, NoOp()):
        await ask.says(*asked)
        await eventually(lambda: finished(ask, 500), within=timedelta(seconds=30))
        await ask.says(again(asked[0]))
        await eventually(lambda: finished(ask, 501))

    assert await ask.names(asked[1]) == ["AttemptPreparing", "AttemptStarted", "AttemptFinished"]
    assert await ask.names(asked[0]) == ["AttemptPreparing", "AttemptStarted", "AttemptFinished", "AttemptFinished"]
    (first, second) = await ask.heard(asked[0], AttemptFinished)
    assert (first.sentence, first.id != second.id) == (second.sentence, True)


async def finished(ask: Asker, count: int) -> bool:
    query = "SELECT count(*) FROM outbox WHERE service = 'executor' AND subject LIKE 'dispatch.attempt.finished.%'"
    return await ask.db.fetchval(query) == count
