"""The small types that resource fields are made of: names, durations, sizes, patterns. Pure; errors carry a remedy."""

import re
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

_NAME: Final = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_DURATION: Final = r"^(?=\d)(\d+h)?(\d+m)?(\d+s)?$"
_QUANTITY: Final = r"^\d+(Mi|Gi)$"
_CPU: Final = r"^(\d+(\.\d+)?|\d+m)$"
_PATH_PATTERN: Final = re.compile(r"[^\s\\\[\]{}][^\\\[\]{}\x00-\x1f]*")
_BRANCH: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}")
_HOST: Final = re.compile(r"(\*\.)?([a-z0-9]([-a-z0-9]*[a-z0-9])?\.)*[a-z0-9]([-a-z0-9]*[a-z0-9])?(:\d{1,5})?")
_URL: Final = re.compile(
    r"(https?|ssh|file)://[^\s\x00-\x1f]+|/[^\s\x00-\x1f]*|[A-Za-z0-9_.-]+@[A-Za-z0-9.-]+:[^\s\x00-\x1f]+"
)
_CREDENTIALS: Final = re.compile(r"^[a-z+]+://[^/@\s]*:[^/@\s]*@")


def wrong(message: str, remedy: str) -> PydanticCustomError:
    """Return the error that a validator raises: what is wrong, and what to do."""
    return PydanticCustomError("wrong", "{message}", {"message": message, "remedy": remedy})


def name(text: str) -> str:
    """Return the text if it is a DNS label, as Kubernetes wants names to be."""
    if re.fullmatch(_NAME, text):
        return text
    better = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-")
    hint = f" For example '{better}'." if better else ""
    raise wrong(
        f"'{_short(text)}' is not a name",
        f"Use 1 to 63 lower-case letters, digits and hyphens, no hyphen at the ends.{hint}",
    )


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _seconds(value: Any) -> Any:
    if isinstance(value, str):
        found = re.fullmatch(_DURATION, value)
        if not found:
            raise wrong(
                f"'{_short(value)}' is not a duration", "Write hours, minutes and seconds, like 1h30m, 30m or 90s."
            )
        hours, minutes, seconds = (int(part[:-1]) if part else 0 for part in found.groups())
        return hours * 3600 + minutes * 60 + seconds
    return value


def _mib(value: Any) -> Any:
    if isinstance(value, str):
        if not re.fullmatch(_QUANTITY, value):
            raise wrong(f"'{_short(value)}' is not a size", "Write a whole number with a unit, like 512Mi or 4Gi.")
        return int(value[:-2]) * (1024 if value.endswith("Gi") else 1)
    return value


def _cpus(value: Any) -> Any:
    if isinstance(value, str):
        if not re.fullmatch(_CPU, value):
            raise wrong(
                f"'{_short(value)}' is not a number of CPUs", "Write a number like 2 or 0.5, or thousandths like 500m."
            )
        return int(value[:-1]) / 1000 if value.endswith("m") else float(value)
    return value


def _positive(what: str, least: float, most: float) -> AfterValidator:
    def check(value: float) -> float:
        if not least <= value <= most:
            raise wrong(f"{value:g} is out of range", f"Give {what} from {least:g} to {most:g}.")
        return value

    return AfterValidator(check)


def _path_pattern(text: str) -> str:
    parts = text.removesuffix("/").split("/")
    # "**" inside a name would mean something else to every reader.
    bad = text.startswith("/") or ".." in parts or any("**" in part and part != "**" for part in parts)
    if bad or not _PATH_PATTERN.fullmatch(text):
        raise wrong(
            f"'{_short(text)}' is not a path pattern",
            "Write a path relative to the repository's root; * stands for a part of a name, ** for any folders.",
        )
    return f"{text}**" if text.endswith("/") else text


def _host_pattern(text: str) -> str:
    if text != "*" and not _HOST.fullmatch(text):
        raise wrong(
            f"'{_short(text)}' is not a host", "Write a host name without scheme, like pypi.org or *.example.com:8443."
        )
    return text


def branch(text: str) -> str:
    """Return the text if git and every program that is given it take it for a branch name and nothing else."""
    parts = text.split("/")
    bad = (
        ".." in text
        or text.endswith((".", "/"))
        or any(not p or p.startswith((".", "-")) or p.endswith(".lock") for p in parts)
    )
    if bad or not _BRANCH.fullmatch(text):
        raise wrong(
            f"'{_short(text)}' is not a branch name",
            "Use letters, digits, '_', '-', '.' and '/', like main or release/2.1.",
        )
    return text


def _ref_pattern(text: str) -> str:
    branch(text.replace("*", "x"))
    return text


def _git_url(text: str) -> str:
    if not _URL.fullmatch(text):
        raise wrong(
            f"'{_short(text)}' is not the address of a repository",
            "Give https://…, ssh://…, git@host:path, file://… or an absolute path.",
        )
    if _CREDENTIALS.match(text):
        raise wrong(
            "the address holds a password",
            "Take it out, store it with 'dispatch secret set NAME' and name it in 'credential'.",
        )
    return text


def _http_url(text: str) -> str:
    if text and (not re.fullmatch(r"https?://[^\s\x00-\x1f?#]+", text) or _CREDENTIALS.match(text)):
        raise wrong(
            f"'{_short(text)}' is not a base address", "Give it like https://plane.example.com, without user or query."
        )
    return text.rstrip("/")


def _schema(kind: str, pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, "pattern": pattern})


Name = Annotated[str, AfterValidator(name), _schema("string", _NAME)]
Seconds = Annotated[
    int,
    BeforeValidator(_seconds),
    _positive("a time in seconds", 1, 30 * 86400),
    PlainSerializer(lambda value: f"{value}s", return_type=str),
    _schema("string", _DURATION),
]
Mebibytes = Annotated[
    int,
    BeforeValidator(_mib),
    _positive("a size in MiB", 1, 4 * 1024 * 1024),
    PlainSerializer(lambda value: f"{value}Mi", return_type=str),
    _schema("string", _QUANTITY),
]
Cpus = Annotated[
    float,
    BeforeValidator(_cpus),
    _positive("a number of CPUs", 0.01, 1024),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": _CPU}]}),
]
PathPattern = Annotated[str, AfterValidator(_path_pattern)]
HostPattern = Annotated[str, AfterValidator(_host_pattern)]
RefPattern = Annotated[str, AfterValidator(_ref_pattern)]
Branch = Annotated[str, AfterValidator(branch)]
GitUrl = Annotated[str, AfterValidator(_git_url)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]


Text = Annotated[str, Field(max_length=4000)]
Short = Annotated[str, Field(max_length=200)]
Tool = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:*-]{1,64}$")]
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:/@+-]{1,128}$")]


class Part(BaseModel):
    """A piece of a resource. Unknown fields are errors: a misspelt limit must not silently be no limit."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        allow_inf_nan=False,
    )


class Spec(Part):
    """The spec of one kind."""

    kind: ClassVar[str]
    plural: ClassVar[str]


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern as a regular expression over whole paths: ** crosses folders, * and ? do not."""
    out: list[str] = []
    for part in re.split(r"(\*\*/|\*\*|\*|\?)", pattern):
        match part:
            case "**/":
                out.append("(.*/)?")
            case "**":
                out.append(".*")
            case "*":
                out.append("[^/\x01]*")
            case "?":
                out.append("[^/\x00\x01]")
            case _:
                out.append(re.escape(part))
    return re.compile("".join(out), re.DOTALL)


def matches(pattern: str, text: str) -> bool:
    """Tell whether a pattern with *, ** and ? covers the whole text."""
    return _compiled(pattern).fullmatch(text) is not None


def covers(wide: str, narrow: str) -> bool:
    """Tell whether everything that ``narrow`` matches is matched by ``wide`` too. Says False when it cannot be sure."""
    if wide in {narrow, "**"}:
        return True
    # The narrow one's wildcards become characters that only an equal or stronger wildcard of the wide one matches.
    sample = narrow.replace("**", "\x01").replace("*", "\x00").replace("?", "\x00")
    return _compiled(wide).fullmatch(sample) is not None
