"""YAML text to plain values with the place of each, within bounds: no alias, no tag, no bomb. Pure; opens no file."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 16
MAX_NODES: Final = 20_000
_TAG: Final = "tag:yaml.org,2002:"
_PLAIN_TAGS: Final = {f"{_TAG}{each}" for each in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")}


class Position(NamedTuple):
    """A place in a text, counted from 1."""

    line: int
    column: int


Path = tuple[str | int, ...]
Mistake = tuple[Path, Position, str, str]


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document. ``data`` is None when it is empty or could not be read."""

    data: Any
    positions: Mapping[Path, Position]
    mistakes: list[Mistake]


class _Refused(Exception):
    def __init__(self, line: int, column: int, message: str, remedy: str) -> None:
        super().__init__(message)
        self.mistake: Mistake = ((), Position(line + 1, column + 1), message, remedy)


def documents(text: str | bytes) -> Iterator[Document]:
    """Yield the documents of a text, each read for itself, so that one mistake hides no other."""
    try:
        decoded = _decoded(text)
    except _Refused as refused:
        yield Document(None, {}, [refused.mistake])
        return
    start = 0
    chunks = re.split(r"(?m)^---(?=\s|$)", decoded)
    for number, chunk in enumerate(chunks):
        # The marker becomes spaces, so that lines and columns stay what they are in the file.
        yield _document(f"   {chunk}" if number else chunk, start)
        start += chunk.count("\n")


def _decoded(text: str | bytes) -> str:
    if len(text) > MAX_BYTES:
        raise _Refused(0, 0, f"the text is larger than {MAX_BYTES // 1024} KiB", "Split it into several files.")
    try:
        return text.decode("utf-8-sig") if isinstance(text, bytes) else text.removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = bytes(text)[: error.start].count(b"\n")  # type: ignore[arg-type]
        raise _Refused(line, 0, "this is not UTF-8 text", "Save the file as UTF-8.") from error


def _document(chunk: str, start: int) -> Document:
    positions: dict[Path, Position] = {}
    mistakes: list[Mistake] = []
    try:
        _bounded(chunk, start)
        node: Node | None = YAML(typ="safe", pure=True).compose(chunk)
        data = None if node is None else _value(node, (), start, positions, mistakes)
    except _Refused as refused:
        return Document(None, {}, [refused.mistake])
    except YAMLError as error:
        return Document(None, {}, [_syntax(error, chunk, start)])
    return Document(data, positions, mistakes)


def _bounded(chunk: str, start: int) -> None:
    """Walk the events before anything is built: depth and number of nodes are bounded, aliases are refused."""
    depth = nodes = 0
    for event in YAML(typ="safe", pure=True).parse(chunk):
        mark = event.start_mark
        line, column = (mark.line + start, mark.column) if mark else (start, 0)
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor):
            raise _Refused(
                line,
                column,
                "anchors and aliases are not allowed",
                "Write the value out; an AgentStack shares defaults.",
            )
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        nodes += isinstance(event, NodeEvent)
        if depth > MAX_DEPTH:
            raise _Refused(
                line, column, f"nested deeper than {MAX_DEPTH} levels", "Flatten it; no resource is that deep."
            )
        if nodes > MAX_NODES:
            raise _Refused(
                line, column, f"more than {MAX_NODES} values in one document", "Split it into several documents."
            )


def _value(node: Any, path: Path, start: int, positions: dict[Path, Position], mistakes: list[Mistake]) -> Any:
    at = Position(node.start_mark.line + start + 1, node.start_mark.column + 1)
    positions.setdefault(path, at)
    if str(node.tag) not in _PLAIN_TAGS:
        mistakes.append((path, at, f"the tag {node.tag} is not allowed", "Take it out; plain values need no tag."))
        return None
    if isinstance(node, MappingNode):
        return _mapping(node, path, start, positions, mistakes)
    if isinstance(node, SequenceNode):
        entries = cast("list[Any]", node.value)
        return [_value(each, (*path, number), start, positions, mistakes) for number, each in enumerate(entries)]
    return _scalar(node)


def _mapping(node: Any, path: Path, start: int, positions: dict[Path, Position], mistakes: list[Mistake]) -> Any:
    data: dict[str, Any] = {}
    pairs = cast("list[tuple[Any, Any]]", node.value)
    for key, value in pairs:
        at = Position(key.start_mark.line + start + 1, key.start_mark.column + 1)
        if not isinstance(key, ScalarNode):
            mistakes.append((path, at, "a key is not plain text", "Write the key as a word."))
            continue
        name = str(cast("Any", key).value)
        if name in data:
            first = positions[(*path, name)].line
            mistakes.append(
                ((*path, name), at, f"this field was already given on line {first}", "Keep one of the two.")
            )
            continue
        positions[(*path, name)] = at
        data[name] = _value(value, (*path, name), start, positions, mistakes)
    return data


def _scalar(node: Any) -> Any:
    text = str(node.value)
    match str(node.tag).removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return _integer(text)
        case "float":
            return _float(text)
        case _:
            return text


def _integer(text: str) -> int | str:
    # Beyond 64 bits it is no number that any field takes; as text it gets the ordinary answer.
    digits = text.replace("_", "")
    if len(digits) > 64:
        return text
    value = int(digits) if re.fullmatch(r"[-+]?0\d+", digits) else int(digits, 0)
    return value if abs(value) < 2**63 else text


def _float(text: str) -> float | str:
    plain = text.replace("_", "")
    return text if plain.lower().lstrip("+-") in {".inf", ".nan"} else float(plain)


def _syntax(error: YAMLError, chunk: str, start: int) -> Mistake:
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or "this is not YAML")
    line, column = (mark.line, mark.column) if mark else (_bad_character(chunk), 0)
    remedy = "Check the indentation and the quotes of this line and of the one above."
    if "'\\t'" in problem:
        problem, remedy = "a tab is used for indentation", "Indent with spaces; YAML does not allow tabs."
    elif not isinstance(error, MarkedYAMLError):
        problem, remedy = "a control character stands in the text", "Take it out."
    elif "mapping values" in problem:
        problem, remedy = (
            "the indentation or a colon is wrong here",
            "Line fields up with their siblings; quote text that holds ': '.",
        )
    return (), Position(line + start + 1, column + 1), problem, remedy


def _bad_character(chunk: str) -> int:
    found = re.search(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", chunk)
    return chunk.count("\n", 0, found.start()) if found else 0
