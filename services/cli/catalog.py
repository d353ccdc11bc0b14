"""Commands of administrators: apply and delete resources, keep secrets."""

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from services.cli import output
from services.cli.client import Client
from services.cli.failures import Exit, Failure
from services.cli.options import Json, client

secret: Final = typer.Typer(help="Set, list or remove secrets. A value is never shown again.", no_args_is_help=True)
_SUFFIXES: Final = (".yaml", ".yml")
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, store nothing.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("apply")(apply)
    app.command("delete")(delete)
    app.add_typer(secret, name="secret")


def apply(
    ctx: typer.Context,
    files: Annotated[
        list[str], typer.Option("--file", "-f", help="A YAML file, a folder of them, or - for standard input.")
    ],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Apply resources: all of them, or none."""
    read = [each for given in files for each in _files(given)]
    answer = client(ctx).post("/v1/resources", {"files": read, "dry_run": dry_run})
    if as_json:
        output.data(answer)
        return
    for item in answer["items"]:
        fields = f" ({', '.join(item['fields'])})" if item["fields"] else ""
        dry = " (dry run)" if dry_run else ""
        output.say(f"{item['kind'].lower()}/{item['name']} ", output.state(item["outcome"]), fields, dry)


def _files(given: str) -> list[dict[str, str]]:
    if given == "-":
        return [{"name": "standard input", "text": sys.stdin.read()}]
    path = Path(given)
    if not path.is_dir():
        return [_file(path)]
    found = sorted(each for each in path.rglob("*") if each.suffix in _SUFFIXES and each.is_file())
    if not found:
        raise Failure(Exit.USAGE, f"{path} holds no YAML files.", f"Their names end in {' or '.join(_SUFFIXES)}.")
    return [_file(each) for each in found]


def _file(path: Path) -> dict[str, str]:
    try:
        return {"name": str(path), "text": path.read_text()}
    except UnicodeDecodeError as error:
        raise Failure(Exit.USAGE, f"{path} is not UTF-8 text.", "Save it as UTF-8.") from error
    except OSError as error:
        raise Failure(Exit.USAGE, f"{path} cannot be read: {error.strerror}.", "Check its path.") from error


def delete(
    ctx: typer.Context,
    kind: Annotated[str, typer.Argument(help="The resource's kind.", show_default=False)],
    name: Annotated[str, typer.Argument(help="Its name.", show_default=False)],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Delete a resource that no other one names."""
    params = {"dry_run": "true"} if dry_run else {}
    item = client(ctx).call("DELETE", f"/v1/resources/{kind}/{name}", params=params)
    output.data(item) if as_json else output.say(f"{item['kind'].lower()}/{item['name']} deleted")


SecretName = Annotated[str, typer.Argument(help="The secret's name, as resources give it.", show_default=False)]


@secret.command("set")
def set_secret(
    ctx: typer.Context,
    name: SecretName,
    replace: Annotated[
        bool, typer.Option("--replace", help="The value before stops being good at once, not only when it is removed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Set or rotate a secret. Its value comes from standard input or a hidden prompt, never from the command."""
    console = client(ctx)
    value = _value(name)
    answer = console.call("PUT", f"/v1/secrets/{name}", json={"value": value, "keep_previous": not replace})
    if as_json:
        output.data(answer)
        return
    output.say(f"The secret '{name}' is set.")
    if answer["has_previous"]:
        output.note(f"The value before stays good until: dispatch secret remove {name} --previous")


def _value(name: str) -> str:
    if sys.stdin.isatty():
        return typer.prompt(f"Value of '{name}'", hide_input=True, confirmation_prompt=True)
    # `echo` and editors end a file with a newline that nobody means.
    return sys.stdin.read().removesuffix("\n").removesuffix("\r")


@secret.command("list")
def list_secrets(ctx: typer.Context, as_json: Json = False) -> None:
    """List the names of secrets."""
    page = client(ctx).get("/v1/secrets")
    if as_json:
        output.data(page)
        return
    rows = [_row(each) for each in page["items"]]
    output.table(("secret", "set", "key", "before"), rows, empty="No secrets.")


def _row(each: dict[str, Any]) -> tuple[str, ...]:
    return each["name"], output.age(each["set_at"]), each["key_id"], "also good" if each["has_previous"] else ""


@secret.command("remove")
def remove_secret(
    ctx: typer.Context,
    name: SecretName,
    previous: Annotated[bool, typer.Option("--previous", help="Only the value before the last rotation.")] = False,
) -> None:
    """Remove a secret, or end its rotation."""
    _remove(client(ctx), name, previous=previous)


def _remove(console: Client, name: str, *, previous: bool) -> None:
    console.call("DELETE", f"/v1/secrets/{name}{'/previous' if previous else ''}")
    output.say(f"The value of '{name}' before the last one is gone." if previous else f"The secret '{name}' is gone.")
