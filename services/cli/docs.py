"""`dispatch docs`: writes the generated parts of docs/, or tells which are stale. The rest of docs/ is by hand."""

import re
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from dispatch_common.errors import InvalidInput
from dispatch_common.events import FACTS
from dispatch_common.resources import json_schemas
from services.cli import contracts, reference
from services.console import openapi

_BLOCK: Final = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.S)
PAGES: Final = ("architecture.md", "operations.md", "adr/README.md")
_CHECK: Final = typer.Option("--check", help="Write nothing; exit with 1 when something is stale.")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("docs")(docs)


def docs(check: Annotated[bool, _CHECK] = False) -> None:
    """Regenerate the generated parts of docs/: schemas, diagram, tables. For people who work on the source."""
    folder = source_docs()
    changed = stale(folder) if check else write(folder)
    for path in changed:
        typer.echo(f"{'stale' if check else 'written'}: {path.relative_to(folder.parent)}")
    if check and changed:
        typer.echo("Run: make docs", err=True)
        raise typer.Exit(1)
    if not changed:
        typer.echo("docs/ is up to date.")


def generated(docs: Path) -> dict[Path, str]:
    """Return every generated file and every page with generated blocks, as they should be."""
    known = contracts.charters()
    events = docs / "events"
    files = {events / f"{fact.type}.schema.json": _json(contracts.schema(fact)) for fact in FACTS.values()}
    files[events / "asyncapi.json"] = _json(contracts.asyncapi(known, version("agent-dispatch")))
    files[docs / "api" / "openapi.json"] = openapi.document()
    files |= {docs / "resources" / name: text for name, text in json_schemas().items()}
    blocks = {
        "states": reference.states(),
        "facts": reference.facts(known),
        "settings": reference.settings(),
        "families": reference.families(),
        "metrics": reference.metrics(),
        "decisions": _decisions(docs / "adr"),
    }
    for name in PAGES:
        files[docs / name] = fill((docs / name).read_text(), blocks)
    return files


def fill(page: str, blocks: dict[str, str]) -> str:
    """Return a page with every generated block replaced by its present text."""

    def replaced(found: re.Match[str]) -> str:
        name = found["name"]
        if name not in blocks:
            raise InvalidInput(f"there is no generated block '{name}'.", remedy=f"Use one of {', '.join(blocks)}.")
        return f"{found[1]}{blocks[name]}\n{found[3]}"

    return _BLOCK.sub(replaced, page)


def stale(docs: Path) -> list[Path]:
    """Return the files that are not as they should be, also those that should not be."""
    wanted = generated(docs)
    differ = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    return sorted(differ + _left_over(docs, wanted))


def write(docs: Path) -> list[Path]:
    """Bring docs/ up to date; return what changed."""
    changed = stale(docs)
    wanted = generated(docs)
    for path in changed:
        if path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path])
        else:
            path.unlink()
    return changed


def source_docs() -> Path:
    """Return docs/ of the source tree that this runs from."""
    docs = Path(__file__).parents[2] / "docs"
    if not (docs / "architecture.md").is_file():
        raise InvalidInput(
            f"{docs} is not there.", remedy="`dispatch docs` works in a clone of the source, not in an installed wheel."
        )
    return docs


def _decisions(folder: Path) -> str:
    """Return the list of decisions, by their own titles."""
    pages = {path.name: path.read_text().split("\n", 1)[0] for path in sorted(folder.glob("[0-9]*.md"))}
    return "\n".join(f"* [{title.removeprefix('# ')}]({name})" for name, title in pages.items())


def _left_over(docs: Path, wanted: dict[Path, str]) -> list[Path]:
    schemas = [*(docs / "events").glob("*.json"), *(docs / "resources").glob("*.json")]
    return [path for path in schemas if path not in wanted]


def _json(document: dict[str, Any]) -> str:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
