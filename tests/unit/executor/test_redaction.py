"""No minted secret gets into a log, however it is written or broken up."""

import base64
import json
from urllib.parse import quote
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runner.protocol import Done, ErrorSeen, Text, Thinking, ToolCall, ToolResult
from services.executor.gateway.redaction import MARK, Redactor

SECRET = 'dar_q7"/+w' + UUID(int=0x1234_5678_9ABC_DEF0_1122_3344_5566_7788).hex

WRITTEN = {
    "plain": SECRET,
    "url": quote(SECRET, safe=""),
    "json": json.dumps(SECRET)[1:-1],
    "hex": SECRET.encode().hex(),
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64 of more": base64.b64encode(f"user:{SECRET}!".encode()).decode(),
    "base64 of one before": base64.b64encode(f"u{SECRET}".encode()).decode(),
    "url-safe base64": base64.urlsafe_b64encode(f"xy{SECRET}".encode()).decode(),
}


def traces(text: str) -> list[str]:
    """What of the secret could still be read in a text, in any of its forms: eight characters are enough to tell."""
    found: list[str] = []
    for form in WRITTEN.values():
        inner = form[4:-4]
        found += [inner[i : i + 8] for i in range(len(inner) - 8) if inner[i : i + 8] in text]
    return found


@pytest.mark.parametrize("form", WRITTEN.values(), ids=WRITTEN)
def test_every_encoding_is_found(form: str) -> None:
    shown = Redactor([SECRET]).text(f"before {form} after")

    assert shown.startswith("before ")
    assert shown.endswith(" after")
    assert MARK in shown
    assert traces(shown) == []


def test_it_is_found_in_all_that_an_agent_says() -> None:
    redactor = Redactor([SECRET])
    events = [
        Text(text=f"a {SECRET}"),
        Thinking(text=SECRET),
        ToolCall(call="1", tool="shell", input={SECRET: [f"echo {SECRET}", {"deep": SECRET}], "n": 3}),
        ToolResult(call="1", ok=True, output=f"{SECRET}\n{SECRET}"),
        ErrorSeen(text=SECRET),
        Done(ok=True, summary=SECRET),
    ]

    for event in events:
        assert traces(redactor.event(event).model_dump_json()) == []


@given(st.lists(st.integers(1, 12), min_size=1), st.sampled_from(sorted(WRITTEN.values())))
def test_it_is_found_however_it_is_broken_up(sizes: list[int], form: str) -> None:
    redactor = Redactor([SECRET])
    whole, shown = f"The token is {form} and that is all.", ""
    while whole:
        size = sizes.pop(0) if sizes else 7
        piece, whole = whole[:size], whole[size:]
        shown += said(redactor, piece)

    assert traces(shown) == []
    assert shown.startswith("The token is ")
    assert shown.endswith(" and that is all.")


def test_other_words_between_the_pieces_do_not_help() -> None:
    redactor = Redactor([SECRET])
    shown = said(redactor, SECRET[:20])
    redactor.event(ToolCall(call="1", tool="shell"))
    shown += said(redactor, SECRET[20:] + " ok")

    assert traces(shown) == []
    assert shown == f"{MARK} ok"


def test_a_new_process_does_not_show_the_rest_of_a_secret_that_the_old_one_held_back() -> None:
    before, after = Redactor([SECRET]), Redactor([SECRET])

    assert traces(said(before, f"x {SECRET[:20]}") + said(after, f"{SECRET[20:]} y")) == []


@given(st.lists(st.text(), max_size=8))
def test_innocent_text_is_kept_as_it_is(pieces: list[str]) -> None:
    redactor = Redactor([SECRET])

    assert "".join(said(redactor, piece) for piece in pieces) == "".join(pieces)


def said(redactor: Redactor, text: str) -> str:
    event = redactor.event(Text(text=text))
    assert isinstance(event, Text)
    return event.text
