"""The header of a git bundle, parsed by ourselves before git sees a byte of it. Never does I/O."""

import re
from dataclasses import dataclass
from typing import Final

_SIGNATURE: Final = b"# v2 git bundle\n"
_PREREQUISITE: Final = re.compile(rb"-([0-9a-f]{40})(?: [^\n]{0,500})?")
_REFERENCE: Final = re.compile(rb"([0-9a-f]{40}) ([^\n]{1,200})")
#: One signature, one prerequisite with a comment, one ref, one blank line.
_LONGEST: Final = 2000


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle says of itself, and where its pack begins."""

    commit: str
    ref: str
    prerequisite: str | None
    pack_at: int


def parse(content: bytes) -> Bundle | str:
    """Return the header, or the sentence that says what is wrong with it."""
    if not content.startswith(_SIGNATURE):
        return "it is not a git bundle of version 2"
    end = content.find(b"\n\n", 0, _LONGEST)
    if end < 0:
        return "its header has no end or lists more than one branch on one base"
    lines = content[len(_SIGNATURE) : end].split(b"\n")
    prerequisites = [line for line in lines if line.startswith(b"-")]
    references = [line for line in lines if not line.startswith(b"-")]
    if len(prerequisites) > 1:
        return f"it builds on {len(prerequisites)} commits instead of one"
    if len(references) != 1:
        return f"it holds {len(references)} refs instead of one"
    reference = _REFERENCE.fullmatch(references[0])
    base = _PREREQUISITE.fullmatch(prerequisites[0]) if prerequisites else None
    if reference is None or (prerequisites and base is None):
        return "its header is malformed"
    pack_at = end + 2
    if content[pack_at : pack_at + 4] != b"PACK":
        return "no pack follows its header"
    return Bundle(
        commit=reference[1].decode(),
        ref=reference[2].decode(errors="backslashreplace"),
        prerequisite=base[1].decode() if base else None,
        pack_at=pack_at,
    )


def mismatch(bundle: Bundle, *, ref: str, base: str, commit: str) -> str:
    """Return what differs from what was agreed, or nothing."""
    if bundle.ref != ref:
        return f"it holds the ref {bundle.ref[:80]!r} instead of {ref}"
    if bundle.prerequisite != base:
        return f"it builds on {bundle.prerequisite or 'nothing'} instead of the base {base}"
    if bundle.commit != commit:
        return f"it ends at {bundle.commit} instead of the commit {commit} that was reported"
    return ""
