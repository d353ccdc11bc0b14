"""The program itself: says what it is, finds its script, does the steps, says how it went."""

import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from .script import BadScript, Step, find, parse
from .speech import Speech
from .steps import StepFailed, Steps, environment

SCRIPT_FILE = ".dispatch-script.json"
WHAT_I_AM = "I am the built-in scripted agent: I follow a script, no model is involved."


def steps_for(prompt: str, repository: Path, env: Mapping[str, str]) -> list[Step]:
    """Return the task's script, else the repository's, else the modest default."""
    script = find(prompt)
    if script:
        return parse(script)
    in_repository = repository / SCRIPT_FILE
    if in_repository.is_file():
        return parse(in_repository.read_text())
    return default(prompt, env)


def default(prompt: str, env: Mapping[str, str]) -> list[Step]:
    """Without a script: run the tests if there are any, and leave a note about what was asked."""
    key = "".join(each for each in env.get("DISPATCH_TASK_KEY", "task") if each.isalnum() or each in "-_") or "task"
    title = env.get("DISPATCH_TASK_TITLE", "").strip() or "a task without a title"
    tests: list[Step] = [("test", {})] if env.get("DISPATCH_TEST_COMMAND") else []
    note = f"# {key}\n\nThe task: {title}\n\nIt came without a script, so the scripted agent left this note only.\n"
    return [
        ("say", {"text": "The task holds no script, so I leave a note."}),
        *tests,
        ("write", {"path": f"NOTES-{key}.md", "text": note}),
        ("commit", {"message": f"Leave a note about {key}"}),
    ]


def main() -> int:
    speech, env = Speech(), environment()

    def stop(number: int, frame: object) -> None:
        speech.say("I was asked to stop, so I stop.")
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    speech.say(WHAT_I_AM)
    try:
        plan = steps_for(sys.stdin.buffer.read().decode(errors="replace"), Path.cwd(), env)
    except BadScript as error:
        speech.line("error", text=f"I do not understand the script: {error}", family="config_invalid")
        return 2
    steps = Steps(speech, env)
    for verb, arguments in plan:
        try:
            steps.do(verb, arguments)
        except StepFailed as error:
            speech.line("error", text=str(error), family="verification_failed" if verb == "test" else None)
            speech.line("done", ok=False, summary=f"The step {verb!r} failed: {error}")
            return 1
    speech.line("done", ok=True, summary=f"All {len(plan)} steps of the script are done.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
