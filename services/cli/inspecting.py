"""How a run looks to a person: everything of it, and the answer to why."""

from typing import Any

from rich.text import Text

from services.cli import follow, output


def show(run: dict[str, Any]) -> None:
    """Print a run with its history."""
    output.say(Text(f"{run['short']}  ", style="bold"), f"{run['task']['key']}  {output.line(run['task']['title'])}")
    output.facts(
        (
            ("state", output.state(run["state"])),
            ("because", output.line(run["sentence"])),
            ("next", output.line(run["next_action"])),
            ("task", run["task"]["url"] or run["task"]["id"]),
            ("agent", f"{run['agent'] or '-'} ({run['role']})"),
            ("repository", run["repository"] or ""),
            ("asked by", run["actor"]["name"] or run["actor"]["id"]),
            ("age", output.age(run["created_at"])),
            ("pull", _pull(run["pull"])),
            (
                "result",
                f"{run['files_changed']} file(s). {output.line(run['summary'])}" if run["files_changed"] else "",
            ),
            ("usage", _usage(run["usage"])),
        )
    )
    _section("Steps", [*run["steps"]], follow.show_step)
    _section("Decisions", run["decisions"], _decision)
    _section("Approvals", run["approvals"], _approval)
    _section("Attempts", run["attempts"], _attempt)
    _section("Written outside", run["effects"], _effect)


def _section(title: str, items: list[dict[str, Any]], show_one: Any) -> None:
    if not items:
        return
    output.say("")
    output.say(title, style="bold")
    for item in items:
        show_one(item)


def _pull(pull: dict[str, Any] | None) -> str:
    return f"{pull['url'] or pull['branch']}" if pull else ""


def _usage(usage: dict[str, Any]) -> str:
    if not usage["wall_ms"]:
        return ""
    tokens = f", {usage['input_tokens']} tokens in, {usage['output_tokens']} out" if usage["input_tokens"] else ""
    wall, cpu = usage["wall_ms"] / 1000, usage["cpu_ms"] / 1000
    return f"{wall:.1f} s, {cpu:.1f} s of CPU, {usage['peak_memory_mib']} MiB{tokens}"


def _decision(decision: dict[str, Any]) -> None:
    output.say(f"#{decision['ask']} {decision['stage']}: ", output.state(decision["verdict"]))
    for reason in decision["reasons"]:
        output.say("   ", Text(output.line(reason["code"]), style="dim"), "  ", output.line(reason["sentence"]))


def _approval(approval: dict[str, Any]) -> None:
    output.say(output.state(approval["state"]), f"  {approval['stage']}, expires {approval['expires_at'][:16]}")
    for answer in approval["answers"]:
        output.say("   ", output.line(answer["sentence"]))


def _attempt(attempt: dict[str, Any]) -> None:
    outcome = attempt["outcome"] or attempt["state"]
    family = f" ({attempt['family']})" if attempt["family"] else ""
    output.say(f"#{attempt['number']} {attempt['agent']} on {attempt['executor']}: ", output.state(outcome), family)
    if attempt["sentence"]:
        output.say("   ", output.line(attempt["sentence"]))


def _effect(effect: dict[str, Any]) -> None:
    output.say(f"{effect['kind']}: ", output.state(effect["state"]), f"  {output.line(effect['target'])}")
    if effect["sentence"]:
        output.say("   ", output.line(effect["sentence"]), style="dim")


def show_why(why: dict[str, Any]) -> None:
    """Print the answer to why."""
    output.say(Text(f"{why['short']} is ", style="bold"), output.state(why["state"]), ". ", output.line(why["answer"]))
    for reason in why["because"]:
        sentence = output.line(reason["sentence"])
        if sentence not in output.line(why["answer"]):
            output.say("  because  ", sentence, "  ", Text(output.line(reason["code"]), style="dim"))
    output.say("  next     ", output.line(why["next"]))
    if why["who"] != "nobody":
        output.say("  who      ", Text(why["who"], style="yellow"))
    if why["until"]:
        output.say("  until    ", why["until"][:19].replace("T", " "), " UTC")
    if why["waiting_before"]:
        output.say("  before   ", ", ".join(output.line(key) for key in why["waiting_before"]))
    for agent in why["agents"]:
        busy = "; ".join(
            f"{run['short']} {output.line(run['key'])} {output.line(run['title'])}" for run in agent["runs"]
        )
        output.say(f"  {agent['name']}  {agent['in_use']}/{agent['slots']}  ", busy, style="dim")
