"""The commit at the tip of a repository's default branch, asked of the repository itself. Reads nothing else of it.

git runs without anybody's configuration, credentials, prompts or helpers, on a name and an address that were validated.
"""

import asyncio
import contextlib
import os
import re
import signal
from datetime import timedelta
from typing import Final

from dispatch_common.errors import Transient
from dispatch_common.resources import Repository
from services.policy.approval import Base

_PATIENCE: Final = timedelta(seconds=20)
_MOST_OUTPUT: Final = 64 * 1024
_ENVIRONMENT: Final = {
    "PATH": os.defpath,
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "SSH_ASKPASS": "true",
    "GIT_SSH_COMMAND": "ssh -oBatchMode=yes -oStrictHostKeyChecking=yes",
    "GIT_ALLOW_PROTOCOL": "file:https:http:ssh",
    "GIT_OPTIONAL_LOCKS": "0",
}


class BaseUnknown(Transient):
    """The repository did not say what its branch's commit is."""


async def pin(name: str, repository: Repository, *, patience: timedelta = _PATIENCE) -> Base:
    """Return the commit that the default branch has now, or raise BaseUnknown with the reason."""
    reference = f"refs/heads/{repository.default_branch}"
    output = await _git("ls-remote", "--exit-code", "--", repository.url, reference, patience=patience)
    found = re.search(rf"^([0-9a-f]{{40}}|[0-9a-f]{{64}})\t{re.escape(reference)}$", output, re.MULTILINE)
    if not found:
        raise BaseUnknown(f"it has no branch '{repository.default_branch}'")
    return Base(name, repository.url, repository.default_branch, found[1])


async def _git(*arguments: str, patience: timedelta) -> str:
    process = await asyncio.create_subprocess_exec(
        "git",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_ENVIRONMENT,
        cwd="/",
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(patience.total_seconds()):
            out, err = await asyncio.gather(process.stdout.read(_MOST_OUTPUT), process.stderr.read(_MOST_OUTPUT))
            await process.wait()
    except TimeoutError as error:
        raise BaseUnknown(f"it did not answer within {patience.total_seconds():g} s") from error
    finally:
        await _gone(process)
    if process.returncode == 2:
        raise BaseUnknown("it has no such branch")
    if process.returncode != 0:
        raise BaseUnknown(_last_line(err))
    return out.decode(errors="replace")


async def _gone(process: asyncio.subprocess.Process) -> None:
    """End git and whatever it started; it is the leader of its own group."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _last_line(err: bytes) -> str:
    lines = [line.strip() for line in err.decode(errors="replace").splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith("fatal:")]
    return (fatal or lines or ["git failed"])[0].removeprefix("fatal: ").rstrip(".")[:200]
