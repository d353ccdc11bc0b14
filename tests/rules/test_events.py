"""The contracts between services: schemas are fresh and true, charters do not lie, nothing is said to nobody."""

import ast
import importlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from dispatch_common.events import FACTS, Fact
from services.cli import contracts, stack
from services.cli.contracts import Charter

ROOT = Path(__file__).parents[2]
NAMES = {fact.__name__: fact for fact in FACTS.values()}
CHARTERS = contracts.charters()


class Source:
    """What a service's source does with facts: which it makes, and which it tells apart or reads."""

    def __init__(self, package: str) -> None:
        self.made: set[str] = set()
        self.told_apart: set[str] = set()
        self.named: set[str] = set()
        for path in sorted((ROOT / "services" / package).rglob("*.py")):
            for node in _relevant(ast.parse(path.read_text())):
                self._see(node)

    def _see(self, node: ast.AST) -> None:
        match node:
            case ast.Call(func=ast.Name("isinstance"), args=[_, kinds]):
                self.told_apart |= _names(kinds)
            case ast.Call(func=ast.Name(name) | ast.Attribute(attr=name), args=args):
                # A fact is made by calling its class, or by handing the class to something called ``say``.
                handed = [each.id for each in args if isinstance(each, ast.Name)] if name == "say" else []
                self.made |= {name, *handed} & NAMES.keys()
            case ast.MatchClass(cls=cls):
                self.told_apart |= _names(cls)
            case ast.Name() | ast.Attribute():
                self.named |= _names(node)
            case _:
                pass


def _relevant(tree: ast.Module) -> Iterator[ast.AST]:
    """Everything but the declaration itself."""
    for statement in tree.body:
        declares = isinstance(statement, ast.Assign | ast.AnnAssign) and _names(statement) & {"HEARS", "SAYS"}
        if not declares:
            yield from ast.walk(statement)


def _names(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Call):
        return set()
    plain = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return (plain | {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}) & {
        *NAMES,
        "HEARS",
        "SAYS",
    }


def _called(facts: tuple[type[Fact], ...]) -> set[str]:
    return {fact.__name__ for fact in facts}


def test_every_service_has_a_charter() -> None:
    assert {charter.service for charter in CHARTERS} >= set(stack.SERVICES)


@pytest.mark.parametrize("charter", CHARTERS, ids=lambda charter: charter.service)
def test_a_service_says_exactly_the_facts_it_declares(charter: Charter) -> None:
    source = Source(charter.package)

    assert source.made == _called(charter.says)


@pytest.mark.parametrize("charter", CHARTERS, ids=lambda charter: charter.service)
def test_a_service_handles_exactly_the_facts_it_declares_to_hear(charter: Charter) -> None:
    source = Source(charter.package)
    hears = _called(charter.hears)

    assert hears - (source.named | source.told_apart) == set(), "declared, and nothing in the source takes it"
    assert source.told_apart - hears - _called(charter.says) == set(), "taken, and not declared"


@pytest.mark.parametrize("charter", CHARTERS, ids=lambda charter: charter.service)
def test_the_charter_in_the_docstring_says_the_same(charter: Charter) -> None:
    text = inspect.getdoc(importlib.import_module(f"services.{charter.package}")) or ""
    heard, _, said = text.partition("\nSays ")
    said = said.partition("\nOwns ")[0]

    assert _mentioned(heard.partition("Hears ")[2]) == _called(charter.hears)
    assert _mentioned(said) == _called(charter.says)


def _mentioned(text: str) -> set[str]:
    return {word.strip(".,;()") for word in text.split()} & NAMES.keys()


def test_every_fact_is_said_by_the_service_that_it_names() -> None:
    said = {(charter.service, fact.__name__) for charter in CHARTERS for fact in charter.says}

    assert said == {(fact.source, name) for name, fact in NAMES.items() if name not in contracts.NOT_SAID_YET}


def test_nothing_is_said_to_nobody() -> None:
    heard = {name for charter in CHARTERS for name in _called(charter.hears)}
    said = {name for charter in CHARTERS for name in _called(charter.says)}

    assert said - heard == contracts.FOR_PEOPLE.keys()
    assert heard - said == contracts.NOT_SAID_YET.keys()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("full", [True, False], ids=["everything", "only-what-must-be"])
def test_what_is_sent_fits_its_schema(name: str, full: bool) -> None:
    whole = NAMES[name].model_json_schema()
    fact = NAMES[name].model_validate(example(whole, whole.get("$defs", {}), full=full))
    document = orjson.loads(fact.encode())

    Draft202012Validator(contracts.schema(NAMES[name])).validate(document)  # pyright: ignore[reportUnknownMemberType]


def test_what_is_no_fact_does_not_fit() -> None:
    validator = Draft202012Validator(contracts.schema(NAMES["CancelAsked"]))

    assert not validator.is_valid({"type": "dispatch.run.cancel-asked.v1", "data": {}})


def example(schema: Any, shared: Mapping[str, Any], *, full: bool) -> Any:
    """Return a value that fits a schema: with every field, or with those alone that must be there."""
    if "$ref" in schema:
        return example(shared[schema["$ref"].removeprefix("#/$defs/")], shared, full=full)
    if "anyOf" in schema:
        return example(schema["anyOf"][0], shared, full=full)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            names = schema.get("properties", {}) if full else schema.get("required", ())
            return {each: example(schema["properties"][each], shared, full=full) for each in names}
        case "array":
            return [example(schema["items"], shared, full=full)]
        case "string":
            formats = {"uuid": "0198c0de-0000-7000-8000-000000000001", "date-time": "2026-03-02T09:12:00Z"}
            return formats.get(schema.get("format", ""), "text")
        case kind:
            return {"integer": 1, "number": 1.5, "boolean": True}.get(str(kind))


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_names_every_field_of_its_fact(name: str) -> None:
    schema = contracts.schema(NAMES[name])
    fields = set(schema["properties"]["data"]["properties"]) | set(schema["properties"])

    assert set(NAMES[name].model_fields) <= fields


def test_the_asyncapi_document_refers_to_what_exists() -> None:
    document = contracts.asyncapi(CHARTERS, "0")
    references = list(_references(document))

    assert references
    assert [each for each in references if not _exists(each, document)] == []


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():  # pyright: ignore[reportUnknownVariableType]
            if key == "$ref":
                yield str(value)  # pyright: ignore[reportUnknownArgumentType]
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:  # pyright: ignore[reportUnknownVariableType]
            yield from _references(value)


def _exists(reference: str, document: Any) -> bool:
    if not reference.startswith("#/"):
        return (ROOT / "docs" / "events" / reference).is_file()
    for part in reference[2:].split("/"):
        if part not in document:
            return False
        document = document[part]
    return True
