"""Asks the scanner's process about texts: starts it with bounds, kills it when it does not end, keeps no value."""

import asyncio
import os
import secrets
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import orjson

from services.result_publisher.confine import Bounds, prefix
from services.result_publisher.judge import Finding

_DEADLINE: Final = timedelta(seconds=60)
_BOUNDS: Final = Bounds(cpu_seconds=45, address_space=2 << 30, file_size=256 << 20)
_PYTHON: Final = (sys.executable, "-I", "-X", "utf8", "-m", "services.result_publisher.scan")
_MOST_FINDINGS: Final = 200


@dataclass(frozen=True, slots=True)
class Text:
    """Something to look through. ``before`` is the same path in the base: what was found there is not news."""

    path: str
    content: bytes
    before: bytes | None = None


async def scan(texts: Sequence[Text], scratch: Path, *, confined: bool = False) -> tuple[Finding, ...] | None:
    """Return what is new in the texts; None when the scanner could not finish."""
    if not texts:
        return ()
    # Named by position, so that a path cannot stand for another's text.
    asked: list[bytes] = [orjson.dumps({"path": t.path, "text": _readable(t.content)}) for t in texts]
    olds = [t for t in texts if t.before is not None]
    asked += [orjson.dumps({"path": "\0" + t.path, "text": _readable(t.before or b"")}) for t in olds]
    answer = await _run(b"\n".join([secrets.token_hex(32).encode(), *asked]) + b"\n", scratch, confined=confined)
    return None if answer is None else _news(answer)


def _news(answer: bytes) -> tuple[Finding, ...]:
    found = [orjson.loads(line) for line in answer.splitlines()]
    known = Counter((f["path"][1:], f["kind"], f["digest"]) for f in found if f["path"].startswith("\0"))
    news: set[Finding] = set()
    for item in found:
        mark = (item["path"], item["kind"], item["digest"])
        if item["path"].startswith("\0"):
            continue
        if known[mark] > 0:
            known[mark] -= 1
            continue
        news.add(Finding(item["path"], item["line"], item["kind"], item["certain"]))
    return tuple(sorted(news)[:_MOST_FINDINGS])


def _readable(content: bytes) -> str:
    """Return bytes as text in which a secret is still found: UTF-16 is decoded, binary noise becomes line breaks."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace")
    text = content.replace(b"\0", b"").decode("utf-8", errors="replace")
    return text.replace("\x0b", "\n").replace("\x0c", "\n")


async def _run(stdin: bytes, scratch: Path, *, confined: bool) -> bytes | None:
    process = await asyncio.create_subprocess_exec(
        *prefix(_BOUNDS, scratch if confined else None),
        *_PYTHON,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "TMPDIR": str(scratch), "LC_ALL": "C.UTF-8"},
        cwd="/",
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(_DEADLINE.total_seconds()):
            out, _ = await process.communicate(stdin)
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return out if process.returncode == 0 else None
