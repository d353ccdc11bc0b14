"""The rows of the local Plane, in the shapes that the recorded API answers and webhooks have. No state, no I/O."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias, cast

from bs4 import BeautifulSoup
from bs4.element import Tag

Row: TypeAlias = dict[str, Any]

STATES: Final = (
    ("Backlog", "#60646C", 15000.0, "backlog"),
    ("Todo", "#60646C", 25000.0, "unstarted"),
    ("In Progress", "#F59E0B", 35000.0, "started"),
    ("Done", "#46A758", 45000.0, "completed"),
    ("Cancelled", "#9AA4BC", 55000.0, "cancelled"),
)
CLOSED_GROUPS: Final = frozenset({"completed"})
_USER_KEYS: Final = ("id", "first_name", "last_name", "email", "avatar", "avatar_url", "display_name")
_ITEM_ORDER: Final = (
    "id", "labels", "assignees", "state", "description", "created_at", "updated_at", "deleted_at", "point", "name",
    "description_json", "description_html", "description_stripped", "description_binary", "priority", "start_date",
    "target_date", "sequence_id", "sort_order", "completed_at", "archived_at", "is_draft", "external_source",
    "external_id", "created_by", "updated_by", "project", "workspace", "parent", "estimate_point", "type",
)  # fmt: skip


def stamp(at: datetime) -> str:
    """Return the time as Plane writes it: always with microseconds, always Z."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def user(user_id: str, name: str, email: str) -> Row:
    return {
        "id": user_id, "first_name": name.title(), "last_name": "", "email": email, "avatar": "", "avatar_url": None,
        "display_name": name,
    }  # fmt: skip


def user_lite(row: Mapping[str, Any]) -> Row:
    return {key: row[key] for key in _USER_KEYS}


def base(row_id: str, at: str, actor: str | None) -> Row:
    return {
        "id": row_id, "created_at": at, "updated_at": at, "deleted_at": None, "created_by": actor, "updated_by": None,
    }  # fmt: skip


def project(common: Row, workspace: str, asked: Mapping[str, Any]) -> Row:
    return common | {
        "cover_image_url": None, "name": asked["name"], "description": asked.get("description", ""),
        "description_text": None, "description_html": None, "network": 2, "identifier": asked["identifier"],
        "emoji": None, "icon_prop": None, "module_view": asked.get("module_view", False),
        "cycle_view": asked.get("cycle_view", False), "issue_views_view": False, "page_view": True,
        "intake_view": asked.get("intake_view", False), "is_time_tracking_enabled": False,
        "is_issue_type_enabled": False, "guest_view_all_features": False, "cover_image": None, "archive_in": 0,
        "close_in": 0, "logo_props": {"icon": {"name": "home", "color": "#02b55c"}, "in_use": "icon"},
        "archived_at": None, "timezone": "UTC", "external_source": None, "external_id": None, "workspace": workspace,
        "default_assignee": None, "project_lead": None, "cover_image_asset": None, "estimate": None,
        "default_state": None,
    }  # fmt: skip


def project_answer(row: Row, *, role: int, members: int) -> Row:
    """Return the project as the API shows it to somebody: with the counts and that person's role."""
    extra = {
        "total_members": members, "total_cycles": 0, "total_modules": 0, "is_member": True, "member_role": role,
        "is_deployed": False,
    }  # fmt: skip
    return extra | row


def project_expanded(row: Row) -> Row:
    keys = ("id", "identifier", "name", "cover_image", "icon_prop", "emoji", "description", "cover_image_url")
    return {key: row[key] for key in keys}


def state(common: Row, project_row: Row, name: str, color: str, sequence: float, group: str) -> Row:
    return common | {
        "name": name, "description": "", "color": color, "slug": "", "sequence": sequence, "group": group,
        "is_triage": False, "default": group == "backlog", "external_source": None, "external_id": None,
        "project": project_row["id"], "workspace": project_row["workspace"],
    }  # fmt: skip


def state_expanded(row: Row) -> Row:
    return {key: row[key] for key in ("id", "name", "color", "group")}


def label(common: Row, project_row: Row, asked: Mapping[str, Any], sort_order: float) -> Row:
    return common | {
        "name": asked["name"], "description": asked.get("description", ""), "color": asked.get("color", ""),
        "sort_order": sort_order, "external_source": None, "external_id": None, "workspace": project_row["workspace"],
        "project": project_row["id"], "parent": None,
    }  # fmt: skip


def item(common: Row, project_row: Row, asked: Mapping[str, Any], *, sequence: int, state_id: str) -> Row:
    return common | {
        "type_id": None, "point": None, "name": asked["name"],
        "description_html": one_root(asked.get("description_html") or "<p></p>"), "description_binary": None,
        "priority": asked.get("priority", "none"), "start_date": asked.get("start_date"),
        "target_date": asked.get("target_date"), "sequence_id": sequence, "sort_order": 55535.0 + 10000 * sequence,
        "completed_at": None, "archived_at": None, "is_draft": False, "external_source": asked.get("external_source"),
        "external_id": asked.get("external_id"), "project": project_row["id"], "workspace": project_row["workspace"],
        "parent": asked.get("parent"), "state": state_id, "estimate_point": None, "type": None,
        "assignees": list(asked.get("assignees", ())), "labels": list(asked.get("labels", ())),
    }  # fmt: skip


def item_event(row: Row, *, labels: Iterable[Row], assignees: Iterable[Row], state_row: Row) -> Row:
    """Return the work item as a webhook's ``data`` shows it."""
    full = row | {
        "labels": [{key: each[key] for key in ("id", "name", "color")} for each in labels],
        "assignees": [user_lite(each) for each in assignees],
        "state": state_expanded(state_row),
        "description": {},
        "description_json": {},
        "description_stripped": BeautifulSoup(row["description_html"], "html.parser").get_text(),
    }
    return {key: full[key] for key in _ITEM_ORDER}


def comment(common: Row, item_row: Row, asked: Mapping[str, Any], *, actor: str, description: str) -> Row:
    return {key: common[key] for key in ("id", "created_at", "updated_at", "deleted_at")} | {
        "comment_html": asked.get("comment_html") or "<p></p>", "attachments": [],
        "access": asked.get("access", "INTERNAL"), "external_source": asked.get("external_source"),
        "external_id": asked.get("external_id"), "edited_at": None, "created_by": common["created_by"],
        "updated_by": None, "project": item_row["project"], "workspace": item_row["workspace"],
        "description": description, "issue": item_row["id"], "actor": actor, "parent": None,
    }  # fmt: skip


def link(common: Row, item_row: Row, asked: Mapping[str, Any]) -> Row:
    return common | {
        "title": asked.get("title"), "url": asked["url"], "metadata": {}, "updated_by": common["created_by"],
        "project": item_row["project"], "workspace": item_row["workspace"], "issue": item_row["id"],
    }  # fmt: skip


def activity(common: Row, item_row: Row, *, actor: str, epoch: float, said: Mapping[str, Any]) -> Row:
    plain = {key: common[key] for key in ("id", "created_at", "updated_at", "deleted_at")}
    empty: Row = {
        "verb": "updated", "field": None, "old_value": None, "new_value": None, "comment": "", "attachments": [],
        "old_identifier": None, "new_identifier": None, "epoch": epoch, "project": item_row["project"],
        "workspace": item_row["workspace"], "issue": item_row["id"], "issue_comment": None, "actor": actor,
    }  # fmt: skip
    return plain | empty | dict(said)


def one_root(html: str) -> str:
    """Return the HTML as Plane stores a description: balanced, and in a ``<div>`` when it has several roots."""
    soup = BeautifulSoup(html, "html.parser")
    roots = [each for each in soup.contents if isinstance(each, Tag) or str(each).strip()]
    text = str(soup)
    return text if len(roots) <= 1 else f"<div>{text}</div>"


def page(rows: list[Row], *, per_page: int, cursor: str | None) -> Row:
    """Return one page in Plane's envelope. A cursor is ``size:page:is_previous``; the next one is always there."""
    number = int(cursor.split(":")[1]) if cursor else 0
    shown = rows[number * per_page : (number + 1) * per_page]
    return {
        "grouped_by": None, "sub_grouped_by": None, "total_count": len(rows),
        "next_cursor": f"{per_page}:{number + 1}:0", "prev_cursor": f"{per_page}:{number - 1}:1",
        "next_page_results": (number + 1) * per_page < len(rows), "prev_page_results": number > 0,
        "count": len(shown), "total_pages": -(-len(rows) // per_page), "total_results": len(rows),
        "extra_stats": None, "results": shown,
    }  # fmt: skip


def only(row: Row, fields: Iterable[str]) -> Row:
    wanted = set(fields)
    return {key: value for key, value in row.items() if key in wanted}


def as_row(value: object) -> Row | None:
    """Return a decoded JSON object, or None when the value is something else."""
    return cast("Row", value) if isinstance(value, dict) else None
