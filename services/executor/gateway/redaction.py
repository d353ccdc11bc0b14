"""Takes minted secrets, in any encoding, out of what an agent says, also one that is spread over events. PURE."""

import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable
from typing import Any, Final, cast
from urllib.parse import quote

import orjson

from agent_runner.protocol import (
    AgentEvent,
    Done,
    ErrorSeen,
    Question,
    SandboxViolation,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)

MARK: Final = "[redacted]"
#: Fewer characters than this say nothing about a secret, and would be found by chance.
_LEAST: Final = 5


def encodings(secret: str) -> list[str]:
    """Return the forms in which a secret may be written, longest first."""
    raw = secret.encode()
    forms = {secret, quote(secret, safe=""), orjson.dumps(secret)[1:-1].decode(), raw.hex(), raw.hex().upper()}
    for offset in range(3):
        # A base64 text that holds the secret somewhere: only the characters that its neighbours cannot change.
        first, last = -(-8 * offset // 6), 8 * (offset + len(raw)) // 6
        for encode in (b64encode, urlsafe_b64encode):
            forms.add(encode(b"\0" * offset + raw).decode()[first:last])
    return sorted((form for form in forms if len(form) > _LEAST), key=len, reverse=True)


class Redactor:
    """Redacts one attempt's events, in order. Texts that continue each other are read as one."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._forms = sorted(
            {form for secret in secrets if secret for form in encodings(secret)}, key=len, reverse=True
        )
        self._any = re.compile("|".join(map(re.escape, self._forms)) or r"(?!)")
        self._beginnings = re.compile("|".join(sorted({re.escape(form[:_LEAST]) for form in self._forms})) or r"(?!)")
        self._longest = max(map(len, self._forms), default=0)
        self._flows = {Text: _Flow(), Thinking: _Flow()}

    def event(self, event: AgentEvent) -> AgentEvent:
        """Return the event without any secret. What might be the beginning of one moves to the next event, or goes."""
        match event:
            case Text() | Thinking():
                return event.model_copy(update={"text": self._flowing(self._flows[type(event)], event.text)})
            case ErrorSeen() | SandboxViolation() | Question():
                return event.model_copy(update={"text": self.text(event.text)})
            case ToolResult():
                return event.model_copy(update={"output": self.text(event.output)})
            case ToolCall():
                return event.model_copy(update={"input": self._within(event.input)})
            case Done():
                return event.model_copy(update={"summary": self.text(event.summary)})
            case _:
                return event

    def content(self, raw: bytes) -> bytes:
        """Return a file's bytes without any secret; the very same bytes when there was none."""
        if not any(form.encode() in raw for form in self._forms):
            return raw
        for form in self._forms:
            raw = raw.replace(form.encode(), MARK.encode())
        return raw

    def text(self, text: str) -> str:
        """Return a text that stands for itself, without any secret."""
        return self._any.sub(MARK, text)

    def _within(self, value: Any) -> Any:
        match value:
            case str():
                return self.text(value)
            case dict():
                fields = cast("dict[str, Any]", value)
                return {self.text(name): self._within(each) for name, each in fields.items()}
            case list():
                return [self._within(each) for each in cast("list[Any]", value)]
            case _:
                return value

    def _flowing(self, flow: "_Flow", text: str) -> str:
        joined = flow.before + flow.held + text
        begin = len(flow.before)
        shown: list[str] = []
        at = begin
        for found in [*self._end_of_one(flow, text), *((m.start(), m.end()) for m in self._any.finditer(joined))]:
            if found[1] > at:
                shown += [joined[at : max(at, found[0])], MARK]
                at = found[1]
        hold_from = max(at, len(joined) - self._beginning_at_the_end(joined))
        shown.append(joined[at:hold_from])
        flow.held = joined[hold_from:]
        flow.before = joined[:hold_from][-self._longest :]
        flow.fresh = False
        return "".join(shown)

    def _end_of_one(self, flow: "_Flow", text: str) -> list[tuple[int, int]]:
        """Find the end of a secret whose beginning was held by a process that died."""
        if not flow.fresh:
            return []
        for form in self._forms:
            for length in range(len(form) - 1, _LEAST - 1, -1):
                if text.startswith(form[-length:]):
                    return [(0, length)]
        return []

    def _beginning_at_the_end(self, joined: str) -> int:
        """Return how many of the last characters may be the beginning of a secret."""
        if not self._beginnings.search(joined, max(0, len(joined) - self._longest)):
            return 0
        for length in range(min(self._longest, len(joined)), _LEAST - 1, -1):
            end = joined[-length:]
            if any(len(form) > length and form.startswith(end) for form in self._forms):
                return length
        return 0


class _Flow:
    """Texts of one kind, as one stream: what was shown last, and what is held back."""

    def __init__(self) -> None:
        self.before = ""
        self.held = ""
        self.fresh = True
