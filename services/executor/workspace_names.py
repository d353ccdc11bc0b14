"""Which repository addresses, branches and names may be handed to git, and what folders they become. PURE."""

import hashlib
import re
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from dispatch_common.errors import InvalidInput

_SCHEMES: Final = frozenset({"https", "http", "ssh", "git", "file"})
_SCP: Final = re.compile(r"^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:(?!//)[^\s:][^\s]*$")
_HOST: Final = re.compile(r"^[A-Za-z0-9.\-\[\]:_]+$")
_COMMIT: Final = re.compile(r"^([0-9a-f]{40}|[0-9a-f]{64})$")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# What git-check-ref-format forbids, and a leading dash, which git would take for an option.
_NOT_IN_REF: Final = re.compile(r"(^[-/.])|(/[/.])|(\.\.)|(@\{)|([ ~^:?*\[\\])|(\.lock(/|$))|([/.]$)|(^@$)")
_LONGEST_REF: Final = 200


def checked_url(url: str, *, field: str = "repository.url") -> str:
    """Return the address as git may have it: a path of this machine or a URL, never an option or a helper."""
    text = url.strip()
    if not text or _CONTROL.search(text):
        raise InvalidInput(f"{url!r} is no address of a repository.", field=field, remedy="Give a path or a URL.")
    if text.startswith("-"):
        raise InvalidInput(f"{text!r} begins with a dash, like an option.", field=field, remedy="Give a path or a URL.")
    if text.startswith(("/", "./", "../", "~")):
        return _checked_path(text, field)
    if _SCP.match(text):
        return text
    return _checked_address(text, field)


def _checked_path(text: str, field: str) -> str:
    if not text.startswith("/"):
        raise InvalidInput(f"{text!r} depends on where it is read.", field=field, remedy="Give the whole path.")
    return text


def _checked_address(text: str, field: str) -> str:
    if "::" in text.partition("/")[0]:
        raise InvalidInput(f"{text!r} names a git remote helper.", field=field, remedy="Use https, ssh or a path.")
    try:
        parts = urlsplit(text)
        host, secret = parts.hostname or "", parts.password
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no URL: {error}.", field=field, remedy="Give a path or a URL.") from error
    if parts.scheme not in _SCHEMES:
        raise InvalidInput(
            f"{text!r} has no scheme that is allowed.", field=field, remedy=f"Use one of {', '.join(sorted(_SCHEMES))}."
        )
    if secret:
        raise InvalidInput(
            "the address holds a password.", field=field, remedy="Store it with 'dispatch secret set' instead."
        )
    if parts.scheme != "file" and (host.startswith("-") or not _HOST.match(host)):
        raise InvalidInput(f"{text!r} names no proper host.", field=field, remedy="Check the address.")
    if parts.path.startswith("/-") and parts.scheme == "ssh":
        raise InvalidInput(f"{text!r} has a path like an option.", field=field, remedy="Check the address.")
    return text


def checked_branch(name: str, *, field: str = "repository.default_branch") -> str:
    """Return a branch name that git takes for a branch and for nothing else."""
    if not name or len(name) > _LONGEST_REF or _CONTROL.search(name) or _NOT_IN_REF.search(name):
        raise InvalidInput(f"{name!r} is no name of a branch.", field=field, remedy="Give a plain name such as main.")
    return name


def checked_commit(name: str, *, field: str = "grant.base_commit") -> str:
    """Return a full commit name; abbreviations and expressions are refused."""
    if not _COMMIT.match(name):
        raise InvalidInput(f"{name!r} is no full commit name.", field=field, remedy="Give all 40 hex digits.")
    return name


def folder_name(name: str, url: str) -> str:
    """Return the folder of a repository: readable, safe, and different for each address."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:40] or "repository"
    return f"{readable}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"


def placed(path: str) -> Path:
    """Return the relative path of a file that we put into a workspace: below .dispatch, without detours."""
    relative = Path(path)
    if relative.is_absolute() or ".." in relative.parts or relative.parts[:1] != (".dispatch",):
        raise InvalidInput(
            f"{path!r} is not below .dispatch.", field="files", remedy="Place files below .dispatch only."
        )
    return relative
