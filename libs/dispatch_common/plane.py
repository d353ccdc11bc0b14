"""Plane's REST API: what is read of it and written to it. See ``plane_wire`` for what can go wrong.

The API token is an argument and appears in no error and no log. Redirects are never followed (a redirected PATCH would
lose its body).
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from dispatch_common.plane_rate import Pace
from dispatch_common.plane_types import (
    Activity,
    Comment,
    Json,
    Label,
    Link,
    Made,
    Member,
    Project,
    State,
    User,
    WorkItem,
    member,
)
from dispatch_common.plane_wire import (
    NotFound,
    PlaneRefused,
    PlaneUnavailable,
    RateLimited,
    Unauthorized,
    Wire,
    fields_of,
    many,
    one,
    rows_of,
)

__all__ = [
    "NotFound", "Pace", "Plane", "PlaneRefused", "PlaneUnavailable", "RateLimited", "Unauthorized", "open_plane",
]  # fmt: skip

_EXPAND: Final = {"expand": "labels,assignees,state,project"}
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class Plane:
    """One workspace, as the user of one API token. Use ``open_plane``."""

    def __init__(self, wire: Wire, workspace: str) -> None:
        self._wire = wire
        self._workspace = f"/api/v1/workspaces/{quote(workspace, safe='')}"

    # --- reading ---

    async def me(self) -> User:
        return one(User.model_validate, await self._wire.get("/api/v1/users/me/"))

    async def members(self) -> tuple[Member, ...]:
        """Return everybody in the workspace with their roles (a project's own list has none)."""
        return many(member, rows_of(await self._wire.get(f"{self._workspace}/members/")))

    async def project(self, project_id: str) -> Project:
        return one(Project.model_validate, await self._wire.get(f"{self._project(project_id)}/"))

    async def projects(self) -> tuple[Project, ...]:
        return many(Project.model_validate, await self._wire.all(f"{self._workspace}/projects/"))

    async def states(self, project_id: str) -> tuple[State, ...]:
        return many(State.model_validate, await self._wire.all(f"{self._project(project_id)}/states/"))

    async def labels(self, project_id: str) -> tuple[Label, ...]:
        return many(Label.model_validate, await self._wire.all(f"{self._project(project_id)}/labels/"))

    async def item(self, project_id: str, item_id: str) -> WorkItem:
        """Return the work item with the names of its labels, state and project, whatever Plane chose to expand."""
        found = one(WorkItem.model_validate, await self._wire.get(f"{self._item(project_id, item_id)}/", _EXPAND))
        return found if found.is_named else await self._named(found)

    async def item_by_key(self, key: str) -> WorkItem:
        """Return the work item that people call ``DISP-1``."""
        path = f"{self._workspace}/work-items/{quote(key, safe='')}/"
        found = one(WorkItem.model_validate, await self._wire.get(path, _EXPAND))
        return found if found.is_named else await self._named(found)

    async def item_by_external_id(self, project_id: str, source: str, external_id: str) -> WorkItem | None:
        query = {"external_source": source, "external_id": external_id}
        try:
            return one(WorkItem.model_validate, await self._wire.get(f"{self._project(project_id)}/work-items/", query))
        except NotFound:
            return None

    async def changed_items(self, project_id: str, *, most: int = 50) -> tuple[WorkItem, ...]:
        """Return the items that changed last, newest first, without their texts."""
        fields = "id,project,name,sequence_id,updated_at,labels,state,archived_at,is_draft"
        query = {"order_by": "-updated_at", "per_page": str(most), "fields": fields}
        page = fields_of(await self._wire.get(f"{self._project(project_id)}/work-items/", query))
        return many(WorkItem.model_validate, [{"project": project_id, **each} for each in rows_of(page.get("results"))])

    async def comments(self, project_id: str, item_id: str) -> tuple[Comment, ...]:
        """Return the comments, oldest first."""
        found = many(Comment.model_validate, await self._wire.all(f"{self._item(project_id, item_id)}/comments/"))
        return tuple(sorted(found, key=lambda each: each.created_at))

    async def comment_by_external_id(
        self, project_id: str, item_id: str, source: str, external_id: str
    ) -> Comment | None:
        pair = (source, external_id)
        found = await self.comments(project_id, item_id)
        return next((each for each in found if (each.external_source, each.external_id) == pair), None)

    async def links(self, project_id: str, item_id: str) -> tuple[Link, ...]:
        return many(Link.model_validate, await self._wire.all(f"{self._item(project_id, item_id)}/links/"))

    async def activities(self, project_id: str, item_id: str) -> tuple[Activity, ...]:
        return many(Activity.model_validate, await self._wire.all(f"{self._item(project_id, item_id)}/activities/"))

    # --- writing ---

    async def create_item(self, project_id: str, fields: Json) -> Made:
        """Create a work item; one with the same external id is found instead of made twice."""
        return await self._make(f"{self._project(project_id)}/work-items/", fields)

    async def create_comment(self, project_id: str, item_id: str, html: str, *, source: str, external_id: str) -> Made:
        """Write a comment at most once per external id."""
        fields = {"comment_html": html, "external_source": source, "external_id": external_id}
        return await self._make(f"{self._item(project_id, item_id)}/comments/", fields)

    async def update_comment(self, project_id: str, item_id: str, comment_id: str, html: str) -> None:
        path = f"{self._item(project_id, item_id)}/comments/{quote(comment_id, safe='')}/"
        await self._wire.call("PATCH", path, body={"comment_html": html})

    async def delete_comment(self, project_id: str, item_id: str, comment_id: str) -> None:
        await self._wire.call("DELETE", f"{self._item(project_id, item_id)}/comments/{quote(comment_id, safe='')}/")

    async def create_link(self, project_id: str, item_id: str, url: str, title: str) -> Made:
        """Add a link; Plane refuses the same URL twice, which counts as done."""
        try:
            return await self._make(f"{self._item(project_id, item_id)}/links/", {"url": url, "title": title})
        except PlaneRefused as error:
            if error.status == 400 and "already exists" in str(error.body):
                known = next((each.id for each in await self.links(project_id, item_id) if each.url == url), "")
                return Made(id=known, existed=True)
            raise

    async def set_state(self, project_id: str, item_id: str, state_id: str) -> None:
        await self.update_item(project_id, item_id, {"state": state_id})

    async def update_item(self, project_id: str, item_id: str, fields: Json) -> None:
        """Change fields of a work item. ``labels`` and ``assignees`` replace the whole list."""
        await self._wire.call("PATCH", f"{self._item(project_id, item_id)}/", body=fields)

    # --- inside ---

    def _project(self, project_id: str) -> str:
        return f"{self._workspace}/projects/{quote(project_id, safe='')}"

    def _item(self, project_id: str, item_id: str) -> str:
        return f"{self._project(project_id)}/work-items/{quote(item_id, safe='')}"

    async def _named(self, item: WorkItem) -> WorkItem:
        update: dict[str, Any] = {}
        if not item.project.identifier:
            update["project"] = await self.project(item.project.id)
        if not all(label.name for label in item.labels):
            known = {label.id: label for label in await self.labels(item.project.id)}
            update["labels"] = tuple(known.get(label.id, label) for label in item.labels)
        if item.state is not None and not item.state.group:
            states = {state.id: state for state in await self.states(item.project.id)}
            update["state"] = states.get(item.state.id, item.state)
        return item.model_copy(update=update)

    async def _make(self, path: str, fields: Json) -> Made:
        try:
            return one(Made.model_validate, await self._wire.call("POST", path, body=fields))
        except PlaneRefused as error:
            known = fields_of(error.body).get("id") if error.status == 409 else None
            if known is None:
                raise
            return Made(id=str(known), existed=True)


@asynccontextmanager
async def open_plane(
    base_url: str,
    workspace: str,
    token: str,
    *,
    pace: Pace | None = None,
    timeout: timedelta = timedelta(seconds=15),
) -> AsyncGenerator[Plane]:
    """Open a client. Give clients of one token the same ``pace``."""
    async with httpx.AsyncClient(
        base_url=base_url.rstrip("/"),
        headers={"X-API-Key": token, "Accept": "application/json"},
        timeout=timeout.total_seconds(),
        follow_redirects=False,
        # A proxy from the environment is for the outside; a Plane on this machine is not behind one.
        trust_env=urlsplit(base_url).hostname not in _LOOPBACK,
    ) as http:
        yield Plane(Wire(http, pace or Pace()), workspace)
