"""The repository that a person means by a name, a path or a URL; one that is not known yet is applied."""

import re
from pathlib import Path
from typing import Any, Final

from services.cli import output
from services.cli.client import Client
from services.cli.failures import Exit, Failure

_ADDRESS: Final = re.compile(r"[a-z][a-z0-9+.-]*://.+|[^/\s@]+@[^/\s:]+:.+")
_HEAD: Final = re.compile(r"ref: refs/heads/(\S+)\s*")


def name_of(console: Client, given: str) -> str:
    """Return the name of the Repository resource that ``given`` means."""
    known: list[dict[str, Any]] = console.get("/v1/resources", kind="Repository")["items"]
    names = {each["name"] for each in known}
    if given in names:
        return given
    url, branch = _place(given)
    for each in known:
        if _same(each["spec"]["url"], url):
            return each["name"]
    name = free_name(url, names)
    output.note(f"Applying the Repository '{name}' for {url} (branch {branch}). Change it with: dispatch apply -f FILE")
    console.post("/v1/resources", {"files": [{"name": f"{name}.yaml", "text": document(name, url, branch)}]})
    return name


def _place(given: str) -> tuple[str, str]:
    if _ADDRESS.fullmatch(given):
        return given, "main"
    path = Path(given).expanduser().absolute()
    for folder in (path / ".git", path):
        if (folder / "HEAD").is_file() and (folder / "objects").is_dir():
            found = _HEAD.fullmatch((folder / "HEAD").read_text())
            return str(path.resolve()), found[1] if found else "main"
    what = "is not a git repository" if path.exists() else "is no Repository's name, and no path either"
    raise Failure(
        Exit.USAGE,
        f"'{given}' {what}.",
        "Give a name from 'dispatch get resources --kind Repository', a path to a clone, or a URL.",
    )


def _same(one: str, other: str) -> bool:
    def plain(url: str) -> str:
        return url.removeprefix("file://").rstrip("/").removesuffix("/.git").removesuffix(".git")

    return plain(one) == plain(other)


def free_name(url: str, taken: set[str]) -> str:
    """Return a name after the last part of the address, with a number when it is taken."""
    last = url.rstrip("/").removesuffix("/.git").removesuffix(".git").rpartition("/")[2].rpartition(":")[2]
    base = re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")[:58].strip("-") or "repository"
    names = [base, *(f"{base}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


def document(name: str, url: str, branch: str) -> str:
    """Return the resource as YAML. Texts are quoted so that nothing in them can break out."""
    return "\n".join(
        (
            "apiVersion: dispatch.dev/v1alpha1",
            "kind: Repository",
            f"metadata: {{name: {quoted(name)}}}",
            f"spec: {{url: {quoted(url)}, defaultBranch: {quoted(branch)}}}",
            "",
        )
    )


def quoted(text: str) -> str:
    """Return a text as a YAML double-quoted scalar that means exactly it."""
    plain = (char if char.isprintable() and char not in '"\\' else f"\\U{ord(char):08x}" for char in text)
    return f'"{"".join(plain)}"'
