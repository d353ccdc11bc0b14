"""Reads a task anew at its source and hands it over: what a group of deliveries about one object leads to."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson

from dispatch_common import ids, telemetry
from dispatch_common.backoff import backoff
from dispatch_common.db import Db
from dispatch_common.events import DeliveryOutcome, TaskReceived
from dispatch_common.plane import NotFound, Plane
from dispatch_common.plane_types import Comment, WorkItem
from dispatch_common.resources import Source
from dispatch_common.settings import Settings
from dispatch_common.values import Actor, Ask, TaskSnapshot, Wanted
from services.webhook_receiver import intent, store, tasks
from services.webhook_receiver.arrival import storable
from services.webhook_receiver.clients import Client, Clients
from services.webhook_receiver.judge import Handing, Heard, Judgement, Scene, actors_in, creator_in, judge
from services.webhook_receiver.known import Known
from services.webhook_receiver.normalize import PlaneEvent, normalize
from services.webhook_receiver.snapshot import gone, messages, snapshot, with_digest
from services.webhook_receiver.store import Due
from services.webhook_receiver.verify import Refusal, read_object

_CREATED: Final = ("issue.created", "workitem.created")


class SourceGone(Exception):
    """The source of the deliveries was deleted; nothing can be read."""


@dataclass(frozen=True, slots=True)
class Group:
    """Deliveries about one object. ``held`` are all that this process has of it, also those that wait behind."""

    dues: Sequence[Due]
    held: Callable[[], list[UUID]]

    @property
    def first(self) -> Due:
        return self.dues[0]


@dataclass(frozen=True, slots=True)
class Reader:
    """Takes groups of deliveries; what fails is raised and tried again by the caller."""

    db: Db
    settings: Settings
    known: Known
    clients: Clients

    async def read(self, group: Group) -> None:
        """Bring a group about one object as far as it goes now: decided here, or handed to the dispatcher."""
        if group.first.provider == tasks.PROVIDER:
            await self._hand_tasks(group)
            return
        name = group.first.source
        source = self.known.now.sources.get(name)
        if source is None:
            raise SourceGone(f"The source '{name}' is not there any more.")
        heard = await self._worth_reading(group, name, source)
        if heard:
            with telemetry.span("task read", group.first.traceparent, source=name, deliveries=len(heard)):
                await self._reading(heard, group, name, source)

    async def _worth_reading(self, group: Group, name: str, source: Source) -> list[Heard]:
        """Decide what can lead to nothing, without asking Plane for the task."""
        tracked = await store.tracked(self.db, self.settings.org, name, group.first.object_id, group.held())
        left: list[Heard] = []
        for due in group.dues:
            body = read_object(due.body)
            if isinstance(body, Refusal):
                # It was read before it was stored; only a version of ours that judged otherwise leads here.
                await store.decide(self.db, [due.id], DeliveryOutcome.IGNORED, body.sentence)
                continue
            event = normalize(body)
            sentence = self._ignored(event, name, source, own_id="", tracked=tracked)
            if not sentence:
                own_id = await self.clients.own_id(name, source)
                sentence = self._ignored(event, name, source, own_id=own_id, tracked=tracked)
            if sentence:
                await store.decide(self.db, [due.id], DeliveryOutcome.IGNORED, sentence)
            else:
                left.append(Heard(due.id, event))
        # When one of them is worth a reading, nothing was decided about the others that the reading could change:
        # each was judged by its own content.
        return left

    def _ignored(self, event: PlaneEvent, name: str, source: Source, *, own_id: str, tracked: bool) -> str:
        catalog = self.known.now.catalog
        return intent.ignored_at_once(event, name, source, catalog, own_id=own_id, tracked=tracked)

    async def _reading(self, heard: list[Heard], group: Group, name: str, source: Source) -> None:
        client = await self.clients.of(name, source)
        first = heard[0].event
        read_at = await self.db.fetchval("SELECT clock_timestamp()")
        try:
            item, comments = await _item_and_comments(client.plane, first)
        except NotFound:
            await self._gone(heard, group, name, read_at)
            return
        demand = intent.demand([label.name for label in item.labels], name, self.known.now.catalog)
        if not demand.wanted and not await self._may_matter(heard, group, name):
            sentence = demand.problem or f"{item.project.identifier}-{item.sequence_id} asks for no agent now."
            await store.decide(self.db, [each.id for each in heard], DeliveryOutcome.IGNORED, sentence)
            return
        if comments is None:
            comments = await client.plane.comments(item.project.id, item.id)
        scene, task = await self._scene(heard, item, comments, client, name, source, demand, read_at)
        judgement = judge(heard, scene)
        if judgement.needs_history:
            history = await client.plane.activities(item.project.id, item.id)
            judgement = judge(heard, replace(scene, history=history))
        await self._conclude(judgement, task, demand.wanted, group)

    async def _may_matter(self, heard: list[Heard], group: Group, name: str) -> bool:
        """Tell whether the task matters although no label stands: a command, or an agent that is at it."""
        catalog = self.known.now.catalog
        if any(intent.command_in(each.event.comment_html, name, catalog) for each in heard if each.event.comment_html):
            return True
        return await store.tracked(self.db, self.settings.org, name, group.first.object_id, group.held())

    async def _scene(
        self,
        heard: list[Heard],
        item: WorkItem,
        comments: tuple[Comment, ...],
        client: Client,
        name: str,
        source: Source,
        demand: intent.Demand,
        read_at: Any,
    ) -> tuple[Scene, TaskSnapshot]:
        now = self.known.now
        author = await store.author(self.db, self.settings.org, name, item.id, _CREATED)
        history = None
        if not author:
            # The work item's own created_by may be anybody's claim.
            history = await client.plane.activities(item.project.id, item.id)
            author = creator_in(history)
        people = await self.clients.people(name, source, {author, *actors_in(heard, comments)} - {""})
        task, placed = snapshot(
            item,
            source_name=name,
            source=source,
            people=people,
            author_id=author,
            conversation=messages(comments, people),
            repositories=now.repositories,
            read_at=read_at,
        )
        scene = Scene(name, source, now.catalog, people, demand, item.labels, comments, placed.problem, history)
        return scene, task

    async def _gone(self, heard: list[Heard], group: Group, name: str, read_at: Any) -> None:
        """Say that the work item is no more, if anybody may care."""
        if not await store.tracked(self.db, self.settings.org, name, group.first.object_id, group.held()):
            sentence = "The work item is gone; no agent worked on it."
            await store.decide(self.db, [each.id for each in heard], DeliveryOutcome.IGNORED, sentence)
            return
        title = next((each.event.title for each in reversed(heard) if each.event.title), "")
        task = gone(source_name=name, object_id=group.first.object_id, title=title, read_at=read_at)
        last = heard[-1].event
        actor = Actor(id=last.actor_id, name=last.actor_name)
        handing = Handing(tuple(each.id for each in heard), actor, False, "The work item is gone.")
        await self._conclude(Judgement(handings=[handing]), task, (), group)

    async def _conclude(
        self, judgement: Judgement, task: TaskSnapshot, wanted: tuple[Wanted, ...], group: Group
    ) -> None:
        for decision in judgement.decisions:
            await store.decide(self.db, [decision.delivery_id], decision.outcome, decision.sentence)
        traces = {due.id: due for due in group.dues}
        for handing in judgement.handings:
            lead = traces[handing.delivery_ids[0]]
            await self._hand(lead, handing, task, wanted)

    async def _hand(self, lead: Due, handing: Handing, task: TaskSnapshot, wanted: tuple[Wanted, ...]) -> None:
        recheck = backoff(timedelta(seconds=self.settings.recheck_seconds), lead.tries - 1)
        async with self.db.transaction() as tx:
            if not await store.hand(tx, handing.delivery_ids, recheck):
                return
            tx.say(
                TaskReceived(
                    # A repetition is a new fact: the dispatcher answers again instead of knowing it already.
                    id=ids.derived("task-received", lead.id, lead.tries),
                    org=self.settings.org,
                    time=await tx.now(),
                    traceparent=lead.traceparent,
                    delivery_ids=handing.delivery_ids,
                    snapshot=task,
                    wanted=wanted,
                    asks=handing.asks,
                    actor=handing.actor,
                    may_start=handing.may_start,
                    refusal=handing.refusal,
                )
            )

    async def _hand_tasks(self, group: Group) -> None:
        """Hand over work that was asked for directly, all of it with one commit."""
        recheck = backoff(timedelta(seconds=self.settings.recheck_seconds), group.first.tries - 1)
        async with self.db.transaction() as tx:
            now = await tx.now()
            handed = await store.hand(tx, [due.id for due in group.dues], recheck)
            tx.say(*(received_task(due, self.settings.org, now) for due in group.dues if due.id in handed))


async def _item_and_comments(plane: Plane, event: PlaneEvent) -> tuple[WorkItem, tuple[Comment, ...] | None]:
    """Return the work item, and its comments when the webhook told enough to know that they will be needed."""
    item = plane.item(event.project_id, event.object_id)
    if event.version > 1:
        return await item, None
    return await asyncio.gather(item, plane.comments(event.project_id, event.object_id))


def received_task(due: Due, org: str, now: datetime) -> TaskReceived:
    """Return the fact of a task that somebody with an API token asked for."""
    asked = orjson.loads(due.body)
    new = tasks.NewTask.model_validate(asked["task"])
    snapshot_ = TaskSnapshot(
        source=tasks.SOURCE,
        provider=tasks.PROVIDER,
        object_id=due.object_id,
        key=f"API-{due.object_id[:8]}",
        title=storable(new.title),
        body=storable(new.body),
        labels=tuple(sorted(storable(label) for label in new.labels)),
        priority=new.priority,
        project=storable(new.project),
        repository=new.repository,
        read_at=now,
        digest="",
    )
    return TaskReceived(
        id=ids.derived("task-received", due.id, due.tries),
        org=org,
        time=now,
        traceparent=due.traceparent,
        delivery_ids=(due.id,),
        snapshot=with_digest(snapshot_),
        asks=(Ask(key=f"api:{asked['key']}", role=new.role, agent=new.agent, instruction=""),),
        actor=Actor(id=f"principal:{asked['principal']}", name=asked["principal"]),
        may_start=True,
    )
