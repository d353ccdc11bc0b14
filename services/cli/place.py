"""Where the console is and with which token: options, then DISPATCH_URL and DISPATCH_TOKEN, then a running `up`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from dispatch_common.settings import Settings
from services.cli.failures import Exit, Failure

READY_FILE: Final = "ready.json"


@dataclass(frozen=True, slots=True)
class Place:
    """A console and the right to speak to it."""

    url: str
    token: str


def find(*, url: str | None = None, token_file: Path | None = None, settings: Settings | None = None) -> Place:
    """Return the console to use, or say how to name one."""
    settings = settings or Settings()
    ready = _ready(settings.data / READY_FILE)
    address = url or settings.url or ready.get("console", "")
    if not address:
        raise Failure(
            Exit.UNREACHABLE,
            f"No console is known: nothing runs with the data folder {settings.data}.",
            "Start one with 'dispatch up', or name one with --url and --token-file (or DISPATCH_URL, DISPATCH_TOKEN).",
        )
    return Place(address.rstrip("/"), _token(token_file, settings, ready))


def _token(token_file: Path | None, settings: Settings, ready: dict[str, Any]) -> str:
    if token_file is not None:
        return _read(token_file)
    if settings.token is not None:
        return settings.token.get_secret_value()
    if ready.get("token_file"):
        return _read(Path(ready["token_file"]))
    raise Failure(Exit.REFUSED, "No token is known.", "Name its file with --token-file, or set DISPATCH_TOKEN.")


def _read(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(
            Exit.USAGE, f"The token file {path} cannot be read: {error}.", "Check its path and owner."
        ) from error
    if not token:
        raise Failure(Exit.USAGE, f"The token file {path} is empty.", "Restart 'dispatch up' to write a new one.")
    return token


def _ready(path: Path) -> dict[str, Any]:
    try:
        return orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
