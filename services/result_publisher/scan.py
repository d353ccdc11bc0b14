"""The secret scanner's process: texts in on stdin, findings out on stdout. Started and bounded by ``scanning``.

A process of its own, because a hostile text can make a regular expression run for ever, and only a process can be
killed. It never prints a value: what leaves is the place, the kind, and a keyed digest that tells old finds from new.
"""

import hashlib
import hmac
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orjson
from detect_secrets.core.scan import scan_file
from detect_secrets.settings import transient_settings

#: Nothing asks a provider whether a secret works, and no comment in the text can switch a finding off: neither of the
#: library's filters for that is listed.
_HEURISTICS: Final = (
    "is_sequential_string",
    "is_potential_uuid",
    "is_likely_id_string",
    "is_templated_secret",
    "is_prefixed_with_dollar_sign",
    "is_indirect_reference",
    "is_not_alphanumeric_string",
)
#: A find by one of these is a secret; the others guess, and a person decides.
_CERTAIN: Final = (
    "ArtifactoryDetector",
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "MailchimpDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SendGridDetector",
    "SlackDetector",
    "SquareOAuthDetector",
    "StripeDetector",
    "TelegramBotTokenDetector",
    "TwilioKeyDetector",
)
_GUESSES: Final = ("BasicAuthDetector", "JwtTokenDetector", "KeywordDetector")
#: Long random strings are looked for only where they are not the normal content.
_ENTROPY: Final[tuple[dict[str, object], ...]] = (
    {"name": "Base64HighEntropyString", "limit": 4.5},
    {"name": "HexHighEntropyString", "limit": 3.0},
)
_LONGEST_LINE: Final = 4000
_PROGRAMS: Final = (".cs", ".go", ".java", ".js", ".jsx", ".py", ".rb", ".sh", ".ts", ".tsx")
_SETTINGS: Final = (".cfg", ".conf", ".env", ".ini", ".json", ".properties", ".tf", ".toml", ".xml", ".yaml", ".yml")
_KNOWN_SUFFIXES: Final = frozenset((*_PROGRAMS, *_SETTINGS))
_NOISY: Final = (".lock", ".sum", ".svg", ".min.js", ".map", ".ipynb", "package-lock.json", "pnpm-lock.yaml")


def main() -> None:
    """Read NDJSON lines {path, text} and write one NDJSON line {path, line, kind, certain, digest} per finding."""
    key = sys.stdin.buffer.readline().strip()
    with tempfile.TemporaryDirectory(prefix="dispatch-scan-") as folder:
        for number, raw in enumerate(sys.stdin.buffer):
            item = orjson.loads(raw)
            for line, kind, certain, secret in findings(Path(folder), number, item["path"], item["text"]):
                digest = hmac.new(key, secret.encode(errors="replace"), hashlib.sha256).hexdigest()
                finding = {"path": item["path"], "line": line, "kind": kind, "certain": certain, "digest": digest}
                sys.stdout.buffer.write(orjson.dumps(finding) + b"\n")
    sys.stdout.buffer.flush()


def findings(folder: Path, number: int, path: str, text: str) -> Iterator[tuple[int, str, bool, str]]:
    """Yield line, kind, certainty and value of what looks like a secret in a text."""
    suffix = Path(path).suffix.lower()
    file = folder / f"{number}{suffix if suffix in _KNOWN_SUFFIXES else '.txt'}"
    lines, origin = _folded(text)
    file.write_text("\n".join(lines), encoding="utf-8", errors="replace")
    guesses: list[dict[str, object]] = [{"name": name} for name in _GUESSES]
    if not path.lower().endswith(_NOISY):
        guesses.extend(_ENTROPY)
    try:
        for line, kind, value in _with(file, [{"name": name} for name in _CERTAIN], ()):
            yield origin.get(line, line), kind, True, value
        for line, kind, value in _with(file, guesses, _HEURISTICS):
            yield origin.get(line, line), kind, False, value
    finally:
        file.unlink()


def _with(file: Path, plugins: list[dict[str, object]], filters: tuple[str, ...]) -> Iterator[tuple[int, str, str]]:
    used = [{"path": f"detect_secrets.filters.heuristic.{name}"} for name in filters]
    with transient_settings({"plugins_used": plugins, "filters_used": used}):
        for secret in scan_file(str(file)):
            yield secret.line_number, secret.type, secret.secret_value or ""


def _folded(text: str) -> tuple[list[str], dict[int, int]]:
    """Return lines of bounded length, and which line of the text each came from."""
    lines: list[str] = []
    origin: dict[int, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        # Pieces overlap, so that a secret on the border is whole in one of them.
        for start in range(0, max(len(line), 1), _LONGEST_LINE - 300):
            lines.append(line[start : start + _LONGEST_LINE].rstrip("\r"))
            origin[len(lines)] = number
    return lines, origin


if __name__ == "__main__":
    main()
