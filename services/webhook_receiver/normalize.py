"""What a Plane webhook says, in one small value for both formats. Pure; claims that prove nothing are left out.

Who did it is ``activity.actor.id`` and nothing else: ``created_by`` may be set by the sender to anybody. The second
format names no actor at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, cast

_LONGEST: Final = 200
_LONGEST_TEXT: Final = 65_536


class Kind(StrEnum):
    """What an event is about."""

    ITEM = "item"
    COMMENT = "comment"
    OTHER = "other"  #: projects, cycles, modules, and whatever is invented later


class Action(StrEnum):
    """What happened to it."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class PlaneEvent:
    """One webhook. Texts are cut and free of NUL; an absent value is an empty one."""

    name: str  #: as Plane calls it: issue.created, workitem.updated
    kind: Kind
    action: Action
    object_id: str  #: the work item it is about, also for a comment
    project_id: str = ""
    workspace_id: str = ""
    webhook_id: str = ""
    field: str = ""  #: what changed
    actor_id: str = ""  #: proven; empty in the second format
    actor_name: str = ""
    comment_id: str = ""
    comment_html: str = ""
    title: str = ""
    labels: tuple[str, ...] | None = None  #: their names when the webhook tells, None when it does not
    label_ids_added: tuple[str, ...] = ()  #: what this very change put on
    event_id: str = ""  #: the same for every repetition; only the second format has it
    version: int = 1

    @property
    def knows_actor(self) -> bool:
        return bool(self.actor_id)


def dedupe_key(event: PlaneEvent, body: bytes) -> str:
    """Return what is the same for every repetition of an event: Plane gives each a new delivery id."""
    return f"event:{event.event_id}" if event.event_id else f"sha256:{sha256(body).hexdigest()}"


def normalize(body: Mapping[str, Any]) -> PlaneEvent:
    """Return the event in a verified body. What is not understood becomes kind ``other``, never an error."""
    if body.get("version") == "v2":
        return _second(body)
    return _first(body)


def _first(body: Mapping[str, Any]) -> PlaneEvent:
    event, action = _text(body.get("event")), _text(body.get("action"))
    data, activity = _object(body.get("data")), _object(body.get("activity"))
    actor = _object(activity.get("actor"))
    kind = {"issue": Kind.ITEM, "issue_comment": Kind.COMMENT}.get(event, Kind.OTHER)
    comment = kind is Kind.COMMENT
    return PlaneEvent(
        name=f"{event}.{action}" if action else event,
        kind=kind,
        action=_action(action),
        object_id=_text(data.get("issue") if comment else data.get("id")),
        project_id=_text(data.get("project")),
        workspace_id=_text(body.get("workspace_id")),
        webhook_id=_text(body.get("webhook_id")),
        field=_text(activity.get("field")),
        actor_id=_text(actor.get("id")),
        actor_name=_text(actor.get("display_name")),
        comment_id=_text(data.get("id")) if comment else "",
        comment_html=_text(data.get("comment_html"), _LONGEST_TEXT) if comment else "",
        title=_text(data.get("name")) if kind is Kind.ITEM else "",
        labels=_names(data.get("labels")) if kind is Kind.ITEM else None,
        label_ids_added=_added(activity) if kind is Kind.ITEM else (),
    )


def _added(activity: Mapping[str, Any]) -> tuple[str, ...]:
    if activity.get("field") not in ("labels", "label_ids"):
        return ()
    before = set(_ids(activity.get("old_value")))
    return tuple(each for each in _ids(activity.get("new_value")) if each not in before)


def _ids(value: object) -> tuple[str, ...]:
    return tuple(_text(each) for each in cast("list[object]", value)) if isinstance(value, list) else ()


def _second(body: Mapping[str, Any]) -> PlaneEvent:
    """Ids only, no names, no actor; null may be written as the text ``None``, and the event as an enum's name."""
    raw = _text(body.get("event"))
    event = raw.rpartition(".")[2].lower().replace("work_item_", "workitem.") if "ScopeChoices" in raw else raw
    about, _, action = event.rpartition(".")
    data = _object(body.get("data"))
    comment = _object(data.get("comment"))
    kind = {"workitem": Kind.ITEM, "workitem.comment": Kind.COMMENT}.get(about, Kind.OTHER)
    is_comment = kind is Kind.COMMENT
    return PlaneEvent(
        name=event,
        kind=kind,
        action=_action(action),
        object_id=_said(comment.get("issue_id") or data.get("id") or (None if is_comment else body.get("entity_id"))),
        project_id=_said(data.get("project_id") or _object(body.get("previous_attributes")).get("project_id")),
        workspace_id=_said(body.get("workspace_id")),
        webhook_id=_said(body.get("webhook_id")),
        comment_id=_said(comment.get("id")) if is_comment else "",
        comment_html=_escaped(_said(comment.get("comment_stripped"), _LONGEST_TEXT)) if is_comment else "",
        title=_said(data.get("name")) if kind is Kind.ITEM else "",
        event_id=_said(body.get("event_id")),
        version=2,
    )


def _action(text: str) -> Action:
    return Action(text) if text in (Action.CREATED, Action.UPDATED, Action.DELETED) else Action.OTHER


def _object(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _text(value: object, longest: int = _LONGEST) -> str:
    return value[:longest].replace("\x00", "").encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _said(value: object, longest: int = _LONGEST) -> str:
    text = _text(value, longest)
    return "" if text == "None" else text


def _names(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        return None
    names = [_text(_object(each).get("name")) for each in cast("list[object]", value)]
    return tuple(dict.fromkeys(names)) if all(names) else None


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
