"""Runs git for the executor: no prompts, no configuration of anybody, no odd protocols, and an end in time.

Only ever in repositories that no agent could write.
"""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dispatch_common.errors import DispatchError
from dispatch_common.families import ErrorFamily

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT: Final[Mapping[str, str]] = {
    "PATH": _PATH,
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "/bin/false",
    "SSH_ASKPASS": "/bin/false",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oConnectTimeout=20",
    "GIT_ALLOW_PROTOCOL": "file:http:https:ssh:git",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
}
# In this order: the first that fits tells what a failed fetch means to the person who must act.
_MEANING: Final = (
    (
        r"dubious ownership",
        ErrorFamily.CONFIG_INVALID,
        "It belongs to another user. Give it to the user who runs this.",
    ),
    (
        r"Authentication failed|could not read (Username|Password)|Permission denied \(|terminal prompts disabled|403",
        ErrorFamily.AUTH_FAILED,
        "It wants credentials. Check the repository's credential.",
    ),
    (
        r"not appear to be a git repo|does not exist|not found|No such (file|device)|unsupported protocol|not allowed",
        ErrorFamily.CONFIG_INVALID,
        "Check repository.url.",
    ),
    (r"No space left|Disk quota", ErrorFamily.WORKSPACE_FAILED, "Make room on the disk of the data folder."),
)


class WorkspaceError(DispatchError):
    """A workspace could not be made. ``family`` says what follows from that."""

    def __init__(self, sentence: str, family: ErrorFamily = ErrorFamily.WORKSPACE_FAILED) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.family = family


class GitFailed(Exception):
    """git said no; ``said`` is what it said."""

    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


async def git(*arguments: str, config: Path, within: float = 60, user: int | None = None) -> str:
    """Run git and return what it printed. ``config`` is its only configuration file. Raises GitFailed."""
    command = ["git", "-c", "gc.auto=0", "-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", *arguments]
    if user is not None:
        command = ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", "--", *command]
    running = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**_ENVIRONMENT, "GIT_CONFIG_GLOBAL": str(config)},
        cwd="/",
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(within):
            printed, said = await running.communicate()
    except TimeoutError as error:
        raise GitFailed(f"it took longer than {within:g} s") from error
    finally:
        if running.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            await running.wait()
    if running.returncode != 0:
        raise GitFailed(said.decode(errors="replace").strip()[-2000:] or f"exit code {running.returncode}")
    return printed.decode(errors="replace")


def explained(what: str, said: str) -> WorkspaceError:
    """Return the error that tells a person what git's words mean."""
    last = " ".join(said.split())[-400:]
    for pattern, family, remedy in _MEANING:
        if re.search(pattern, said):
            return WorkspaceError(f"{what}: {remedy} git said: {last}", family)
    return WorkspaceError(f"{what}. It will be tried again. git said: {last}")
