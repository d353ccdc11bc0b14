"""git in a repository of the local forge, which its owner trusts: a clean environment, no prompt, bounded time."""

import shutil
import subprocess
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Final

from dispatch_common.errors import Permanent

_DEADLINE: Final = 60
_NOBODY: Final = "dispatch@agent-dispatch.invalid"


class GitSaidNo(Permanent):
    """git failed. ``out`` and ``err`` are what it printed."""

    def __init__(self, command: str, code: int, out: str, err: str) -> None:
        super().__init__(f"git {command} failed ({code}): {err.strip()[:500]}")
        self.code = code
        self.out = out
        self.err = err


def git(
    repository: Path, command: str, *args: str, stdin: str = "", author: str = "", at: datetime | None = None
) -> str:
    """Run git in a repository and return what it printed. ``author`` and ``at`` sign what it creates."""
    program = _git()
    done = subprocess.run(
        [
            program,
            "--git-dir",
            str(repository),
            "-c",
            "core.hooksPath=/dev/null",
            "-c",
            "core.fsmonitor=false",
            command,
            *args,
        ],
        input=stdin.encode(),
        capture_output=True,
        env=_environment(program, author, at),
        cwd="/",
        timeout=_DEADLINE,
        check=False,
    )
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if done.returncode:
        raise GitSaidNo(command, done.returncode, out, err)
    return out


def _environment(program: str, author: str, at: datetime | None) -> dict[str, str]:
    environment = {
        "PATH": f"{Path(program).parent}:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ALLOW_PROTOCOL": "none",
    }
    name = " ".join("".join(char for char in author if char.isprintable() and char not in "<>").split()) or "dispatch"
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_NAME": name[:100], f"GIT_{role}_EMAIL": _NOBODY}
        if at is not None:
            environment[f"GIT_{role}_DATE"] = f"{int(at.timestamp())} +0000"
    return environment


@cache
def _git() -> str:
    return shutil.which("git") or "/usr/bin/git"
