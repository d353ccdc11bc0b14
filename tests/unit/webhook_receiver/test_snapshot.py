"""A work item becomes Markdown, a place, a digest."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch_common.plane_types import Comment, Member, WorkItem
from dispatch_common.resources import Repository, Source
from dispatch_common.values import TaskSnapshot, Trust
from services.webhook_receiver.snapshot import People, markdown, messages, place, snapshot

NOW = datetime(2026, 11, 21, tzinfo=UTC)
SOURCE = Source.model_validate(
    {
        "provider": "plane",
        "baseUrl": "https://api.plane.so",
        "workspace": "acme",
        "webhookSecret": "w",
        "apiToken": "t",
        "projects": {"p-1": {"identifier": "DISP", "repository": "app"}},
    }
)
REPOSITORIES = {
    "app": Repository.model_validate({"url": "https://forge.example/acme/app.git"}),
    "site": Repository.model_validate({"url": "git@forge.example:acme/site.git"}),
}
PEOPLE = People({"a": Member(id="a", name="alice", role=15), "g": Member(id="g", name="guest", role=5)}, own_id="bot")


def read(
    conversation: tuple[Comment, ...] = (), *, author: str = "a", at: datetime = NOW, **changes: Any
) -> TaskSnapshot:
    raw: dict[str, Any] = {
        "id": "i-1", "project": {"id": "p-1", "identifier": "DISP"}, "sequence_id": 7, "name": "Fix",
        "description_html": "<p>Please</p>", "priority": "high", "labels": [{"id": "l", "name": "agent:coder"}],
        "state": {"id": "s", "group": "started"},
    }  # fmt: skip
    made, _ = snapshot(
        WorkItem.model_validate(raw | changes),
        source_name="plane",
        source=SOURCE,
        people=PEOPLE,
        author_id=author,
        conversation=messages(conversation, PEOPLE),
        repositories=REPOSITORIES,
        read_at=at,
    )
    return made


def comment(number: int, actor: str, html: str = "<p>hello</p>") -> Comment:
    return Comment(id=f"c-{number}", actor=actor, comment_html=html, created_at=NOW + timedelta(seconds=number))


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>The <code>x</code> is <b>bad</b></p><ul><li>repo: app</li></ul>", "The `x` is **bad**\n\n- repo: app"),
        ("<p>a</p><script>alert(1)</script><p>b</p>", "a\n\nb"),
        ("<p>/agent fix &lt;T&gt; &amp; co</p><p></p>", "/agent fix <T> & co"),
        ('<p><mention-component id="0f3b"></mention-component> please look</p>', "please look"),
        ('<p>see <img src="data:image/png;base64,AAAA"> this</p>', "see this"),
        ("plain text no tags", "plain text no tags"),
        ("", ""),
        ("<p>nul\x00</p>", "nul"),
        ("<h2>Steps</h2><pre><code>make test</code></pre>", "## Steps\n\n```\nmake test\n```"),
    ],
)
def test_html_becomes_markdown(html: str, text: str):
    assert markdown(html) == text


def test_html_nested_beyond_reason_keeps_its_text():
    assert "deep" in markdown("<div>" * 5000 + "deep" + "</div>" * 5000)


def test_very_long_html_is_cut_and_says_so():
    assert markdown("x" * 400_000).endswith("(The rest was left out: the text is very long.)")


@given(st.text())
def test_any_text_becomes_markdown(html: str):
    assert "\x00" not in markdown(html)


def test_the_snapshot_has_what_people_know():
    task = read()

    assert (task.key, task.title, task.body, task.labels) == ("DISP-7", "Fix", "Please", ("agent:coder",))
    assert task.url == "https://app.plane.so/acme/browse/DISP-7/"
    assert (task.repository, task.project, task.priority, task.closed) == ("app", "DISP", "high", False)


@pytest.mark.parametrize(
    ("changes", "closed", "cancelled"),
    [
        ({"state": {"id": "s", "group": "completed"}}, True, False),
        ({"state": {"id": "s", "group": "cancelled"}}, True, True),
        ({"archived_at": "2026-11-21"}, True, True),
        ({"archived_at": "2026-11-21", "state": {"id": "s", "group": "completed"}}, True, False),
        ({"state": None}, False, False),
    ],
)
def test_what_is_over_is_closed(changes: dict[str, Any], closed: bool, cancelled: bool):
    assert (read(**changes).closed, read(**changes).cancelled) == (closed, cancelled)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Other"},
        {"description_html": "<p>Other</p>"},
        {"priority": "low"},
        {"labels": []},
        {"state": {"id": "s", "group": "completed"}},
        {"description_html": "<p>Please</p><p>repo: site</p>"},
    ],
    ids=str,
)
def test_the_digest_follows_what_a_run_depends_on(changes: dict[str, Any]):
    assert read(**changes).digest != read().digest


@pytest.mark.parametrize(
    "changes", [{"updated_at": NOW}, {"state": {"id": "s2", "group": "unstarted"}}, {"sequence_id": 7}], ids=str
)
def test_the_digest_follows_nothing_else(changes: dict[str, Any]):
    assert read(at=NOW + timedelta(hours=1), **changes).digest == read().digest


def test_labels_in_another_order_are_the_same():
    labels = [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}]

    assert read(labels=labels).digest == read(labels=labels[::-1]).digest


def test_our_own_comment_is_seen_but_changes_nothing():
    ours, theirs = comment(1, "bot"), comment(2, "a")

    assert read((ours,)).digest == read().digest
    assert read((ours, theirs)).digest != read().digest
    assert [each.id for each in read((ours, theirs)).messages] == ["c-1", "c-2"]


def test_a_guest_in_the_conversation_makes_the_task_less_trusted():
    assert read((comment(1, "a"),)).trust is Trust.MEMBER
    assert read((comment(1, "g"),)).trust is Trust.OUTSIDER
    assert read((comment(1, "stranger"),)).trust is Trust.OUTSIDER
    assert read((comment(1, "bot"),)).trust is Trust.MEMBER
    assert read(author="g").trust is Trust.OUTSIDER


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("", "app"),
        ("repo: site", "site"),
        ("text\n- repo: acme/site\n", "site"),
        ("Repository: `app`", "app"),
        ("the repo: is broken", "app"),
    ],
)
def test_the_repository_is_what_the_text_names_or_the_projects(body: str, name: str):
    assert place(body, "p-1", SOURCE, REPOSITORIES).repository == name


def test_an_unknown_repository_is_told_and_never_replaced_by_another():
    placed = place("repo: acme/secret", "p-1", SOURCE, REPOSITORIES)

    assert placed.repository is None
    assert "acme/secret" in placed.problem
