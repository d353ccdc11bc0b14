"""``POST /webhooks/plane/{source}``: bound, verify, store, 202. Raw ASGI, because every delivery passes here."""

import asyncio
import hashlib
from typing import Any, Final

from opentelemetry.trace import SpanKind
from starlette.types import Receive, Scope, Send

from dispatch_common import clock, ids, telemetry
from dispatch_common.resources import Provider, Source
from dispatch_common.settings import Settings
from services.webhook_receiver import verify
from services.webhook_receiver.admit import RETRY_AFTER, Admission, SpoolFull
from services.webhook_receiver.answer import Disconnected, Refuse, header, problem, read_body, send_json
from services.webhook_receiver.arrival import Arrival
from services.webhook_receiver.known import Known
from services.webhook_receiver.normalize import dedupe_key, normalize
from services.webhook_receiver.refusals import Refusals
from services.webhook_receiver.verify import Refusal

PREFIX: Final = "/webhooks/plane/"
_KEPT_HEADERS: Final = (b"x-plane-delivery", b"x-plane-event", b"content-type", b"user-agent")
_LONGEST_HEADER: Final = 200
#: Larger bodies are judged in a thread, so that they hold up nobody else.
_LARGE: Final = 128 * 1024
_DUPLICATE: Final = "The same content came before; it is delivery {id}."


class PlaneHook:
    """The webhook of every Plane source."""

    def __init__(self, settings: Settings, known: Known, admission: Admission, refusals: Refusals) -> None:
        self._org = settings.org
        self._most = settings.max_body_mib * 1024 * 1024
        self._known = known
        self._admission = admission
        self._refusals = refusals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"][len(PREFIX) :].rstrip("/")
        body = b""
        try:
            source = await self._source(scope, name)
            body = await read_body(scope, receive, self._most)
            await self._take(scope, send, name, source, body)
        except Disconnected:
            self._note(scope, name, _TRUNCATED, body)
        except Refuse as refused:
            self._note(scope, name, refused.refusal, body, size=refused.size)
            extra = [(b"allow", b"POST")] if refused.refusal.status == 405 else []
            await send_json(send, refused.refusal.status, problem(refused.refusal), extra)
        except SpoolFull as error:
            full = Refusal(503, "spool_full", "There is no room to keep this now.", remedy="Send it again later.")
            telemetry.log.error("a delivery could not be kept", service="webhook-receiver", reason=str(error))
            wait = str(int(RETRY_AFTER.total_seconds())).encode()
            await send_json(send, 503, problem(full), [(b"retry-after", wait)])

    async def _source(self, scope: Scope, name: str) -> Source:
        """Return the source that is addressed, or refuse, before a byte of the body is read."""
        source = self._known.now.sources.get(name)
        if source is None and len(name) <= 63 and await self._known.look_again():
            source = self._known.now.sources.get(name)
        if source is None or source.provider is not Provider.PLANE:
            raise Refuse(verify.UNKNOWN_SOURCE)
        if scope["method"] != "POST":
            raise Refuse(verify.WRONG_METHOD)
        kind, encoding = header(scope, b"content-type") or "", header(scope, b"content-encoding") or ""
        if not verify.content_type_is_json(kind, encoding):
            raise Refuse(verify.WRONG_TYPE)
        return source

    async def _take(self, scope: Scope, send: Send, name: str, source: Source, body: bytes) -> None:
        await self._verify(scope, name, body)
        read = await asyncio.to_thread(verify.read_object, body) if len(body) > _LARGE else verify.read_object(body)
        if isinstance(read, Refusal):
            raise Refuse(read)
        with telemetry.span("webhook received", kind=SpanKind.SERVER, source=name, bytes=len(body)):
            stored = await self._admission.admit(self._arrival(scope, name, body, read))
        if stored.duplicate:
            said = Refusal(202, "duplicate", _DUPLICATE.format(id=stored.id))
            self._note(scope, name, said, body)
        await send_json(send, 202, {"delivery": str(stored.id), "duplicate": stored.duplicate})

    async def _verify(self, scope: Scope, name: str, body: bytes) -> None:
        given = header(scope, b"x-plane-signature")
        refusal = verify.check_signature(given, body, self._known.now.webhook_secrets.get(name, ()))
        if refusal is None:
            return
        # The secret may have been changed a moment ago: look once more before saying no.
        if given and await self._known.look_again():
            refusal = verify.check_signature(given, body, self._known.now.webhook_secrets.get(name, ()))
        if refusal is not None:
            raise Refuse(refusal)

    def _arrival(self, scope: Scope, name: str, body: bytes, read: dict[str, Any]) -> Arrival:
        event = normalize(read)
        headers = tuple(
            (key.decode(), (header(scope, key) or "")[:_LONGEST_HEADER]) for key in _KEPT_HEADERS if header(scope, key)
        )
        return Arrival(
            id=ids.fresh(),
            org=self._org,
            source=name,
            provider=Provider.PLANE.value,
            event=event.name or "unknown",
            dedupe_key=dedupe_key(event, body),
            body=body,
            received_at=clock.now(),
            external_id=(header(scope, b"x-plane-delivery") or "")[:_LONGEST_HEADER],
            object_id=event.object_id,
            actor_id=event.actor_id,
            headers=headers,
            traceparent=telemetry.traceparent(),
        )

    def _note(self, scope: Scope, name: str, refusal: Refusal, body: bytes, *, size: int = 0) -> None:
        client = scope.get("client")
        self._refusals.note(
            source=name,
            code=refusal.code,
            sentence=refusal.sentence,
            size=size or len(body),
            digest=hashlib.sha256(body).hexdigest() if body else "",
            remote=str(client[0]) if client else "",
        )


_TRUNCATED: Final = Refusal(400, "truncated", "The sender went away before the body was whole.", "body")
