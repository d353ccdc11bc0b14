"""A small Plane on this machine: the recorded REST API, signed webhooks, and a page per work item to look at.

State is in memory. It is the third party of the demo and of the tests; nothing of the product runs in it.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import escape

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from dispatch_common.http import http_server
from services.demo.plane_api import PlaneApi
from services.demo.plane_faults import Faults, Throttle
from services.demo.plane_hooks import Hooks, Webhook
from services.demo.plane_state import PlaneState


@dataclass
class LocalPlane:
    """A running local Plane. Use ``state`` to act in it as a person would; ``faults`` to make it fail."""

    state: PlaneState
    faults: Faults
    throttle: Throttle
    hooks: Hooks
    url: str = ""
    calls: list[str] = field(default_factory=list[str])  #: every request so far, as ``METHOD path``

    def add_webhook(self, url: str, *, secret: str | None = None) -> Webhook:
        """Register a receiver; from now on every change is sent to it."""
        return self.hooks.add(Webhook(url, secret) if secret else Webhook(url))

    def item_url(self, item_id: str) -> str:
        row = self.state.items[item_id]
        key = f"{self.state.projects[row['project']]['identifier']}-{row['sequence_id']}"
        return f"{self.url}/{self.state.slug}/browse/{key}/"


@asynccontextmanager
async def local_plane(
    *, slug: str = "demo", per_minute: int = 60, host: str = "127.0.0.1", port: int = 0, workspace: str | None = None
) -> AsyncGenerator[LocalPlane]:
    """Run a local Plane for as long as the block lasts; ``port`` 0 lets the kernel choose."""
    state = PlaneState(slug=slug, workspace=workspace) if workspace else PlaneState(slug=slug)
    hooks = Hooks(state)
    state.listeners.append(hooks.tell)
    plane = LocalPlane(state, Faults(), Throttle(per_minute), hooks)
    app = _app(plane)
    async with http_server(app, host=host, port=port) as plane.url:
        try:
            yield plane
        finally:
            await hooks.stop()


def _app(plane: LocalPlane) -> "_Counted":
    inner = PlaneApi(plane.state, plane.faults, plane.throttle).app()

    async def page(request: Request) -> Response:
        return _page(plane, request.path_params["key"])

    async def export(_: Request) -> Response:
        return JSONResponse(plane.state.export())

    inner.router.routes[:0] = [Route("/{slug}/browse/{key}/", page), Route("/_local/state", export)]
    return _Counted(inner, plane.calls)


@dataclass(slots=True)
class _Counted:
    """The app, with a note of every call."""

    inner: ASGIApp
    calls: list[str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.calls.append(f"{scope['method']} {scope['path']}")
        await self.inner(scope, receive, send)


def _page(plane: LocalPlane, key: str) -> Response:
    state = plane.state
    for row in state.items.values():
        if f"{state.projects[row['project']]['identifier']}-{row['sequence_id']}" == key:
            labels = ", ".join(escape(state.labels[each]["name"]) for each in row["labels"])
            comments = "".join(
                f"<li><b>{escape(state.users[each['actor']]['display_name'])}</b> {each['comment_html']}</li>"
                for each in reversed(state.of_item(state.comments, row["id"]))
            )
            links = "".join(
                f'<li><a href="{escape(each["url"])}">{escape(each["title"] or each["url"])}</a></li>'
                for each in state.of_item(state.links, row["id"])
            )
            return HTMLResponse(
                f"<!doctype html><title>{key}</title><h1>{key} {escape(row['name'])}</h1>"
                f"<p>{escape(state.states[row['state']]['name'])} · {labels}</p>{row['description_html']}"
                f"<h2>Links</h2><ul>{links}</ul><h2>Comments</h2><ol>{comments}</ol>",
                headers={"Content-Security-Policy": "default-src 'none'"},
            )
    return HTMLResponse("<p>No such work item.</p>", status_code=404)
