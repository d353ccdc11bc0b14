"""Compares two trees by reading only what differs, within bounds that a hostile tree cannot stretch."""

from dataclasses import dataclass
from typing import Final

from dispatch_common.errors import Permanent
from services.result_publisher import paths, trees
from services.result_publisher.objects import Objects
from services.result_publisher.trees import Change, Entry, Listing


class HostileTree(Permanent):
    """The tree holds what must not be published. The message says what, for people."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is looked at before a tree counts as hostile."""

    changes: int = 1000
    trees: int = 20_000
    depth: int = 64
    tree_bytes: int = 16 << 20
    path_bytes: int = 1024


BOUNDS: Final = Bounds()
_EMPTY: Final[Listing] = {}


@dataclass(slots=True)
class _Step:
    folder: str
    old: str | None
    new: str | None


async def changes(objects: Objects, old: str | None, new: str, bounds: Bounds) -> list[Change]:
    """Return every file that differs between two trees, in order; HostileTree for what must not be published."""
    found: list[Change] = []
    todo = [_Step("", old, new)]
    read = 0
    while todo:
        step = todo.pop()
        read += 1
        if read > bounds.trees:
            raise HostileTree(f"more than {bounds.trees} folders differ")
        before, after = await _listing(objects, step.old, bounds), await _listing(objects, step.new, bounds)
        if reason := trees.problem(step.folder, before, after):
            raise HostileTree(reason)
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                _differs(step.folder + name.decode(errors="replace"), before.get(name), after.get(name), found, todo)
        _check(step, found, todo, bounds)
    await _links(objects, found)
    return sorted(found, key=lambda change: change.path)


def _differs(path: str, old: Entry | None, new: Entry | None, found: list[Change], todo: list[_Step]) -> None:
    old_tree = old.oid if old is not None and old.is_tree else None
    new_tree = new.oid if new is not None and new.is_tree else None
    if old_tree != new_tree:
        todo.append(_Step(path + "/", old_tree, new_tree))
    old_file, new_file = None if old_tree else old, None if new_tree else new
    if old_file != new_file:
        found.append(Change(path, old_file, new_file))


def _check(step: _Step, found: list[Change], todo: list[_Step], bounds: Bounds) -> None:
    if len(found) > bounds.changes:
        raise HostileTree(f"more than {bounds.changes} files differ")
    if len(todo) > bounds.trees or step.folder.count("/") > bounds.depth:
        raise HostileTree(f"folders are nested deeper than {bounds.depth} or are too many")
    if len(step.folder.encode()) > bounds.path_bytes:
        raise HostileTree(f"a path is longer than {bounds.path_bytes} bytes")


async def _listing(objects: Objects, oid: str | None, bounds: Bounds) -> Listing:
    if oid is None:
        return _EMPTY
    entries = trees.parse(await objects.content(oid, "tree", bounds.tree_bytes))
    if entries is None:
        raise HostileTree(f"the tree {oid} is malformed")
    return entries


async def _links(objects: Objects, found: list[Change]) -> None:
    for change in found:
        if change.new is None or change.new.mode != trees.LINK:
            continue
        target = await objects.content(change.new.oid, "blob", paths.LONGEST_LINK)
        reason = paths.bad_link(target)
        if not reason and paths.leaves_tree(change.path, target):
            reason = "its target is outside the repository"
        if reason:
            raise HostileTree(f"the symbolic link {change.path!r} is not allowed: {reason}")
