"""The honest steps: say, think, write, replace, run, test, commit, sleep, ask. Each is told as a tool call."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .mischief import MISCHIEF
from .speech import Speech

Arguments = dict[str, Any]


class StepFailed(Exception):
    """A step could not do what the script wants."""


class Steps:
    """Does steps in the repository that is the working directory."""

    def __init__(self, speech: Speech, environment: Mapping[str, str]) -> None:
        self._speech = speech
        self._test_command = environment.get("DISPATCH_TEST_COMMAND", "")
        self._questions = 0
        self._own: dict[str, Callable[[Arguments], None]] = {
            "say": self._say, "think": self._think, "write": self._write, "replace": self._replace,
            "run": self._run, "test": self._test, "commit": self._commit, "sleep": self._sleep, "ask": self._ask,
        }  # fmt: skip

    def do(self, verb: str, arguments: Arguments) -> None:
        own = self._own.get(verb)
        if own is not None:
            own(arguments)
        else:
            MISCHIEF[verb](self._speech, arguments)

    def shell(self, tool: str, command: str) -> tuple[bool, str]:
        """Run a command as a tool call; return whether it succeeded and what it printed."""
        call = self._speech.calls(tool, command=command)
        ended = subprocess.run(
            command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        output = ended.stdout.decode(errors="replace")
        self._speech.answers(call, ended.returncode == 0, output)
        return ended.returncode == 0, output

    def _say(self, arguments: Arguments) -> None:
        self._speech.say(str(arguments.get("text", "")))

    def _think(self, arguments: Arguments) -> None:
        self._speech.line("think", text=str(arguments.get("text", "")))

    def _write(self, arguments: Arguments) -> None:
        path, text = Path(self._need(arguments, "path")), str(arguments.get("text", ""))
        call = self._speech.calls("write", path=str(path), bytes=len(text.encode()))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        except OSError as error:
            self._fail(call, f"{error.strerror}: {path}")
        self._speech.answers(call, True)

    def _replace(self, arguments: Arguments) -> None:
        path = Path(self._need(arguments, "path"))
        old, new = self._need(arguments, "old"), str(arguments.get("new", ""))
        call = self._speech.calls("edit", path=str(path), old=old, new=new)
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            self._fail(call, f"cannot read {path}: {error}")
            return
        if text.count(old) != 1:
            self._fail(call, f"the old text is {text.count(old)} times in {path}, not once")
        path.write_text(text.replace(old, new))
        self._speech.answers(call, True)

    def _run(self, arguments: Arguments) -> None:
        self.shell("shell", self._need(arguments, "command"))

    def _test(self, arguments: Arguments) -> None:
        command = str(arguments.get("command") or self._test_command)
        if not command:
            self._speech.say("This repository names no test command, so I ran no tests.")
            return
        ok, _ = self.shell("test", command)
        if not ok:
            raise StepFailed(f"the tests fail: {command}")

    def _commit(self, arguments: Arguments) -> None:
        message = str(arguments.get("message") or "Change what the task asked for")
        call = self._speech.calls("commit", message=message)
        for command in (["git", "add", "-A"], ["git", "commit", "-q", "-m", message]):
            ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            if ended.returncode != 0:
                self._fail(call, ended.stdout.decode(errors="replace"))
        self._speech.answers(call, True)

    def _sleep(self, arguments: Arguments) -> None:
        time.sleep(float(arguments.get("seconds", 1)))

    def _ask(self, arguments: Arguments) -> None:
        """Ask and go on: whoever needs the answer gets it in a later run."""
        self._questions += 1
        self._speech.line("ask", question=f"question-{self._questions}", text=self._need(arguments, "text"))

    def _need(self, arguments: Arguments, name: str) -> str:
        value = arguments.get(name)
        if not value:
            raise StepFailed(f"a step needs {name!r}")
        return str(value)

    def _fail(self, call: str, why: str) -> None:
        self._speech.answers(call, False, why)
        raise StepFailed(why)


def environment() -> Mapping[str, str]:
    return dict(os.environ)  # noqa: TID251 - this program runs alone inside the sandbox, without the settings
