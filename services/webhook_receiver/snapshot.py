"""A work item as its source shows it -> the snapshot that a run is made from. Pure: ``read_at`` is an argument."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson
from bs4 import BeautifulSoup
from markdownify import markdownify

from dispatch_common.plane_types import Comment, Member, WorkItem
from dispatch_common.resources import MinimumRole, Repository, Source
from dispatch_common.values import Actor, Message, Priority, TaskSnapshot, Trust

_LONGEST_HTML: Final = 256 * 1024
_TAG: Final = re.compile(r"<[^>]*>")
_BLANKS: Final = re.compile(r"\n{3,}")
_REPOSITORY_LINE: Final = re.compile(r"^[\s*+>-]*repo(?:sitory)?\s*:\s*`?([\w./@:-]{1,200}?)`?\s*$", re.I | re.M)
_DROPPED: Final = ("script", "style", "template", "iframe", "object")
_BOT_MAIL: Final = "bot_user_"


def markdown(html: str) -> str:
    """Return HTML as Markdown. Scripts and embedded data are dropped; what cannot be parsed keeps its bare text."""
    cut = html[:_LONGEST_HTML]
    note = "\n\n(The rest was left out: the text is very long.)" if len(html) > len(cut) else ""
    try:
        soup = BeautifulSoup(cut, "html.parser")
        for each in soup(_DROPPED):
            each.decompose()
        for image in soup("img"):
            if str(image.get("src", "")).startswith("data:"):
                image.decompose()
        text = markdownify(
            str(soup), heading_style="ATX", bullets="-", escape_underscores=False, escape_asterisks=False
        )
    except RecursionError:
        # Nested deeper than any editor writes.
        text = _TAG.sub(" ", cut)
    return _BLANKS.sub("\n\n", text.replace("\x00", "")).strip() + note


@dataclass(frozen=True, slots=True)
class People:
    """Who is who at the source."""

    members: Mapping[str, Member]
    own_id: str = ""  #: our own user there

    def actor(self, actor_id: str, *, name: str = "") -> Actor:
        member = self.members.get(actor_id)
        is_bot = actor_id == self.own_id or (member is not None and member.email.startswith(_BOT_MAIL))
        return Actor(id=actor_id, name=member.name if member else name, bot=is_bot)

    def role(self, actor_id: str) -> int:
        member = self.members.get(actor_id)
        return member.role or 0 if member else 0

    def trust(self, actor_id: str) -> Trust:
        known = actor_id == self.own_id or self.role(actor_id) >= MinimumRole.MEMBER.level
        return Trust.MEMBER if known else Trust.OUTSIDER


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a task belongs: the Repository resource, or why none can be named."""

    repository: str | None
    problem: str = ""


def place(body: str, project_id: str, source: Source, repositories: Mapping[str, Repository]) -> Placed:
    """Return the repository: what the text says in a line ``repo: NAME``, else the project's, else the source's."""
    said = _REPOSITORY_LINE.search(body)
    if said is not None:
        named = _named(said[1], repositories)
        if named is not None:
            return Placed(named)
        return Placed(None, f"The work item names the repository '{said[1]}', which is not a known Repository.")
    project = source.projects.get(project_id)
    return Placed((project.repository if project else None) or source.default_repository)


def _named(text: str, repositories: Mapping[str, Repository]) -> str | None:
    if text in repositories:
        return text
    tail = f"/{text.removesuffix('.git').strip('/')}"
    found = [
        name for name, spec in repositories.items() if spec.url.replace(":", "/").removesuffix(".git").endswith(tail)
    ]
    return found[0] if len(found) == 1 else None


def messages(comments: Iterable[Comment], people: People) -> tuple[Message, ...]:
    """Return the conversation, oldest first. Who wrote is ``actor``; a claimed author counts for nothing."""
    return tuple(
        Message(
            id=each.id,
            author=people.actor(each.actor or ""),
            trust=people.trust(each.actor or ""),
            at=each.created_at,
            text=markdown(each.comment_html),
        )
        for each in comments
    )


def snapshot(
    item: WorkItem,
    *,
    source_name: str,
    source: Source,
    people: People,
    author_id: str,
    conversation: tuple[Message, ...],
    repositories: Mapping[str, Repository],
    read_at: datetime,
) -> tuple[TaskSnapshot, Placed]:
    """Return the work item as a task."""
    body = markdown(item.description_html)
    placed = place(body, item.project.id, source, repositories)
    group = item.state.group if item.state else ""
    gone = item.archived_at is not None or item.deleted_at is not None
    key = f"{item.project.identifier or 'ITEM'}-{item.sequence_id}"
    plain = TaskSnapshot(
        source=source_name,
        provider="plane",
        object_id=item.id,
        key=key,
        url=f"{_pages(source.base_url)}/{source.workspace}/browse/{key}/",
        title=item.name.replace("\x00", ""),
        body=body,
        labels=tuple(sorted({label.name for label in item.labels if label.name})),
        priority=Priority(item.priority) if item.priority in set(Priority) else Priority.NONE,
        project=item.project.identifier,
        repository=placed.repository,
        closed=gone or group in ("completed", "cancelled"),
        cancelled=group == "cancelled" or (gone and group != "completed"),
        author_trust=people.trust(author_id),
        messages=conversation,
        read_at=read_at,
        digest="",
    )
    return with_digest(plain, own_id=people.own_id), placed


def gone(*, source_name: str, object_id: str, title: str, read_at: datetime) -> TaskSnapshot:
    """Return the snapshot of a work item that its source no longer has."""
    plain = TaskSnapshot(
        source=source_name,
        provider="plane",
        object_id=object_id,
        key=title[:40] or f"deleted work item {object_id[:8]}",
        title=title or "(deleted)",
        closed=True,
        cancelled=True,
        read_at=read_at,
        digest="",
    )
    return with_digest(plain)


def with_digest(plain: TaskSnapshot, *, own_id: str = "") -> TaskSnapshot:
    """Return the snapshot with the digest of all that a run depends on. Our own comments are not among it."""
    seen = plain.model_dump(mode="json", exclude={"read_at", "digest", "messages", "url", "key"})
    seen["messages"] = [(each.id, each.trust, each.text) for each in plain.messages if each.author.id != own_id]
    text = orjson.dumps(seen, option=orjson.OPT_SORT_KEYS)
    return plain.model_copy(update={"digest": hashlib.sha256(text).hexdigest()})


def _pages(base_url: str) -> str:
    """Return where people see it: the hosted service has its API on a host of its own."""
    return base_url.replace("://api.plane.so", "://app.plane.so")
