"""The REST API of the local Plane: paths, permissions, rate limit and error shapes as the real one was recorded."""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from dispatch_common import clock
from services.demo import plane_answers as answers
from services.demo.plane_answers import Answer, Call
from services.demo.plane_faults import Fault, Faults, Switch, Throttle
from services.demo.plane_rows import Row, as_row
from services.demo.plane_state import FORBIDDEN, GUEST, MEMBER, NO_SUCH, PlaneAnswer, PlaneState

Endpoint: TypeAlias = Callable[[Call], Answer]

_W: Final = "/api/v1/workspaces/{slug}"
_P: Final = _W + "/projects/{project}"
#: path -> method -> (endpoint, least role)
ROUTES: Final[Mapping[str, Mapping[str, tuple[Endpoint, int]]]] = {
    "/api/v1/users/me/": {"GET": (answers.me, GUEST)},
    _W + "/members/": {"GET": (answers.workspace_members, GUEST)},
    _W + "/work-items/{key}/": {"GET": (answers.item_by_key, GUEST)},
    _W + "/projects/": {"GET": (answers.projects, GUEST), "POST": (answers.add_project, MEMBER)},
    _P + "/": {"GET": (answers.project, GUEST), "PATCH": (answers.patch_project, MEMBER)},
    _P + "/members/": {"GET": (answers.project_members, GUEST)},
    _P + "/project-members/": {"POST": (answers.add_member, MEMBER)},
    _P + "/states/": {"GET": (answers.states, GUEST)},
    _P + "/labels/": {"GET": (answers.labels, GUEST), "POST": (answers.add_label, MEMBER)},
    _P + "/labels/{label}/": {"PATCH": (answers.patch_label, MEMBER)},
    _P + "/work-items/": {"GET": (answers.items, GUEST), "POST": (answers.add_item, MEMBER)},
    _P + "/work-items/{item}/": {
        "GET": (answers.item, GUEST),
        "PATCH": (answers.patch_item, MEMBER),
        "DELETE": (answers.delete_item, MEMBER),
    },
    _P + "/work-items/{item}/comments/": {"GET": (answers.comments, GUEST), "POST": (answers.add_comment, GUEST)},
    _P + "/work-items/{item}/comments/{comment}/": {
        "GET": (answers.comment, GUEST),
        "PATCH": (answers.patch_comment, GUEST),
        "DELETE": (answers.delete_comment, GUEST),
    },
    _P + "/work-items/{item}/links/": {"GET": (answers.links, GUEST), "POST": (answers.add_link, MEMBER)},
    _P + "/work-items/{item}/links/{link}/": {"DELETE": (answers.delete_link, MEMBER)},
    _P + "/work-items/{item}/activities/": {"GET": (answers.activities, GUEST)},
}


@dataclass(slots=True)
class PlaneApi:
    """The API over one state."""

    state: PlaneState
    faults: Faults
    throttle: Throttle

    def app(self) -> Starlette:
        routes = [
            Route(each, self._handler(methods), methods=list(methods))
            for path, methods in ROUTES.items()
            for each in sorted({path, path.replace("}/work-items/", "}/issues/")})
        ]
        routes.append(Route("/{rest:path}", _elsewhere, methods=["GET", "POST", "PATCH", "PUT", "DELETE"]))
        return Starlette(routes=routes)

    def _handler(self, methods: Mapping[str, tuple[Endpoint, int]]) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            endpoint, least = methods["GET" if request.method == "HEAD" else request.method]
            return await self._answer(request, endpoint, least)

        return handle

    async def _answer(self, request: Request, endpoint: Endpoint, least: int) -> Response:
        switch = self.faults.take(request.method, request.url.path)
        before = await _before(switch)
        if before is not None:
            return before
        headers: dict[str, str] = {}
        try:
            actor = self._allowed(request, least)
            headers = self._throttled(request.headers["x-api-key"])
            call = Call(self.state, actor, dict(request.path_params), dict(request.query_params), await _body(request))
            status, body = endpoint(call)
        except PlaneAnswer as answer:
            status, body = answer.status, answer.body
            headers |= answer.body.get("headers", {})
            body = {key: value for key, value in answer.body.items() if key != "headers"}
        if switch is not None and switch.fault is Fault.FAIL_AFTER:
            return JSONResponse({"error": "Something went wrong please try again later"}, status_code=500)
        if switch is not None and switch.fault is Fault.DROP_AFTER:
            return _Dropped()
        return Response(status_code=204, headers=headers) if status == 204 else JSONResponse(body, status, headers)

    def _allowed(self, request: Request, least: int) -> str:
        token = request.headers.get("x-api-key")
        if not token:
            raise PlaneAnswer(401, {"detail": "Authentication credentials were not provided."})
        actor = self.state.tokens.get(token)
        if actor is None:
            raise PlaneAnswer(403, {"detail": "Given API token is not valid"})
        slug, project = request.path_params.get("slug"), request.path_params.get("project")
        if slug is None:
            return actor
        role = self.state.roles.get(actor, 0)
        if project is not None and project in self.state.projects:
            role = self.state.project_roles[project].get(actor, 0)
        if slug != self.state.slug or role < least:
            raise PlaneAnswer(403, FORBIDDEN)
        if project is not None and project not in self.state.projects:
            raise PlaneAnswer(404, NO_SUCH)
        return actor

    def _throttled(self, token: str) -> dict[str, str]:
        now = clock.now().timestamp()
        left, wait = self.throttle.take(token, now)
        if left < 0:
            raise PlaneAnswer(429, _too_many(wait))
        return {"X-RateLimit-Remaining": str(left), "X-RateLimit-Reset": str(int(now) + 60)}


def _too_many(wait: float) -> Row:
    return {
        "error_code": 5900,
        "error_message": "RATE_LIMIT_EXCEEDED",
        "headers": {"Retry-After": str(max(1, math.ceil(wait)))},
    }


async def _before(switch: Switch | None) -> Response | None:
    match switch:
        case Switch(fault=Fault.REFUSE):
            return JSONResponse({"error": "unavailable"}, status_code=503)
        case Switch(fault=Fault.DROP_BEFORE):
            return _Dropped()
        case Switch(fault=Fault.RATE_LIMIT, seconds=seconds):
            said = _too_many(seconds)
            return JSONResponse({key: said[key] for key in said if key != "headers"}, 429, said["headers"])
        case Switch(fault=Fault.DELAY, seconds=seconds):
            await asyncio.sleep(seconds)
        case _:
            pass
    return None


async def _body(request: Request) -> Row:
    raw = await request.body()
    if not raw:
        return {}
    try:
        body = as_row(json.loads(raw))
    except ValueError as error:
        raise PlaneAnswer(400, {"detail": f"JSON parse error - {error}"}) from error
    if body is None:
        raise PlaneAnswer(400, {"non_field_errors": ["Invalid data. Expected a dictionary."]})
    return body


async def _elsewhere(request: Request) -> Response:
    path = request.url.path
    if path.startswith("/api/") and not path.endswith("/"):
        return RedirectResponse(str(request.url.replace(path=path + "/")), status_code=301)
    return JSONResponse({"error": "Page not found."}, status_code=404)


class _Dropped(Response):
    """An answer that ends before it is complete, so that the client sees a broken connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})
        raise ConnectionAbortedError("dropped on purpose")
