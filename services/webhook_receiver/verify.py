"""Is this request what its sender signed, and is its body fit to be looked at? Bytes in, a refusal or an object out."""

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from dispatch_common.errors import InvalidInput

DEEPEST: Final = 64
MOST_BRACKETS: Final = 200_000
_SIGNATURE_LENGTH: Final = 64
_STRING: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKET: Final = re.compile(r"[\[\]{}]")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is not taken: the HTTP status, a code for programs, a sentence for people, and what to do."""

    status: int
    code: str
    sentence: str
    field: str = ""
    remedy: str = ""


UNSIGNED: Final = Refusal(
    401,
    "unsigned",
    "The request carries no signature.",
    "X-Plane-Signature",
    "Give the webhook a secret in Plane and store it with 'dispatch secret set'.",
)
WRONG_SIGNATURE: Final = Refusal(
    401,
    "wrong_signature",
    "The signature fits none of the secrets that are valid for this source.",
    "X-Plane-Signature",
    "Store the webhook's present secret with 'dispatch secret set'.",
)
NO_SECRET: Final = Refusal(
    401,
    "no_secret",
    "No webhook secret is stored for this source, so nobody can prove who sent this.",
    "webhookSecret",
    "Store it with 'dispatch secret set' under the name that the Source gives.",
)
UNKNOWN_SOURCE: Final = Refusal(
    404, "unknown_source", "There is no such source.", "source", "Apply a Source with this name, or correct the URL."
)
WRONG_METHOD: Final = Refusal(
    405,
    "method_not_allowed",
    "A webhook is a POST. A redirect on the way turns it into a GET without body.",
    "method",
    "Give Plane the URL that answers itself, without redirects.",
)
WRONG_TYPE: Final = Refusal(
    415, "wrong_content_type", "The body is not JSON.", "Content-Type", "Send application/json, without encoding."
)
TOO_LARGE: Final = Refusal(
    413,
    "too_large",
    "The body is larger than this receiver takes.",
    "body",
    "Raise DISPATCH_MAX_BODY_MIB, or send less.",
)


def content_type_is_json(content_type: str, content_encoding: str) -> bool:
    """Tell whether the headers announce plain JSON in UTF-8."""
    kind, *parameters = [part.strip().lower() for part in content_type.split(";")]
    charsets = [part for part in parameters if part.startswith("charset=")]
    plain = content_encoding.strip().lower() in ("", "identity")
    return kind == "application/json" and plain and all(each.replace('"', "") == "charset=utf-8" for each in charsets)


def signature(secret: str, body: bytes) -> str:
    """Return Plane's signature: hex HMAC-SHA256 over the raw body, keyed with the whole secret."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def check_signature(given: str | None, body: bytes, secrets: Iterable[str]) -> Refusal | None:
    """Compare with every live secret, all of them and each in constant time."""
    live = list(secrets)
    if not live:
        return NO_SECRET
    if not given:
        return UNSIGNED
    # Something of the right form is always compared, so that a wrong form takes as long as a wrong value.
    shown = given.encode("utf-8", "replace").ljust(_SIGNATURE_LENGTH, b"?")
    fits = False
    for secret in live:
        fits |= hmac.compare_digest(signature(secret, body).encode(), shown)
    return None if fits else WRONG_SIGNATURE


def read_object(body: bytes) -> dict[str, Any] | Refusal:
    """Return the JSON object in a body, or why it cannot be used: encoding, syntax, depth, size, a key that repeats."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        return _unusable("invalid_utf8", f"The body is not UTF-8 (byte {error.start}).")
    if deeper_than(text, DEEPEST):
        return _unusable("too_deep", f"The body is nested deeper than {DEEPEST} levels, or has very many parts.")
    try:
        value: object = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except InvalidInput as error:
        return _unusable("ambiguous_json", str(error))
    except ValueError as error:
        return _unusable("invalid_json", f"The body is not JSON: {error}.")
    if not isinstance(value, dict):
        return _unusable("not_an_object", "The body is JSON, but not an object.")
    return cast("dict[str, Any]", value)


def deeper_than(text: str, limit: int) -> bool:
    """Tell whether brackets nest deeper than ``limit``; those inside strings do not count."""
    depth = 0
    for count, bracket in enumerate(_BRACKET.finditer(_STRING.sub("", text))):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > limit or count > MOST_BRACKETS:
            return True
    return False


def _unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"the key {twice[:60]!r} is there twice, so readers may disagree.")
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _unusable(code: str, sentence: str) -> Refusal:
    return Refusal(400, code, sentence, "body", "Send what Plane sends: one JSON object in UTF-8.")
