"""The scripted agent's script, and what its backend makes of its lines."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runner.agent_events import Done, ErrorSeen, Question, Text, ToolCall, ToolResult
from agent_runner.backends import Exit
from agent_runner.backends.scripted import ScriptedReader
from agent_runner.scripted_agent.__main__ import default
from agent_runner.scripted_agent.script import BadScript, find, parse

PROMPT = """# DISP-1: Fix it

Please.

```python
say("not this one")
```

```dispatch-script
say Hello
replace a/b.py <<END
old line
----
new line
END
```
"""


def test_the_block_in_the_task_is_found_and_read():
    steps = parse(find(PROMPT))

    assert steps == [
        ("say", {"text": "Hello"}),
        ("replace", {"path": "a/b.py", "old": "old line\n", "new": "new line\n"}),
    ]


@pytest.mark.parametrize(
    "prompt",
    [
        "```\n#!dispatch-script\nsay Hello\n```",
        "~~~dispatch-script\nsay Hello\n~~~",
        "````dispatch-script\r\nsay Hello\r\n````",
    ],
)
def test_other_ways_to_write_the_block(prompt: str):
    assert parse(find(prompt)) == [("say", {"text": "Hello"})]


def test_no_block_is_no_script():
    assert find("Please fix it. ```code```") == ""


def test_json_says_the_same():
    script = json.dumps({"steps": [{"do": "write", "path": "a", "text": "b"}, {"do": "exit", "code": 3}]})

    assert parse(script) == [("write", {"path": "a", "text": "b"}), ("exit", {"code": 3})]


@pytest.mark.parametrize(
    "script", ["fly to the moon", "write a <<END\nno end", "replace a <<END\nold\nEND", "[1]", '{"steps": 1}', "[nope"]
)
def test_what_is_not_understood_is_refused(script: str):
    with pytest.raises(BadScript):
        parse(script)


def test_without_a_script_the_agent_leaves_a_note_whose_name_is_safe():
    steps = default("anything", {"DISPATCH_TASK_KEY": "../../etc/DISP-1", "DISPATCH_TASK_TITLE": "Fix it"})

    assert ("write", "NOTES-etcDISP-1.md") in [(verb, given.get("path")) for verb, given in steps]
    assert [verb for verb, _ in steps] == ["say", "write", "commit"]


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_lines_become_events():
    reader = ScriptedReader()

    assert reader.events(line(scripted="say", text="hi")) == (Text(text="hi"),)
    assert reader.events(line(scripted="ask", question="q1", text="why?")) == (Question(question="q1", text="why?"),)
    assert reader.events(line(scripted="tool", call="c", tool="shell", input={"command": "ls"})) == (
        ToolCall(call="c", tool="shell", input={"command": "ls"}),
    )
    assert reader.events(line(scripted="tool-result", call="c", ok=True, output="x", cut=True)) == (
        ToolResult(call="c", ok=True, output="x", truncated=True),
    )


def unheard_of(kind: str) -> bytes:
    return line(scripted=f"{kind}!")


@given(st.binary() | st.text().map(str.encode) | st.text().map(unheard_of))
def test_anything_else_is_garbage_and_never_fatal(raw: bytes):
    assert ScriptedReader().events(raw) is None


def test_success_needs_the_last_word_and_the_exit_code():
    reader = ScriptedReader()
    assert reader.events(line(scripted="done", ok=True, summary="Good.")) == (Done(ok=True, summary="Good."),)

    assert reader.verdict(Exit(0, None)).ok
    assert not reader.verdict(Exit(1, None)).ok
    assert not ScriptedReader().verdict(Exit(0, None)).ok


def test_the_agents_own_error_names_the_family():
    reader = ScriptedReader()
    assert reader.events(line(scripted="error", text="tests fail", family="verification_failed")) == (
        ErrorSeen(text="tests fail", family="verification_failed"),
    )

    verdict = reader.verdict(Exit(1, None))
    assert (verdict.ok, verdict.family, verdict.sentence) == (False, "verification_failed", "tests fail")
