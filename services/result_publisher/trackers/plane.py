"""A Plane work item as a target: one comment, link and state, each at most once, never over a person's change."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from dispatch_common.plane import NotFound, Plane, PlaneRefused, PlaneUnavailable, RateLimited, Unauthorized
from dispatch_common.plane_types import State, WorkItem
from services.result_publisher.protocol import Answer, Found, Kind, Seen
from services.result_publisher.targets import Looked, Written

SOURCE: Final = "agent-dispatch"
_CLOSED: Final = frozenset({"completed", "cancelled"})
_STARTED: Final = "started"


@dataclass(frozen=True, slots=True)
class Message:
    """What a work item is told. ``state``: a name or a group; empty stands for the group ``started``."""

    key: str  #: the comment's idempotency key
    html: str
    link_url: str = ""
    link_title: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True)
class PlaneItem:
    """One work item. ``since``: changes of its state by others after this moment stand."""

    plane: Plane
    project_id: str
    item_id: str
    message: Message
    since: datetime
    own_id: str = ""  #: our own user, when the Source names it

    async def look(self, kind: Kind) -> Looked:
        looks: dict[Kind, Callable[[], Awaitable[Looked]]] = {
            Kind.COMMENT: self._comment,
            Kind.LINK: self._link,
            Kind.STATE: self._state,
        }
        try:
            return await looks[kind]()
        except NotFound:
            return Looked(Seen.GONE, why="the work item is not there any more")
        except PlaneUnavailable as error:
            return Looked(Seen.UNREADABLE, why=str(error), retry_after=_wait(error))
        except PlaneRefused as error:
            return Looked(Seen.GONE, why=_refusal(error))

    async def write(self, kind: Kind) -> Written:
        writes: dict[Kind, Callable[[], Awaitable[Found]]] = {
            Kind.COMMENT: self._say,
            Kind.LINK: self._add_link,
            Kind.STATE: self._move,
        }
        try:
            return Written(Answer.DONE, found=await writes[kind]())
        except NotFound:
            return Written(Answer.REFUSED, why="the work item is not there any more")
        except PlaneUnavailable as error:
            answer = Answer.UNKNOWN if error.in_doubt else Answer.NOT_SENT
            return Written(answer, why=str(error), retry_after=_wait(error))
        except PlaneRefused as error:
            return Written(Answer.REFUSED, why=_refusal(error))

    # --- the comment ---

    async def _comment(self) -> Looked:
        known = await self.plane.comment_by_external_id(self.project_id, self.item_id, SOURCE, self.message.key)
        return Looked(Seen.STANDS, found=Found(ref=known.id)) if known else Looked(Seen.ABSENT)

    async def _say(self) -> Found:
        made = await self.plane.create_comment(
            self.project_id, self.item_id, self.message.html, source=SOURCE, external_id=self.message.key
        )
        return Found(ref=made.id)

    # --- the link ---

    async def _link(self) -> Looked:
        links = await self.plane.links(self.project_id, self.item_id)
        known = next((link for link in links if link.url == self.message.link_url), None)
        return Looked(Seen.STANDS, found=Found(ref=known.id, url=known.url)) if known else Looked(Seen.ABSENT)

    async def _add_link(self) -> Found:
        url, title = self.message.link_url, self.message.link_title
        made = await self.plane.create_link(self.project_id, self.item_id, url, title)
        return Found(ref=made.id, url=url)

    # --- the state ---

    async def _state(self) -> Looked:
        item = await self.plane.item(self.project_id, self.item_id)
        target = await self._target(item)
        if target is None:
            states = ", ".join(state.name for state in await self.plane.states(self.project_id))
            remedy = f"set stateOnPublish of the Source to one of {states}"
            return Looked(Seen.GONE, why=f"the project has no state '{self.message.state or _STARTED}'; {remedy}")
        if item.state is not None and item.state.id == target.id:
            return Looked(Seen.STANDS, found=Found(ref=target.id))
        present = item.state.name if item.state else "no state"
        if await self._moved_by_a_person():
            why = f"a person moved it to '{present}' while the run was under way; that stands"
            return Looked(Seen.WITHDRAWN, why=why)
        if item.state is not None and item.state.group in _CLOSED:
            return Looked(Seen.WITHDRAWN, why=f"it is already in '{present}'")
        return Looked(Seen.ABSENT)

    async def _move(self) -> Found:
        item = await self.plane.item(self.project_id, self.item_id)
        target = await self._target(item)
        if target is None:
            raise PlaneRefused("the project's states changed in between", status=404)
        await self.plane.set_state(self.project_id, self.item_id, target.id)
        return Found(ref=target.id)

    async def _target(self, item: WorkItem) -> State | None:
        wanted = self.message.state.casefold()
        if not wanted and item.state is not None and item.state.group == _STARTED:
            return item.state
        states = await self.plane.states(self.project_id)
        named = [state for state in states if state.name.casefold() == wanted]
        grouped = [state for state in states if state.group == (wanted or _STARTED)]
        return next(iter([*named, *grouped]), None)

    async def _moved_by_a_person(self) -> bool:
        own = self.own_id or (await self.plane.me()).id
        return any(
            activity.field.startswith("state") and activity.created_at > self.since and activity.actor != own
            for activity in await self.plane.activities(self.project_id, self.item_id)
        )


def _wait(error: PlaneUnavailable) -> timedelta | None:
    return error.delay if isinstance(error, RateLimited) else None


def _refusal(error: PlaneRefused) -> str:
    if isinstance(error, Unauthorized):
        return f"{error}; check the Source's apiToken and its user's role"
    return str(error)
