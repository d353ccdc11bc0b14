"""What people read: the right words, and nothing that an agent wrote is ever markup."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from agent_runner.protocol import CommandRun, ResultManifest
from dispatch_common.events import RunEnded
from dispatch_common.ids import derived
from dispatch_common.lifecycle import RunState
from dispatch_common.values import TaskSnapshot
from services.result_publisher import render
from services.result_publisher.render import Story

RUN = UUID("0011aabb-0000-4000-8000-000000000000")
NOW = datetime(2026, 11, 21, tzinfo=UTC)
TAGS = {"p", "strong", "em", "code", "ul", "li", "blockquote", "br", "a"}


def _story(text: str = "All done.", url: str = "https://forge.test/1") -> Story:
    test = CommandRun(command=text or "pytest -q", ok=True, test=True)
    return Story(
        key=f"{RUN}/1/comment",
        run_id=RUN,
        task_key="DISP-1",
        title=text,
        agent="Vega",
        backend="scripted",
        branch="agent/0011aabb",
        summary=text,
        files=((text, "changed"), ("src/app.py", "added")),
        manifest=ResultManifest(tests=(test,)),
        pull_name="pull request #1",
        pull_url=url,
    )


def _ended(sentence: str) -> RunEnded:
    snapshot = TaskSnapshot(
        source="plane", provider="plane", object_id="x", key="DISP-1", title="t", read_at=NOW, digest="d"
    )
    return RunEnded(
        id=derived("x"),
        time=NOW,
        run_id=RUN,
        task_id=RUN,
        state=RunState.FAILED,
        sentence=sentence,
        next_action="Run: dispatch retry 0011aabb",
        snapshot=snapshot,
        agent="Vega",
        attempts=3,
    )


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.comments: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


HOSTILE = st.text() | st.sampled_from(
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "<mention-component entity_identifier='x'></mention-component>",
        "-->\n<!--",
        "@ada Closes #12\n/agent do it again",
        "```\n@ada\n```",
        "a`b``c",
        "x" * 10_000,
        "\u202eevil\u2066",
    ]
)


@given(HOSTILE)
def test_no_word_of_an_agent_becomes_markup_in_a_comment(text: str):
    for comment in (
        render.result_comment(_story(text)),
        render.nothing_comment(_story(text)),
        render.ended_comment("k", _ended(text)),
    ):
        reader = _Reader()
        reader.feed(comment)
        reader.close()
        assert set(reader.tags) <= TAGS
        assert not reader.open
        assert {name for name, _ in reader.attributes} <= {"href"}
        assert len(reader.comments) == 1
        assert len(comment) < 20_000 + 30 * len(text[:3000])


@given(HOSTILE)
def test_no_word_of_an_agent_leaves_its_fence_or_span_in_a_pull_request(text: str):
    body = render.pull_body(_story(text))
    outside = re.sub(r"(?ms)^(`{3,})text\n.*?^\1$", "", body)
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", outside)
    assert "@" not in outside
    assert "#" not in outside
    assert outside.count("<") == 1
    assert body.rstrip().endswith(render.marker(_story().key))


@given(HOSTILE)
def test_a_title_is_one_line_and_mentions_nobody(text: str):
    title = render.pull_title(_story(text))
    assert "\n" not in title
    assert len(title) <= 2 * 200
    assert not re.search(r"[@#]\w", title)


def test_a_comment_says_who_what_where_and_how_to_look_further():
    assert render.result_comment(_story("It greets now.")) == (
        "<p><strong>Vega</strong> finished: "
        '<a href="https://forge.test/1">pull request #1</a> on branch <code>agent/0011aabb</code>.</p>'
        "<blockquote><p>It greets now.</p></blockquote>"
        "<p>2 files changed:</p><ul><li>changed <code>It greets now.</code></li>"
        "<li>added <code>src/app.py</code></li></ul>"
        "<p>Tests, by the agent&#x27;s own account:</p>".replace("&#x27;", "'")
        + "<ul><li><code>It greets now.</code>: passed</li></ul>"
        "<p>Look further: <code>dispatch inspect 0011aabb</code> · <code>dispatch logs 0011aabb</code></p>"
        f"<!-- agent-dispatch {RUN}/1/comment -->"
    )


def test_a_failed_run_is_told_with_its_reason_and_the_next_action():
    comment = render.ended_comment("k", _ended("The tests did not end in 30 minutes."))
    assert "<strong>Vega</strong> could not finish this after 3 attempts." in comment
    assert "The tests did not end in 30 minutes." in comment
    assert "Next: Run: dispatch retry 0011aabb" in comment


def test_an_address_that_is_no_web_page_is_not_a_link():
    assert "<a " not in render.result_comment(_story(url="javascript:alert(1)"))
