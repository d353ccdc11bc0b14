"""Reads resources from YAML. Tells every mistake at once, with file, line, field and remedy. Pure; opens no file."""

import difflib
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final, NamedTuple, Union, cast, get_args, get_origin

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from dispatch_common.errors import InvalidInput
from dispatch_common.resources_document import Document, Position, documents
from dispatch_common.resources_expression import problems_of
from dispatch_common.resources_grants import PolicyProfile
from dispatch_common.resources_spec import API_VERSION, KINDS, as_json
from dispatch_common.resources_types import Spec
from dispatch_common.resources_types import name as checked_name

MAX_PROBLEMS: Final = 100


class Problem(NamedTuple):
    """One mistake, told so that a person can go there and mend it."""

    file: str
    line: int
    column: int
    field: str
    message: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where}: {f'{self.field}: ' if self.field else ''}{self.message}. {self.remedy}".rstrip()


class ResourceErrors(InvalidInput):
    """Resources that cannot be used; ``problems`` holds every mistake."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        super().__init__(first.message, field=first.field, remedy=first.remedy)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource as somebody wrote it, and where each of its fields stands."""

    kind: str
    name: str
    spec: Spec
    file: str = ""
    line: int = 1
    positions: Mapping[tuple[str | int, ...], Position] = field(
        default_factory=dict[tuple[str | int, ...], Position], repr=False
    )

    @property
    def document(self) -> dict[str, Any]:
        """Return the spec as it is stored."""
        return as_json(self.spec)

    def problem(self, path: tuple[str | int, ...], message: str, remedy: str) -> Problem:
        """Return a mistake in a field of this resource, with its place."""
        at = nearest(self.positions, path)
        return Problem(
            self.file, at.line, at.column, f"{self.kind}/{self.name} {dotted(path)}".strip(), message, remedy
        )


def load(text: str | bytes, filename: str) -> list[Resource]:
    """Return the resources of a YAML text, or raise ResourceErrors with every mistake in it."""
    resources, problems = read(text, filename)
    if problems:
        raise ResourceErrors(problems[:MAX_PROBLEMS])
    return resources


def read(text: str | bytes, filename: str) -> tuple[list[Resource], list[Problem]]:
    """Return what could be read and every mistake. Good resources beside bad ones are returned too."""
    file = PurePath(filename).as_posix()
    resources: list[Resource] = []
    problems: list[Problem] = []
    seen: dict[tuple[str, str], int] = {}
    for document in documents(text):
        problems += [Problem(file, at.line, at.column, dotted(path), *told) for path, at, *told in document.mistakes]
        if document.mistakes or document.data is None:
            continue
        resource, mistakes = _resource(document, file)
        problems += mistakes
        if resource is None:
            continue
        first = seen.setdefault((resource.kind, resource.name), resource.line)
        if first != resource.line:
            remedy = "Give one of them another name, or delete it."
            problems.append(
                resource.problem(("metadata", "name"), f"this name was already used on line {first}", remedy)
            )
            continue
        resources.append(resource)
    return resources, problems


def parse_spec(kind: str, name: str, spec: Any) -> Resource:
    """Return a resource from a decoded document (an API call); raises ResourceErrors."""
    data = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}
    resource, problems = _resource(Document(data, {(): Position(1, 1)}, []), "request")
    if problems or resource is None:
        raise ResourceErrors(problems)
    return resource


def _resource(document: Document, file: str) -> tuple[Resource | None, list[Problem]]:
    """Check the envelope, then the spec by its kind's class, then its expressions."""
    told = list(_envelope(document))
    data = _mapping(document.data)
    cls = KINDS.get(str(data.get("kind")))
    spec: Spec | None = None
    if cls is not None:
        try:
            spec = cls.model_validate_json(
                orjson.dumps(data.get("spec") or {}), strict=True, by_alias=True, by_name=False
            )
        except ValidationError as error:
            told += [_told(cls, details) for details in error.errors(include_url=False)]
        except (TypeError, ValueError):
            told.append(
                (("spec",), "a value cannot be used", "Use plain text, numbers, true, false, lists and mappings.")
            )
    if cls is PolicyProfile:
        told += list(_expressions(_mapping(data.get("spec")).get("rules")))
    problems = sorted(_placed(document, file, path, message, remedy) for path, message, remedy in told)
    if problems or spec is None or cls is None:
        return None, problems
    name = str(data["metadata"]["name"])
    return Resource(cls.kind, name, spec, file, nearest(document.positions, ()).line, document.positions), []


Told = tuple[tuple[str | int, ...], str, str]


def _mapping(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _envelope(document: Document) -> Iterator[Told]:
    data = _mapping(document.data)
    if not isinstance(document.data, dict):
        yield (), "the document is not a mapping", "Start it with 'apiVersion: dispatch.dev/v1alpha1'."
        return
    if data.get("apiVersion") != API_VERSION:
        was = f"is '{data['apiVersion']}'" if "apiVersion" in data else "is missing"
        yield ("apiVersion",), was, f"Write 'apiVersion: {API_VERSION}'."
    kind = data.get("kind")
    if kind not in KINDS:
        was = f"'{kind}' is not a kind" if "kind" in data else "is missing"
        yield ("kind",), was, f"{meant(str(kind), KINDS)}Kinds: {', '.join(KINDS)}."
    yield from _metadata(_mapping(data.get("metadata")))
    if not isinstance(data.get("spec"), dict):
        yield (
            ("spec",),
            "is missing" if data.get("spec") is None else "is not a mapping",
            "Indent the fields below 'spec:'.",
        )
    for key in data.keys() - {"apiVersion", "kind", "metadata", "spec", "status"}:
        yield (
            (key,),
            "unknown field",
            f"{meant(str(key), ['apiVersion', 'kind', 'metadata', 'spec'])}Fields of a kind go below 'spec:'.",
        )


def _metadata(metadata: dict[str, Any]) -> Iterator[Told]:
    name = metadata.get("name")
    if not isinstance(name, str):
        yield ("metadata", "name"), "is missing", "Write 'metadata:' and below it, indented, 'name: some-name'."
        return
    for key in metadata.keys() - {"name", "labels", "annotations", "namespace"}:
        yield (
            ("metadata", key),
            "unknown field",
            f"{meant(str(key), ['name', 'labels', 'annotations'])}Only name, labels and annotations.",
        )
    try:
        checked_name(name)
    except PydanticCustomError as error:
        told = error.context or {}
        yield ("metadata", "name"), str(told["message"]), str(told["remedy"])


def _expressions(rules: Any) -> Iterator[Told]:
    """Check the expressions as they were written, so that another mistake in the profile does not hide theirs."""
    for number, rule in enumerate(cast("list[Any]", rules) if isinstance(rules, list) else []):
        when = _mapping(rule).get("when")
        for wrong in problems_of(when) if isinstance(when, str) else ():
            path = ("spec", "rules", number, "when")
            yield path, f"rule '{_mapping(rule).get('name')}', column {wrong.column}: {wrong.message}", wrong.remedy


def _told(cls: type[Spec], details: ErrorDetails) -> Told:
    """Say one of pydantic's errors in our words."""
    loc, context = details["loc"], details.get("ctx", {})
    path = ("spec", *(part for part in loc if part != "[key]"))
    value = details.get("input")
    match details["type"]:
        case "wrong":
            return path, context["message"], context["remedy"]
        case "extra_forbidden":
            known = _fields(cls, loc[:-1])
            return path, "unknown field", f"{meant(str(loc[-1]), known)}Known fields: {', '.join(known)}."
        case "missing":
            return path, "is required", "Add it."
        case "enum" | "literal_error":
            wanted = re.findall(r"'([^']+)'", str(context.get("expected", "")))
            return (
                path,
                f"'{value}' is not one of {', '.join(wanted)}",
                meant(str(value), wanted) or f"Write one of {', '.join(wanted)}.",
            )
        case "string_pattern_mismatch":
            return path, f"'{value}' has characters that are not allowed here", f"It must match {context['pattern']}."
        case _:
            return path, _plain(details), _remedy(details["type"], value)


def _plain(details: ErrorDetails) -> str:
    value = details.get("input")
    wanted = {"int": "a whole number", "flo": "a number", "str": "text", "boo": "true or false", "tup": "a list"}
    kind = wanted.get(details["type"][:3])
    if kind and details["type"].endswith(("_type", "_parsing")):
        return f"{_shown(value)} is not {kind}"
    message = details["msg"].removeprefix("Input should ")
    return f"{_shown(value)} should {message}" if message != details["msg"] else f"{message[0].lower()}{message[1:]}"


def _shown(value: Any) -> str:
    text = "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else f"'{value}'"
    return text if len(text) <= 60 else f"{text[:57]}...'"


def _remedy(kind: str, value: Any) -> str:
    if kind == "string_type" and isinstance(value, int | float | bool):
        return f'Write it in quotes: "{str(value).lower()}".'
    if kind == "tuple_type":
        return "Write a list: each entry on its own line after '- ', or [a, b]."
    if kind.startswith(("model_", "dict_")):
        return "Write a mapping: fields indented below this one."
    if kind in {"int_type", "float_type", "bool_type"}:
        return "Write it as a plain word or number, without quotes."
    return "Change the value."


def _fields(cls: Any, loc: Sequence[str | int]) -> list[str]:
    """Return the names of the fields that may stand at a place in a spec."""
    for part in loc:
        if isinstance(cls, type) and issubclass(cls, BaseModel):
            named = {info.alias or key: info.annotation for key, info in cls.model_fields.items()}
            cls = named.get(str(part))
        else:
            cls = get_args(cls)[-1] if get_origin(cls) is dict else next(iter(get_args(cls)), None)
        while get_origin(cls) in {Union, types.UnionType}:
            cls = next(arg for arg in get_args(cls) if arg is not type(None))
    return (
        [info.alias or key for key, info in cls.model_fields.items()]
        if isinstance(cls, type) and issubclass(cls, BaseModel)
        else []
    )


def meant(word: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """Return "Did you mean 'x'? " when a known word is close to what was written, else nothing."""
    folded = {each.lower().replace("_", ""): each for each in known}
    close = difflib.get_close_matches(word.lower().replace("_", "").replace("-", ""), folded, n=1, cutoff=0.7)
    return f"Did you mean '{folded[close[0]]}'? " if close else ""


def dotted(path: Sequence[str | int]) -> str:
    """Return a path as people write it: spec.rules[2].when."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def nearest(positions: Mapping[tuple[str | int, ...], Position], path: tuple[str | int, ...]) -> Position:
    """Return the place of a field, or of the closest thing around it that was written."""
    while path and path not in positions:
        path = path[:-1]
    return positions.get(path, Position(1, 1))


def _placed(document: Document, file: str, path: tuple[str | int, ...], message: str, remedy: str) -> Problem:
    at = nearest(document.positions, path)
    return Problem(file, at.line, at.column, dotted(path), message, remedy)
