"""Which paths a result may touch: hostile names, links that leave the tree, the grant's patterns. Never does I/O."""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

#: What some file system or another reads as nothing at all.
_INVISIBLE: Final = frozenset({"Cf", "Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
_NTFS_GIT: Final = re.compile(r"git~\d+")
_LONGEST_NAME: Final = 255
LONGEST_LINK: Final = 1024


def fold(name: str) -> str:
    """Return what a case-insensitive, normalising file system makes of a name."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def bad_name(raw: bytes) -> str:
    """Return what is wrong with one name in a tree, or nothing."""
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        return "is not UTF-8"
    if not name or name in {".", ".."} or "/" in name or "\\" in name:
        return "is not a plain file name"
    if len(raw) > _LONGEST_NAME:
        return "is longer than 255 bytes"
    if any(unicodedata.category(char) in _INVISIBLE for char in name):
        return "holds control or invisible characters"
    if name.startswith("-"):
        return "starts with a hyphen, so programs take it for an option"
    return "is git's own folder" if _is_git(name) else ""


def _is_git(name: str) -> bool:
    # NTFS drops trailing dots and spaces and what follows a colon; its short name for .git is git~1.
    plain = fold(name).split(":")[0].rstrip(". ")
    return plain == ".git" or bool(_NTFS_GIT.fullmatch(plain))


def bad_link(target: bytes) -> str:
    """Return what is wrong with a symbolic link's target, or nothing. ``..`` may only lead it, so it cannot lie."""
    try:
        text = target.decode()
    except UnicodeDecodeError:
        return "its target is not UTF-8"
    if not text or len(target) > LONGEST_LINK or any(unicodedata.category(char) in _INVISIBLE for char in text):
        return "its target is not a plain path"
    if text.startswith(("/", "\\", "~")) or re.match(r"[A-Za-z]:", text):
        return "its target is absolute"
    parts = [part for part in text.split("/") if part not in {"", "."}]
    below = [part for part in parts if part != ".."]
    if parts[len(parts) - len(below) :] != below:
        return "its target goes up after it went down"
    return "its target is git's own folder" if any(_is_git(part) for part in parts) else ""


def leaves_tree(path: str, target: bytes) -> bool:
    """Return whether a link at ``path`` climbs out of the repository. Asked after ``bad_link`` found nothing."""
    ups = sum(part == ".." for part in target.decode().split("/"))
    return ups > path.count("/")


def matching(path: str, patterns: Iterable[str], *, folded: bool = False) -> str | None:
    """Return the first pattern that a path falls under. ``folded`` also takes what differs only in case or form."""
    for pattern in patterns:
        if _compiled(pattern).fullmatch(path) or (folded and _compiled(fold(pattern)).fullmatch(fold(path))):
            return pattern
    return None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Return the expression of a pattern: ``*`` and ``?`` stay in a name, ``**`` stands for any folders."""
    parts = pattern.removesuffix("/").split("/")
    if pattern.endswith("/"):
        parts.append("**")
    expression = ""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            expression += ".*" if last else "(?:[^/]+/)*"
        else:
            expression += _name_expression(part) + ("" if last else "/")
    return re.compile(expression, re.DOTALL)


def _name_expression(part: str) -> str:
    special = {"*": "[^/]*", "?": "[^/]"}
    return "".join(special.get(char) or re.escape(char) for char in re.sub(r"\*+", "*", part))
