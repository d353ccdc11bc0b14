"""From deliveries and a fresh reading to what is handed over and what is decided here. Pure.

A demand is attributed to whoever made it: a label to the person who put it on, a command to the person who wrote it.
So nobody can ride on a demand of another, and nobody's demand is lost because a stranger spoke at the same time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from dispatch_common.events import DeliveryOutcome
from dispatch_common.plane_types import Activity, Comment, Label
from dispatch_common.resources import Source
from dispatch_common.values import Actor, Ask
from services.webhook_receiver.intent import Catalog, Command, Demand, ask, command_in, refusal
from services.webhook_receiver.normalize import Action, Kind, PlaneEvent
from services.webhook_receiver.snapshot import People

_HISTORY_FIELDS: Final = ("labels", "label_ids", "label")


@dataclass(frozen=True, slots=True)
class Heard:
    """One delivery about the task."""

    id: UUID
    event: PlaneEvent


@dataclass(frozen=True, slots=True)
class Handing:
    """What becomes one TaskReceived."""

    delivery_ids: tuple[UUID, ...]
    actor: Actor
    may_start: bool
    refusal: str
    asks: tuple[Ask, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided without the dispatcher."""

    delivery_id: UUID
    outcome: DeliveryOutcome
    sentence: str


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything a judgement depends on."""

    source_name: str
    source: Source
    catalog: Catalog
    people: People
    demand: Demand
    labels: Sequence[Label]
    comments: Sequence[Comment]
    problem: str = ""  #: why nothing may start whoever asks, such as an unknown repository
    history: Sequence[Activity] | None = None  #: None: not read


@dataclass(slots=True)
class Judgement:
    """The outcome. ``needs_history``: who put the labels on must be read first."""

    handings: list[Handing] = field(default_factory=list[Handing])
    decisions: list[Decision] = field(default_factory=list[Decision])
    needs_history: bool = False


def judge(heard: Sequence[Heard], scene: Scene) -> Judgement:
    """Return what follows from the deliveries."""
    judgement = Judgement()
    asks: dict[str, list[tuple[UUID, Ask]]] = {}
    plain: list[Heard] = []
    for each in heard:
        command = _command(each.event, scene)
        if command is None:
            plain.append(each)
            continue
        found = _obeyed(each, command, scene)
        if isinstance(found, Decision):
            judgement.decisions.append(found)
        else:
            asks.setdefault(found[0], []).append((each.id, found[1]))
    if plain:
        actor_id = _responsible(plain, scene)
        if actor_id is None:
            return Judgement(needs_history=True)
        judgement.handings.append(_handing([each.id for each in plain], actor_id, asks.pop(actor_id, []), scene))
    for actor_id, found in asks.items():
        judgement.handings.append(_handing([], actor_id, found, scene))
    return judgement


def _handing(plain: Iterable[UUID], actor_id: str, asks: Sequence[tuple[UUID, Ask]], scene: Scene) -> Handing:
    why_not = refusal(actor_id, scene.source, scene.people) or scene.problem
    return Handing(
        delivery_ids=(*plain, *(delivery for delivery, _ in asks)),
        actor=scene.people.actor(actor_id),
        may_start=not why_not,
        refusal=why_not or scene.demand.problem,
        asks=tuple(each for _, each in asks),
    )


def _command(event: PlaneEvent, scene: Scene) -> Command | None:
    if event.kind is not Kind.COMMENT or event.action not in (Action.CREATED, Action.UPDATED):
        return None
    return command_in(event.comment_html, scene.source_name, scene.catalog)


def _obeyed(each: Heard, command: Command, scene: Scene) -> tuple[str, Ask] | Decision:
    """Return who asks for what, or why it is not obeyed."""
    event = each.event
    present = next((comment for comment in scene.comments if comment.id == event.comment_id), None)
    if present is None:
        return Decision(each.id, DeliveryOutcome.IGNORED, "The comment is gone.")
    # The second format names no actor: then the API's own record of who wrote it counts.
    actor_id = event.actor_id or present.actor or ""
    why_not = refusal(actor_id, scene.source, scene.people) or scene.problem
    if why_not:
        return Decision(each.id, DeliveryOutcome.REFUSED, why_not)
    asked = ask(event.comment_id, command, scene.demand.wanted, scene.catalog)
    if isinstance(asked, str):
        return Decision(each.id, DeliveryOutcome.REFUSED, asked)
    return actor_id, asked


def _responsible(plain: Sequence[Heard], scene: Scene) -> str | None:
    """Return who answers for the labels that stand; None when only the task's history can tell."""
    actors = [each.event.actor_id for each in plain if each.event.knows_actor]
    if not scene.demand.wanted:
        return actors[-1] if actors else ""
    names = {want.key.removeprefix("label:") for want in scene.demand.wanted}
    ids = {label.id for label in scene.labels if label.name in names}
    for each in reversed(plain):
        if each.event.knows_actor and _puts_on(each.event, names, ids):
            return each.event.actor_id
    allowed = [actor for actor in actors if not refusal(actor, scene.source, scene.people)]
    if allowed:
        return allowed[-1]
    if scene.history is None:
        return None
    return _from_history(scene.history, names) or (actors[-1] if actors else "")


def _puts_on(event: PlaneEvent, names: set[str], ids: set[str]) -> bool:
    if event.kind is not Kind.ITEM:
        return False
    if event.action is Action.CREATED:
        return event.labels is None or bool(names.intersection(event.labels))
    return bool(ids.intersection(event.label_ids_added))


def _from_history(history: Sequence[Activity], names: set[str]) -> str:
    """Return who put on the newest of the labels, or created the item with them."""
    creator = ""
    for entry in sorted(history, key=lambda each: each.created_at, reverse=True):
        if entry.field in _HISTORY_FIELDS and entry.new_value in names and entry.actor:
            return entry.actor
        if entry.verb == "created" and not entry.field and entry.actor:
            creator = entry.actor
    return creator


def creator_in(history: Iterable[Activity]) -> str:
    """Return who created the item."""
    return next((entry.actor for entry in history if entry.verb == "created" and not entry.field and entry.actor), "")


def actors_in(heard: Iterable[Heard], comments: Iterable[Comment]) -> frozenset[str]:
    """Return everybody whose role matters."""
    spoken = (comment.actor or "" for comment in comments)
    return frozenset(each for each in (*(one.event.actor_id for one in heard), *spoken) if each)
