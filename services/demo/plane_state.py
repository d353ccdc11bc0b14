"""What the local Plane knows, and what may be done with it. Each change is told to ``listeners``.

In memory; ``export`` gives all of it as JSON. No HTTP here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dispatch_common import clock, ids
from services.demo import plane_rows as rows
from services.demo.plane_rows import Row

ADMIN: Final = 20
MEMBER: Final = 15
GUEST: Final = 5
#: A key of a PATCH as the web page sends it -> the key of the row. The v1 API uses the second form.
_UI_KEYS: Final = {"label_ids": "labels", "state_id": "state", "assignee_ids": "assignees", "parent_id": "parent"}
_TELLING: Final = frozenset(
    {"labels", "state", "assignees", "priority", "name", "description_html", "external_id", "parent", "start_date",
     "target_date", "sort_order", "estimate_point"}
)  # fmt: skip
NO_SUCH: Final[Mapping[str, Any]] = {"error": "The requested resource does not exist."}
FORBIDDEN: Final[Mapping[str, Any]] = {"detail": "You do not have permission to perform this action."}


class PlaneAnswer(Exception):
    """An answer other than success."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class Change:
    """Something that Plane tells webhooks about. ``data`` is read when it is sent, not when it happened."""

    event: str
    action: str
    object_id: str
    actor: str
    field: str | None = None
    old: Any = None
    new: Any = None


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with a personal API token."""

    id: str
    name: str
    token: str


def _fresh() -> str:
    return str(ids.fresh())


@dataclass
class PlaneState:
    """One workspace."""

    slug: str = "demo"
    workspace: str = field(default_factory=_fresh)
    users: dict[str, Row] = field(default_factory=dict[str, Row])
    tokens: dict[str, str] = field(default_factory=dict[str, str])
    roles: dict[str, int] = field(default_factory=dict[str, int])
    projects: dict[str, Row] = field(default_factory=dict[str, Row])
    project_roles: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    states: dict[str, Row] = field(default_factory=dict[str, Row])
    labels: dict[str, Row] = field(default_factory=dict[str, Row])
    items: dict[str, Row] = field(default_factory=dict[str, Row])
    comments: dict[str, Row] = field(default_factory=dict[str, Row])
    links: dict[str, Row] = field(default_factory=dict[str, Row])
    activities: list[Row] = field(default_factory=list[Row])
    listeners: list[Callable[[Change], None]] = field(default_factory=list[Callable[[Change], None]])

    def export(self) -> dict[str, Any]:
        """Return everything but the tokens, as JSON."""
        names = ("users", "roles", "projects", "project_roles", "states", "labels", "items", "comments", "links")
        return {"slug": self.slug, "workspace": self.workspace, "activities": self.activities} | {
            name: getattr(self, name) for name in names
        }

    # --- people and projects ---

    def add_person(
        self, name: str, role: int = MEMBER, *, person_id: str | None = None, token: str | None = None
    ) -> Person:
        person_id = person_id or _fresh()
        token = token or f"plane_api_{ids.fresh().hex}"
        self.users[person_id] = rows.user(person_id, name, f"{name}@example.com")
        self.roles[person_id] = role
        self.tokens[token] = person_id
        for members in self.project_roles.values():
            members.setdefault(person_id, role)
        return Person(person_id, name, token)

    def set_role(self, person_id: str, role: int) -> None:
        self.roles[person_id] = role
        for members in self.project_roles.values():
            members[person_id] = role

    def add_project(self, asked: Mapping[str, Any], *, actor: str, project_id: str | None = None) -> Row:
        row = rows.project(self._common(project_id, actor), self.workspace, asked)
        self.projects[row["id"]] = row
        self.project_roles[row["id"]] = dict(self.roles)
        for each in rows.STATES:
            made = rows.state(self._common(None, actor), row, *each)
            self.states[made["id"]] = made
        self._tell(Change("project", "created", row["id"], actor))
        return row

    def patch_project(self, project_id: str, asked: Mapping[str, Any], *, actor: str) -> Row:
        row = self.projects[project_id]
        for key, value in asked.items():
            if key in row and row[key] != value:
                old, row[key] = row[key], value
                self._touch(row, actor)
                self._tell(Change("project", "updated", project_id, actor, key, old, value))
        return row

    def add_label(self, project_id: str, asked: Mapping[str, Any], *, actor: str, label_id: str | None = None) -> Row:
        of_project = [each for each in self.labels.values() if each["project"] == project_id]
        for each in of_project:
            if each["name"] == asked.get("name"):
                raise PlaneAnswer(
                    409, {"error": "Label with the same name already exists in the project", "id": each["id"]}
                )
        order = 65535.0 + 10000 * len(of_project)
        row = rows.label(self._common(label_id, actor), self.projects[project_id], asked, order)
        self.labels[row["id"]] = row
        return row

    # --- work items ---

    def create_item(
        self, project_id: str, asked: Mapping[str, Any], *, actor: str, ui: bool = False, item_id: str | None = None
    ) -> Row:
        asked = _canonical(asked) if ui else asked
        if not asked.get("name"):
            raise PlaneAnswer(400, {"name": ["This field is required."]})
        self._check_item(project_id, asked)
        twin = self.item_by_external(project_id, asked.get("external_source"), asked.get("external_id"))
        if twin is not None:
            raise PlaneAnswer(
                409, {"error": "Issue with the same external id and external source already exists", "id": twin["id"]}
            )
        number = 1 + max(
            (each["sequence_id"] for each in self.items.values() if each["project"] == project_id), default=0
        )
        common = self._common(item_id, asked.get("created_by") or actor)
        project_row = self.projects[project_id]
        state_id = asked.get("state") or self._default_state(project_id)
        row = rows.item(common, project_row, asked, sequence=number, state_id=state_id)
        self.items[row["id"]] = row
        self._remember(row, actor, verb="created", comment="created the issue")
        self._tell(Change("issue", "created", row["id"], actor))
        return row

    def patch_item(self, item_id: str, asked: Mapping[str, Any], *, actor: str, ui: bool = False) -> Row:
        row = self.items[item_id]
        self._check_item(row["project"], _canonical(asked))
        for key, value in asked.items():
            column = _UI_KEYS.get(key, key) if ui else key
            if column not in _TELLING or column not in row:
                continue
            self._set(row, column, value, actor=actor, said_as=key)
        return row

    def delete_item(self, item_id: str) -> None:
        """Remove the item. Plane tells nobody."""
        del self.items[item_id]

    def item_by_external(self, project_id: str, source: object, external_id: object) -> Row | None:
        if not source or not external_id:
            return None
        pair = (project_id, source, external_id)
        found = (
            each
            for each in self.items.values()
            if (each["project"], each["external_source"], each["external_id"]) == pair
        )
        return next(found, None)

    def state_named(self, project_id: str, name: str) -> str:
        return next(
            each["id"] for each in self.states.values() if each["project"] == project_id and each["name"] == name
        )

    # --- comments and links ---

    def add_comment(self, item_id: str, asked: Mapping[str, Any], *, actor: str) -> Row:
        pair = (asked.get("external_source"), asked.get("external_id"))
        for each in self.of_item(self.comments, item_id):
            if all(pair) and (each["external_source"], each["external_id"]) == pair:
                raise PlaneAnswer(
                    409,
                    {
                        "error": "Work item comment with the same external id and external source already exists",
                        "id": each["id"],
                    },
                )
        common = self._common(None, asked.get("created_by") or actor)
        row = rows.comment(common, self.items[item_id], asked, actor=actor, description=_fresh())
        self.comments[row["id"]] = row
        self._tell(Change("issue_comment", "created", row["id"], actor))
        return row

    def patch_comment(self, comment_id: str, asked: Mapping[str, Any], *, actor: str) -> Row:
        row = self.comments[comment_id]
        new = asked.get("comment_html", row["comment_html"])
        if new != row["comment_html"]:
            old, row["comment_html"] = row["comment_html"], new
            self._touch(row, actor)
            self._tell(Change("issue_comment", "updated", comment_id, actor, "comment_html", old, new))
        return row

    def add_link(self, item_id: str, asked: Mapping[str, Any], *, actor: str) -> Row:
        url = asked.get("url")
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise PlaneAnswer(400, {"url": ["Invalid URL format."]})
        if any(each["url"] == url for each in self.of_item(self.links, item_id)):
            raise PlaneAnswer(400, {"error": "URL already exists for this Issue"})
        row = rows.link(self._common(None, actor), self.items[item_id], asked)
        self.links[row["id"]] = row
        return row

    @staticmethod
    def of_item(table: dict[str, Row], item_id: str) -> list[Row]:
        """Return the rows of one work item, newest first, as Plane lists them."""
        return [each for each in reversed(table.values()) if each["issue"] == item_id]

    # --- inside ---

    def _set(self, row: Row, column: str, value: Any, *, actor: str, said_as: str) -> None:
        if column == "assignees":
            value = [each for each in value if each in self.roles]
        if column == "description_html":
            value = rows.one_root(value)
        old = row[column]
        if old == value:
            return
        row[column] = value
        if column == "state":
            done = self.states[value]["group"] in rows.CLOSED_GROUPS
            row["completed_at"] = rows.stamp(clock.now()) if done else None
        self._touch(row, actor)
        self._remember(row, actor, field=column, old_value=str(old), new_value=str(value))
        self._tell(Change("issue", "updated", row["id"], actor, said_as, old, value))

    def _check_item(self, project_id: str, asked: Mapping[str, Any]) -> None:
        wrong = [each for each in asked.get("labels", ()) if self.labels.get(each, {}).get("project") != project_id]
        if wrong:
            place = str(list(asked["labels"]).index(wrong[0]))
            raise PlaneAnswer(400, {"labels": {place: [_no_object(wrong[0])]}})
        state_id = asked.get("state")
        if state_id and state_id not in self.states:
            problem = _no_object(state_id) if len(state_id) == 36 else f"“{state_id}” is not a valid UUID."
            raise PlaneAnswer(400, {"state": [problem]})

    def _default_state(self, project_id: str) -> str:
        return next(each["id"] for each in self.states.values() if each["project"] == project_id and each["default"])

    def _common(self, row_id: str | None, actor: str | None) -> Row:
        return rows.base(row_id or _fresh(), rows.stamp(clock.now()), actor)

    def _touch(self, row: Row, actor: str) -> None:
        row["updated_at"], row["updated_by"] = rows.stamp(clock.now()), actor

    def _remember(self, item_row: Row, actor: str, **said: Any) -> None:
        now = clock.now()
        common = rows.base(_fresh(), rows.stamp(now), None)
        self.activities.append(
            rows.activity(common, item_row, actor=actor, epoch=float(int(now.timestamp())), said=said)
        )

    def _tell(self, change: Change) -> None:
        for listener in self.listeners:
            listener(change)


def _canonical(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {_UI_KEYS.get(key, key): value for key, value in asked.items()}


def _no_object(object_id: str) -> str:
    return f'Invalid pk "{object_id}" - object does not exist.'
