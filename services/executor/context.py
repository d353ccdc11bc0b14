"""The context bundle of an attempt: its prompt, the files placed in its workspace, and the manifest of both. PURE."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dispatch_common.events import AttemptRequested
from dispatch_common.ids import short
from dispatch_common.values import Message, TaskSnapshot, Trust
from services.executor.prompt import Layer, Standing, newest, outside, render, rules, visible

#: Files in which a repository tells agents its customs; the first of two with the same content counts.
INSTRUCTION_FILES: Final = ("AGENTS.md", "CLAUDE.md")
LONGEST_INSTRUCTIONS: Final = 64 * 1024
_LONGEST_BODY: Final = 128 * 1024
_LONGEST_MESSAGE: Final = 32 * 1024
_LONGEST_CONVERSATION: Final = 128 * 1024
_LONGEST_TITLE: Final = 300


@dataclass(frozen=True, slots=True)
class Bundle:
    """What an agent gets to know. Immutable; the manifest tells every part's digest, origin and trust."""

    prompt: str
    files: Mapping[str, bytes]
    environment: Mapping[str, str]
    manifest: Mapping[str, Any]


def bundle(asked: AttemptRequested, instructions: Mapping[str, str], commit: str | None, nonce: str) -> Bundle:
    """Return the bundle of an attempt. ``instructions``: files of the repository at ``commit`` by their path."""
    layers = _layers(asked, instructions, commit, nonce)
    prompt = render(layers, nonce)
    folder = f".dispatch/tasks/{_folder(asked.snapshot.key)}"
    files = {f"{folder}/task.md": _task_file(asked, layers, nonce).encode()}
    return Bundle(
        prompt, files, {"DISPATCH_TASK_FOLDER": folder}, _manifest(asked, layers, prompt, files, commit, nonce)
    )


def _layers(asked: AttemptRequested, instructions: Mapping[str, str], commit: str | None, nonce: str) -> list[Layer]:
    task = asked.snapshot
    layers = [Layer("system", "agent-dispatch", Standing.SYSTEM, rules(nonce))]
    if asked.agent.persona:
        layers.append(Layer("persona", f"Agent {asked.agent.name}", Standing.OPERATOR, _persona(asked)))
    repository = asked.repository.name if asked.repository else ""
    seen: set[str] = set()
    for path, text in instructions.items():
        if text.strip() not in seen:
            seen.add(text.strip())
            origin = f"{repository}@{(commit or '')[:12]}:{path}"
            layers.append(outside("customs", origin, Standing.REPOSITORY, text, at_most=LONGEST_INSTRUCTIONS))
    layers.append(_task(task))
    talk = (_message(task, message) for message in task.messages)
    layers += newest(talk, at_most=_LONGEST_CONVERSATION)
    if asked.continuation:
        layers.append(
            outside("continuation", "the attempt before", Standing.AGENT, asked.continuation, at_most=_LONGEST_MESSAGE)
        )
    return [*layers, *_instruction(asked)]


def _persona(asked: AttemptRequested) -> str:
    return f"You are {asked.agent.name}, {asked.agent.role}. {visible(asked.agent.persona)[0].strip()}"


def _task(task: TaskSnapshot) -> Layer:
    standing = Standing.MEMBER if task.author_trust is Trust.MEMBER else Standing.OUTSIDER
    labels = f"\nLabels: {', '.join(task.labels)}" if task.labels else ""
    head = f"# {task.key}: {_title(task)}\n\nPriority: {task.priority}{labels}"
    text = f"{head}\n\n{task.body}".rstrip()
    return outside("task", f"{task.provider} {task.key} {task.url}", standing, text, at_most=_LONGEST_BODY)


def _message(task: TaskSnapshot, message: Message) -> Layer:
    standing = Standing.MEMBER if message.trust is Trust.MEMBER else Standing.OUTSIDER
    who = f"{message.author.name or message.author.id}, {message.at:%Y-%m-%d %H:%M} UTC, on {task.key}"
    return outside("message", who, standing, message.text, at_most=_LONGEST_MESSAGE)


def _instruction(asked: AttemptRequested) -> list[Layer]:
    who = asked.actor.name or asked.actor.id
    said = asked.instruction.strip()
    given = (
        [outside("instruction", f"{who} on {asked.snapshot.key}", Standing.MEMBER, said, at_most=_LONGEST_BODY)]
        if said
        else []
    )
    what = "Do what the instruction above asks" if said else "Do what the task above asks"
    test = asked.repository.test_command.strip() if asked.repository else ""
    tests = f" The tests are run with: {test}" if test else ""
    branch = f" You are on the branch agent/{short(asked.run_id)}." if asked.repository else ""
    text = f"{what}, and end with a short summary of what you did and why.{branch}{tests}"
    return [*given, Layer("goal", "agent-dispatch", Standing.SYSTEM, text)]


def _task_file(asked: AttemptRequested, layers: Sequence[Layer], nonce: str) -> str:
    shown = [layer for layer in layers if layer.name in ("task", "message", "instruction", "continuation")]
    return render(
        [Layer("task-file", "agent-dispatch", Standing.SYSTEM, f"Task {_folder(asked.snapshot.key)}"), *shown], nonce
    )


def _title(task: TaskSnapshot) -> str:
    return " ".join(visible(task.title)[0].split())[:_LONGEST_TITLE]


def _folder(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", key).strip("-")[:60] or "task"


def _manifest(
    asked: AttemptRequested,
    layers: Sequence[Layer],
    prompt: str,
    files: Mapping[str, bytes],
    commit: str | None,
    nonce: str,
) -> dict[str, Any]:
    return {
        "version": 1,
        "run_id": str(asked.run_id),
        "attempt_id": str(asked.attempt_id),
        "fence": asked.fence,
        "task_version": asked.task_version,
        "task_digest": asked.snapshot.digest,
        "base_commit": commit,
        "agent": asked.agent.model_dump(mode="json"),
        "nonce": nonce,
        "prompt": _named(prompt.encode()),
        "layers": [_layer(layer) for layer in layers],
        "files": [{"path": path, **_named(content)} for path, content in files.items()],
    }


def _layer(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "origin": layer.origin,
        "trust": layer.standing.value,
        "digest": layer.digest,
        "size": len(layer.text.encode()),
        "invisible_removed": layer.invisible,
        "imitations_defused": layer.imitations,
        "truncated": layer.truncated,
        "text": layer.text,
    }


def _named(content: bytes) -> dict[str, Any]:
    return {"digest": hashlib.sha256(content).hexdigest(), "size": len(content)}
