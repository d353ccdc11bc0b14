"""What Plane's REST API answers, as small frozen values. Takes every shape that a version of Plane was seen to send."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeAlias, cast

from pydantic import AliasChoices, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

Json: TypeAlias = Mapping[str, Any]


def _ref(value: object) -> object:
    """Accept a bare uuid where an object may stand."""
    return {"id": value} if isinstance(value, str) else value


def _refs(value: object) -> object:
    """Accept bare uuids and repeats in a list of objects; keep the first of each."""
    if value is None:
        return ()
    seen: dict[str, object] = {}
    for each in cast("Iterable[object]", value):
        ref = _ref(each)
        key = str(cast("Json", ref).get("id")) if isinstance(ref, dict) else str(ref)
        seen.setdefault(key, cast("object", ref))
    return tuple(seen.values())


def _text(value: object) -> object:
    return "" if value is None else value


Text: TypeAlias = Annotated[str, BeforeValidator(_text)]


class PlaneValue(BaseModel):
    """One answer, or a part of one."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class User(PlaneValue):
    """A person or bot."""

    id: str
    name: Text = Field(default="", validation_alias=AliasChoices("display_name", "name"))
    email: Text = ""


class Member(User):
    """A user with the role in the workspace: 20 admin, 15 member, 5 guest. None when Plane did not say."""

    role: int | None = None


class Label(PlaneValue):
    """A label; ``name`` is empty when Plane sent only its id."""

    id: str
    name: Text = ""


class State(PlaneValue):
    """A workflow state; ``group`` is backlog, unstarted, started, completed, cancelled or triage."""

    id: str
    name: Text = ""
    group: Text = ""


class Project(PlaneValue):
    """A project; ``identifier`` is the DISP of DISP-1."""

    id: str
    identifier: Text = ""
    name: Text = ""


class WorkItem(PlaneValue):
    """A work item."""

    id: str
    project: Annotated[Project, BeforeValidator(_ref)]
    sequence_id: int = 0
    name: Text = ""
    description_html: Text = ""
    priority: Text = "none"
    state: Annotated[State | None, BeforeValidator(_ref)] = None
    labels: Annotated[tuple[Label, ...], BeforeValidator(_refs)] = ()
    assignees: Annotated[tuple[User, ...], BeforeValidator(_refs)] = ()
    created_by: str | None = None
    updated_at: AwareDatetime | None = None
    archived_at: str | None = None
    deleted_at: str | None = None
    is_draft: bool = False
    external_source: Text = ""
    external_id: Text = ""

    @property
    def is_named(self) -> bool:
        """Tell whether labels, state and project came with their names."""
        labels = all(label.name for label in self.labels)
        return labels and (self.state is None or bool(self.state.group)) and bool(self.project.identifier)


class Comment(PlaneValue):
    """A comment. ``actor`` is who wrote it; ``created_by`` may be claimed by the writer and proves nothing."""

    id: str
    actor: str | None = None
    comment_html: Text = ""
    created_at: AwareDatetime
    updated_at: AwareDatetime | None = None
    external_source: Text = ""
    external_id: Text = ""
    access: Text = ""


class Link(PlaneValue):
    """A link of a work item."""

    id: str
    url: str
    title: Text = ""


class Activity(PlaneValue):
    """One line of a work item's history. Values are names, identifiers are ids."""

    id: str
    actor: str | None = None
    verb: Text = ""
    field: Text = ""
    old_value: Text = ""
    new_value: Text = ""
    created_at: AwareDatetime


class Made(PlaneValue):
    """What a write made; ``existed`` when it was there already under the same external id or URL."""

    id: str
    existed: bool = False


def member(raw: Json) -> Member:
    """Return the member; older versions wrap the user in ``member``."""
    inner = raw.get("member")
    flat = {**cast("Json", inner), "role": raw.get("role")} if isinstance(inner, Mapping) else raw
    return Member.model_validate(flat)
