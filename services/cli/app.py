"""Puts the commands together. Commands that start servers are imported only when they are used."""

import importlib
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import typer.main
from typer._click.exceptions import (  # typer carries its own click and exports no base of its errors
    ClickException,
    NoArgsIsHelpError,
    UsageError,
)  # typer carries its own click and exports no base
from typer.core import TyperGroup

from dispatch_common.errors import DispatchError, InvalidInput
from dispatch_common.settings import Settings
from services.cli import catalog, get, output, pulls, runs, system
from services.cli.client import Client
from services.cli.failures import Exit, Failure
from services.cli.place import find

#: Command -> the module whose ``register`` adds it.
LATE: Final = {
    "up": "services.cli.up",
    "run-service": "services.cli.up",
    "migrate": "services.cli.up",
    "demo": "services.cli.demo",
    "docs": "services.cli.docs",
}
#: Options of the console that people may write anywhere in a command.
_ANYWHERE: Final = ("--url", "--token-file")
_EPILOG: Final = (
    "Exit codes: 0 done, 1 the run failed or doctor found problems, 2 wrong command or input, 3 not found, "
    "4 refused or denied, 5 unreachable, 6 the console broke, 130 interrupted."
)


class Commands(TyperGroup):
    """The root group: knows the late commands by name and imports their module on use."""

    def list_commands(self, ctx: Any) -> list[str]:
        late = [name for name, module in LATE.items() if find_spec(module) is not None]
        return [*(name for name in late if name in ("up", "demo")), *super().list_commands(ctx), *_rest(late)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return _late(cmd_name) if cmd_name in LATE else super().get_command(ctx, cmd_name)


def _rest(late: list[str]) -> list[str]:
    return [name for name in late if name not in ("up", "demo")]


def _late(name: str) -> Any:
    if find_spec(LATE[name]) is None:
        return None
    module = importlib.import_module(LATE[name])
    # A second command keeps typer from folding a group of one into the command itself.
    holder = typer.Typer(add_completion=False, rich_markup_mode=None)
    module.register(holder)
    holder.command("-")(lambda: None)
    group: Any = typer.main.get_command(holder)
    return group.commands.get(name)


app: Final = typer.Typer(
    name="dispatch",
    cls=Commands,
    help="Dispatches work items to AI coding agents and turns their work into pull requests.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    ctx: typer.Context,
    url: Annotated[
        str | None, typer.Option(help="The console's address; else DISPATCH_URL, else a running 'up'.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the API token; else DISPATCH_TOKEN, else a running 'up'.")
    ] = None,
) -> None:
    """Remember where the console is; it is looked for when a command needs it."""
    ctx.obj = lambda: Client(find(url=url, token_file=token_file))


runs.register(app)
get.register(app)
catalog.register(app)
pulls.register(app)
system.register(app)


def hoist(argv: list[str]) -> list[str]:
    """Return the arguments with the console's options in front, wherever they were written."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            return [*front, *rest, word, *words]
        name, given, _ = word.partition("=")
        if name in _ANYWHERE and given:
            front.append(word)
        elif name in _ANYWHERE:
            front += [word, *([value] if (value := next(words, None)) is not None else [])]
        else:
            rest.append(word)
    return [*front, *rest]


def run(argv: list[str]) -> int:
    """Run one command and return its exit code. Nothing that goes wrong prints a stack trace."""
    # A shell starts background jobs with SIGINT ignored; a command that follows must still hear it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = app(hoist(argv), standalone_mode=False, prog_name="dispatch")
        return int(result) if isinstance(result, int) else Exit.OK
    except (KeyboardInterrupt, typer.Abort):
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough of it. The interpreter must not try to flush the rest.
        sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        return Exit.OK
    except NoArgsIsHelpError as error:
        output.say(error.format_message())
        return Exit.USAGE
    except Exception as error:
        failure = told(error)
        if failure.code is Exit.BROKEN and Settings().log_level.upper() == "DEBUG":
            raise
        output.failure(failure, as_json="--json" in argv)
        return failure.code


def told(error: Exception) -> Failure:
    """Return what a person is told about an error."""
    match error:
        case Failure():
            return error
        case UsageError():
            path = error.ctx.command_path if error.ctx else "dispatch"
            return Failure(Exit.USAGE, error.format_message(), f"See: {path} --help")
        case ClickException():
            return Failure(Exit.USAGE, error.format_message())
        case InvalidInput():
            where = f"{error.field}: " if error.field else ""
            return Failure(Exit.USAGE, f"{where}{error.message}", error.remedy)
        case DispatchError():
            return Failure(Exit.BROKEN, str(error))
        case _:
            sentence = f"dispatch made a mistake: {type(error).__name__}: {error}"
            return Failure(Exit.BROKEN, sentence, "With DISPATCH_LOG_LEVEL=DEBUG it tells where.")
