"""What people read about a run: the comment on the work item (HTML) and the pull request (Markdown). Never does I/O.

Agents, repositories and task authors are not trusted: their words are bounded, stripped of invisible characters, and
written so that they stay text: no markup, no mention, no reference, no command.
"""

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from agent_runner.protocol import CommandRun, ResultManifest
from dispatch_common.events import RunEnded
from dispatch_common.ids import short
from dispatch_common.lifecycle import RunState

_FILES: Final = 20
_TESTS: Final = 10
_SUMMARY: Final = 3000
_LINE: Final = 300
_TITLE: Final = 200
_KEPT: Final = frozenset("\n\t")

_ENDINGS: Final = {
    RunState.FAILED: "could not finish this",
    RunState.DENIED: "was not allowed to work on this",
    RunState.CANCELLED: "was stopped",
    RunState.SUPERSEDED: "was stopped, because a newer run takes its place",
}


@dataclass(frozen=True, slots=True)
class Story:
    """What is told of a result."""

    key: str  #: the effect's idempotency key, for the marker
    run_id: UUID
    task_key: str
    title: str
    agent: str
    backend: str
    branch: str = ""
    summary: str = ""  #: the agent's own words
    files: tuple[tuple[str, str], ...] = ()  #: path, what happened to it; our own count
    manifest: ResultManifest | None = None  #: the agent's own account
    pull_name: str = ""  #: pull request #1
    pull_url: str = ""


def marker(key: str) -> str:
    """Return the hidden mark by which our own text is known again."""
    return f"<!-- agent-dispatch {re.sub(r'[^A-Za-z0-9/_-]', '', key)} -->"


def plain(text: str, most: int) -> str:
    """Return a text without control and invisible characters, shortened."""
    kept = (char for char in text if char in _KEPT or unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn"})
    shown = "".join(kept).strip()
    return shown if len(shown) <= most else f"{shown[: most - 1].rstrip()}…"


def one_line(text: str, most: int = _LINE) -> str:
    """Return a text on one line, shortened."""
    return plain(" ".join(text.split()), most)


# --- the pull request ---


def pull_title(story: Story) -> str:
    """Return the pull request's title: the task's, on one line, mentioning nobody."""
    # A zero-width space keeps forges from taking it for a mention or a reference.
    return re.sub(r"([@#])(?=\w)", "\\1\u200b", one_line(f"{story.task_key}: {story.title}", _TITLE))


def pull_body(story: Story) -> str:
    """Return the pull request's text."""
    parts = [
        f"Made by the agent {_span(story.agent)} ({_span(story.backend)}) for {_span(story.task_key)} "
        f"in run `{short(story.run_id)}`. Please review it like anybody's work.",
        _quoted("What the agent says", story.summary),
        _markdown_files(story.files),
        _markdown_tests(story.manifest),
        f"Look further: `dispatch inspect {short(story.run_id)}`, `dispatch logs {short(story.run_id)}`, "
        f"`dispatch why {short(story.run_id)}`",
        marker(story.key),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _quoted(title: str, text: str) -> str:
    shown = plain(text, _SUMMARY)
    if not shown:
        return ""
    # In a fence longer than any inside, nothing is markup, a mention, a reference or a closing word.
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"**{title}**\n\n{fence}text\n{shown}\n{fence}"


def _markdown_files(files: Sequence[tuple[str, str]]) -> str:
    if not files:
        return ""
    lines = [f"- {word} {_span(path)}" for path, word in files[:_FILES]]
    return "\n".join([f"**{_count(len(files), 'file')} changed**", "", *lines, *_more(len(files), _FILES, "- ")])


def _markdown_tests(manifest: ResultManifest | None) -> str:
    tests = manifest.tests if manifest else ()
    if not tests:
        return ""
    lines = [f"- {_span(one_line(test.command))}: {_verdict(test)}" for test in tests[:_TESTS]]
    return "\n".join(["**Tests that the agent ran** (its own account)", "", *lines, *_more(len(tests), _TESTS, "- ")])


def _span(text: str) -> str:
    shown = one_line(text) or "?"
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    ticks = "`" * (longest + 1)
    return f"{ticks} {shown} {ticks}" if longest else f"`{shown}`"


# --- the comment on the work item ---


def result_comment(story: Story) -> str:
    """Return the comment for a result that was published."""
    where = _link(story.pull_name, story.pull_url) if story.pull_name else _code(story.branch)
    return _comment(
        story.key,
        f"<p><strong>{_text(story.agent)}</strong> finished: {where} on branch {_code(story.branch)}.</p>",
        _html_summary(story.summary),
        _html_files(story.files),
        _html_tests(story.manifest),
        _further(story.run_id),
    )


def nothing_comment(story: Story) -> str:
    """Return the comment for an attempt that changed no file."""
    return _comment(
        story.key,
        f"<p><strong>{_text(story.agent)}</strong> finished without changing a file.</p>",
        _html_summary(story.summary),
        _html_tests(story.manifest),
        _further(story.run_id),
    )


def ended_comment(key: str, ended: RunEnded) -> str:
    """Return the comment for a run that ended without a result: what happened, why, and what to do next."""
    who = _text(ended.agent or "The run")
    tries = f" after {_count(ended.attempts, 'attempt')}" if ended.attempts > 1 else ""
    happened = _ENDINGS.get(ended.state, f"ended: {ended.state.value}")
    return _comment(
        key,
        f"<p><strong>{who}</strong> {happened}{tries}.</p>",
        f"<p>{_text(ended.sentence, 1000)}</p>" if ended.sentence.strip() else "",
        f"<p>Next: {_text(ended.next_action, 1000)}</p>" if ended.next_action.strip() else "",
        _further(ended.run_id),
    )


def _comment(key: str, *parts: str) -> str:
    return "".join(part for part in parts if part) + marker(key)


def _text(text: str, most: int = _LINE) -> str:
    return html.escape(one_line(text, most))


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>"


def _link(name: str, url: str) -> str:
    if not url.startswith(("https://", "http://")):
        return _text(name)
    return f'<a href="{html.escape(url)}">{_text(name)}</a>'


def _html_summary(summary: str) -> str:
    shown = plain(summary, _SUMMARY)
    paragraphs = [part for part in re.split(r"\n\s*\n", shown) if part.strip()]
    inner = "".join(f"<p>{'<br>'.join(html.escape(line) for line in part.splitlines())}</p>" for part in paragraphs)
    return f"<blockquote>{inner}</blockquote>" if inner else ""


def _html_files(files: Sequence[tuple[str, str]]) -> str:
    if not files:
        return ""
    items = [f"<li>{_text(word)} {_code(path)}</li>" for path, word in files[:_FILES]]
    more = [f"<li>{line}</li>" for line in _more(len(files), _FILES)]
    return f"<p>{_count(len(files), 'file')} changed:</p><ul>{''.join(items + more)}</ul>"


def _html_tests(manifest: ResultManifest | None) -> str:
    tests = manifest.tests if manifest else ()
    if not tests:
        return ""
    items = [f"<li>{_code(test.command)}: {_verdict(test)}</li>" for test in tests[:_TESTS]]
    more = [f"<li>{line}</li>" for line in _more(len(tests), _TESTS)]
    return f"<p>Tests, by the agent's own account:</p><ul>{''.join(items + more)}</ul>"


def _further(run_id: UUID) -> str:
    run = short(run_id)
    return f"<p>Look further: <code>dispatch inspect {run}</code> · <code>dispatch logs {run}</code></p>"


# --- words ---


def _verdict(test: CommandRun) -> str:
    return "not finished" if test.ok is None else "passed" if test.ok else "failed"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _more(number: int, shown: int, lead: str = "") -> list[str]:
    return [f"{lead}and {number - shown} more"] if number > shown else []
