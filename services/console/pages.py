"""The pages for people: sign in, the runs, one run, one pull. Server-rendered; the scripts only keep them fresh.

All text from outside passes through Jinja's escaping or, in the scripts, through textContent. The content policy allows
no inline script, no foreign host, and no HTML made by scripts.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from fastapi.templating import Jinja2Templates
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.console.api.runs import answer_approval, answer_why, ask_cancel
from services.console.api.work import At
from services.console.auth import Principal, Role, by_token
from services.console.desk import Desk, desk
from services.console.problems import ErrorBody, Problem
from services.console.reads import agents as agent_reads
from services.console.reads import pulls as pull_reads
from services.console.reads import run_detail
from services.console.reads import runs as run_reads
from services.console.reads.ids import resolve
from services.console.session import forged
from services.console.why import pending

router: Final = APIRouter()
_TEMPLATES: Final = Jinja2Templates(directory=Path(__file__).parent / "templates")
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_LARGEST_FORM: Final = 64 * 1024
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Headers:
    """Puts the security headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if not scope["path"].startswith("/static/"):
                    headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, with_headers)


class SignedOut(Exception):
    """Nobody is signed in."""


async def visitor(request: Request, at: Annotated[Desk, Depends(desk)]) -> Principal:
    """Return who is signed in on a page."""
    principal = await at.sessions.principal(at.db, request)
    if principal is None or principal.org != at.org:
        raise SignedOut
    return principal


Visitor = Annotated[Principal, Depends(visitor)]


async def to_sign_in(request: Request, _error: Exception) -> Response:
    """Lead to the sign-in page, and from there back."""
    back = request.url.path if request.method == "GET" else "/"
    return RedirectResponse(f"/login?back={back}" if back != "/" else "/login", status_code=303)


async def fields(request: Request) -> dict[str, str]:
    """Return the fields of a plain form."""
    size, body = 0, bytearray()
    async for chunk in request.stream():
        size += len(chunk)
        if size > _LARGEST_FORM:
            raise Problem(413, "too_large", "The form is too large.", remedy="Write less.")
        body += chunk
    return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=20))


Form = Annotated[dict[str, str], Depends(fields)]


def _age(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _web(url: str) -> str:
    """Return a link's address if it leads to the web or to a page of ours, else nothing: sources may write anything."""
    ours = url.startswith("/") and not url.startswith("//") and "\\" not in url
    return url if url.startswith(("https://", "http://")) or ours else ""


_TEMPLATES.env.filters["age"] = _age
_TEMPLATES.env.filters["web"] = _web


def _page(request: Request, name: str, who: Principal | None, status: int = 200, **values: Any) -> Response:
    known: Desk = request.app.state.known
    session = known.sessions.of(request)
    context = {
        "who": who,
        "csrf": session.csrf if session else "",
        "may_operate": who is not None and who.may(Role.OPERATOR),
        "may_approve": who is not None and who.may(Role.APPROVER),
        **values,
    }
    return _TEMPLATES.TemplateResponse(request, name, context, status_code=status)


def problem_page(request: Request, status: int, problem: ErrorBody) -> Response:
    """Return a page that says what is wrong and what to do."""
    return _page(request, "problem.html", None, status, problem=problem)


@router.get("/login")
async def sign_in_page(request: Request, back: str = "/") -> Response:
    """Show the form that takes a token."""
    return _page(request, "login.html", None, back=back)


@router.post("/login")
async def sign_in(request: Request, at: At, form: Form) -> Response:
    """Begin a session."""
    back = form.get("back", "/")
    foreign = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    principal = None if foreign else await by_token(at.db, form.get("token", "").strip())
    if principal is None or principal.org != at.org:
        return _page(request, "login.html", None, 401, back=back, wrong=True)
    response = RedirectResponse(_own(back), status_code=303)
    at.sessions.begin(response, principal)
    return response


def _own(back: str) -> str:
    """Return a path of ours: a link to the sign-in page must not lead elsewhere afterwards."""
    return back if back.startswith("/") and not back.startswith(("//", "/\\")) and ":" not in back else "/"


@router.post("/logout")
async def sign_out(request: Request, at: At, _who: Visitor, form: Form) -> Response:
    """End the session."""
    _ours(request, at, form)
    response = RedirectResponse("/login", status_code=303)
    at.sessions.end(response)
    return response


@router.get("/")
async def runs_page(request: Request, at: At, who: Visitor, show: Literal["all", "live"] = "all") -> Response:
    """Show the newest runs and the agents."""
    page = await run_reads.list_runs(at.db, org=at.org, live=show == "live", limit=50)
    agents = await agent_reads.agents(at.db, org=at.org)
    return _page(request, "runs.html", who, runs=page.items, agents=agents, show=show)


@router.get("/runs/{run}")
async def run_page(run: str, request: Request, at: At, who: Visitor) -> Response:
    """Show one run."""
    run_id = await resolve(at.db, "run", run, org=at.org)
    detail = await run_detail.detail(at.db, run_id)
    return _page(
        request,
        "run.html",
        who,
        run=detail,
        why=await answer_why(at, run_id),
        approval=pending(detail),
        last_step=detail.steps[-1].number if detail.steps else 0,
    )


@router.post("/runs/{run}/{verb}")
async def act(
    run: str,
    verb: Literal["cancel", "approve", "deny"],
    request: Request,
    at: At,
    who: Visitor,
    form: Form,
) -> Response:
    """Do what a button of a run's page says."""
    _ours(request, at, form)
    comment = form.get("comment", "")[:4000]
    wanted = Role.OPERATOR if verb == "cancel" else Role.APPROVER
    if not who.may(wanted):
        raise Problem(
            403, "forbidden", f"'{who.name}' lacks the role '{wanted}'.", remedy="Sign in with another token."
        )
    if verb == "cancel":
        await ask_cancel(at, await resolve(at.db, "run", run, org=at.org), who, comment)
    else:
        await answer_approval(at, run, who, verb, comment)
    return RedirectResponse(f"/runs/{run}", status_code=303)


@router.get("/pulls/{repository}/{number}")
async def pull_page(repository: str, number: int, request: Request, at: At, who: Visitor) -> Response:
    """Show a pull request of the local forge."""
    pull = await pull_reads.view(at.db, org=at.org, repository=repository, number=number)
    return _page(request, "pull.html", who, pull=pull)


def _ours(request: Request, at: Desk, form: dict[str, str]) -> None:
    session = at.sessions.of(request)
    if session is None or forged(request, session, form.get("csrf", "")):
        raise Problem(403, "forged", "The form did not come from a page of ours.", remedy="Load the page again.")
