"""Git trees as values: parsing them, comparing two listings, and what is wrong with the new one. Never does I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from services.result_publisher import paths

TREE: Final = "40000"
LINK: Final = "120000"
_FILES: Final = frozenset({"100644", "100755"})
_SUBMODULE: Final = "160000"
_MODES: Final = _FILES | {TREE, LINK, _SUBMODULE}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a tree."""

    mode: str
    oid: str

    @property
    def is_tree(self) -> bool:
        return self.mode == TREE


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """One path that differs. ``old`` None: added; ``new`` None: deleted. Never a folder."""

    path: str
    old: Entry | None
    new: Entry | None

    @property
    def word(self) -> str:
        """Return what happened to the path, for people."""
        return "added" if self.old is None else "deleted" if self.new is None else "changed"


Listing = Mapping[bytes, Entry]


def parse(content: bytes) -> Listing | None:
    """Return the entries of a tree object; None when it is malformed or names something twice."""
    entries: dict[bytes, Entry] = {}
    at = 0
    while at < len(content):
        space = content.find(b" ", at, at + 8)
        end = content.find(b"\0", space + 1) if space > 0 else -1
        if end < 0 or end + 21 > len(content):
            return None
        mode, name = content[at:space].decode(errors="replace"), content[space + 1 : end]
        if mode not in _MODES and not mode.startswith("100"):
            return None
        if name in entries:
            return None
        entries[name] = Entry(mode, content[end + 1 : end + 21].hex())
        at = end + 21
    return entries


def problem(folder: str, old: Listing, new: Listing) -> str:
    """Return what is wrong with the new entries of a folder, or nothing. What was there before is not judged."""
    changed = [(name, entry) for name, entry in new.items() if old.get(name) != entry]
    for name, entry in changed:
        if name not in old and (reason := paths.bad_name(name)):
            return f"{_shown(folder, name)} {reason}"
        if entry.mode == _SUBMODULE:
            return f"{_shown(folder, name)} is a submodule; an agent may not add or move one"
        if entry.mode not in _FILES | {TREE, LINK}:
            return f"{_shown(folder, name)} has the mode {entry.mode}"
    return _twins(folder, {name for name, _ in changed if name not in old}, new)


def _twins(folder: str, fresh: set[bytes], new: Listing) -> str:
    if not fresh:
        return ""
    seen: dict[str, bytes] = {}
    for name in new:
        folded = paths.fold(name.decode(errors="replace"))
        other = seen.setdefault(folded, name)
        if other != name and (other in fresh or name in fresh):
            pair = f"{_shown(folder, other)} and {_shown(folder, name)}"
            return f"{pair} are one file on systems that ignore case or accents' spelling"
    return ""


def _shown(folder: str, name: bytes) -> str:
    return repr((folder + name.decode(errors="backslashreplace"))[:200])
