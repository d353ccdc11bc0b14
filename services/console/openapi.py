"""The OpenAPI document of the console, as docs/api keeps it."""

import orjson

from services.console.app import build


def document() -> str:
    """Return the document as JSON text, the same for the same API."""
    text = orjson.dumps(build().openapi(), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    return f"{text.decode()}\n"
