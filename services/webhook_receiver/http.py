"""The receiver's front door: webhooks go straight to their handler, everything else to the API."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.webhook_receiver import hook
from services.webhook_receiver.answer import Disconnected, Refuse, problem, read_body, send_json

#: A task is text that a person wrote.
LARGEST_TASK: Final = 2 * 1024 * 1024


def front(webhooks: ASGIApp, api: ASGIApp) -> ASGIApp:
    """Return the application of the receiver's port."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"].startswith(hook.PREFIX):
            await webhooks(scope, receive, send)
        else:
            await _bounded(api, scope, receive, send)

    return app


async def _bounded(api: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    try:
        body = await read_body(scope, receive, LARGEST_TASK)
    except Disconnected:
        return
    except Refuse as refused:
        await send_json(send, refused.refusal.status, problem(refused.refusal))
        return
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return whole.pop() if whole else await receive()

    await api(scope, again, send)
