"""Server-sent events: all facts, and one run. A position that a viewer sends back is where its stream goes on."""

from collections.abc import AsyncGenerator
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Header, Query
from sse_starlette import EventSourceResponse, ServerSentEvent

from services.console import problems
from services.console.api.work import At
from services.console.auth import reader
from services.console.desk import Desk
from services.console.problems import unavailable
from services.console.reads.ids import resolve
from services.console.stream.facts import fact_events, tail_of
from services.console.stream.position import FactMark, RunMark
from services.console.stream.run import RunStream
from services.console.stream.tail import AWAY, Begin

_EVENTS: Final = {
    200: {
        "description": "Server-sent events. Send the last id back as Last-Event-ID to go on without loss or duplicate.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
router: Final = APIRouter(prefix="/v1", tags=["events"], responses={**problems.ANSWERS, **_EVENTS})
LastEventId = Annotated[str | None, Header(alias="Last-Event-ID")]
Since = Annotated[str | None, Query(alias="last_event_id", description="As Last-Event-ID, for clients without headers")]
_HEARTBEAT_SECONDS: Final = 15
_PATIENCE_SECONDS: Final = 30


@router.get("/events", dependencies=[Depends(reader)], response_class=EventSourceResponse)
async def facts(
    at: At,
    last_event_id: LastEventId = None,
    since: Since = None,
    begin: Annotated[Literal["now", "start"], Query(alias="from")] = "now",
    follow: bool = True,
) -> EventSourceResponse:
    """Stream facts: ``fact`` (a CloudEvents document), ``reset`` (history was lost; a snapshot), ``end``."""
    position = last_event_id or since
    resumed = FactMark.parse(position) if position else None
    start = Begin.NOW if begin == "now" else Begin.FIRST
    at.viewers.check()
    probe = tail_of(at, resumed.mark if resumed else start)
    try:
        await probe.open()
    except AWAY as error:
        raise unavailable("The broker is away.", "Try again in a few seconds.") from error
    finally:
        await probe.close()
    # "now" is the moment of the request, not the one at which the stream begins to be read.
    begins = FactMark(probe.mark) if start is Begin.NOW and probe.mark is not None else start
    return _answer(at, fact_events(at, resumed or begins, follow=follow))


@router.get("/runs/{run}/events", dependencies=[Depends(reader)], response_class=EventSourceResponse)
async def run_events(
    run: str, at: At, last_event_id: LastEventId = None, since: Since = None, follow: bool = True
) -> EventSourceResponse:
    """Stream a run: ``step``, ``agent``, ``reset``, and ``end`` once it has ended and everything was sent."""
    run_id = await resolve(at.db, "run", run, org=at.org)
    position = last_event_id or since
    mark = RunMark.parse(position) if position else RunMark()
    at.viewers.check()
    return _answer(at, RunStream(at, run_id, mark, follow=follow).events())


def _answer(at: Desk, events: AsyncGenerator[ServerSentEvent]) -> EventSourceResponse:
    return EventSourceResponse(
        _counted(at, events),
        ping=_HEARTBEAT_SECONDS,
        send_timeout=_PATIENCE_SECONDS,
        headers={"Cache-Control": "no-store"},
        sep="\n",
    )


async def _counted(at: Desk, events: AsyncGenerator[ServerSentEvent]) -> AsyncGenerator[ServerSentEvent]:
    with at.viewers.one():
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()
