"""The pure parts of the command line: what is cleaned, moved, named and found."""

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from dispatch_common.resources import load, read
from dispatch_common.settings import Settings
from services.cli import output, repository
from services.cli.app import hoist
from services.cli.client import raise_for
from services.cli.failures import Exit, Failure
from services.cli.follow import outcome
from services.cli.place import find
from services.cli.pulls import path_of


@bounds(deadline=None)
@given(st.text())
def test_nothing_that_a_terminal_obeys_is_printed(text: str) -> None:
    shown = output.clean(text)

    assert not any(char in shown for char in "\x1b\x07\x08\r\x9b\u202e")
    assert len(shown) == len(text)


def test_an_escape_sequence_of_an_agent_does_not_reach_the_terminal() -> None:
    assert output.clean("\x1b[2Jhello\x1b]0;title\x07") == "�[2Jhello�]0;title�"
    assert output.line("a\r\n  b\tc") == "a� b c"


@pytest.mark.parametrize(
    ("argv", "hoisted"),
    [
        (["get", "runs", "--url", "http://x"], ["--url", "http://x", "get", "runs"]),
        (["get", "runs", "--url=http://x", "--json"], ["--url=http://x", "get", "runs", "--json"]),
        (["run", "--token-file", "t", "title"], ["--token-file", "t", "run", "title"]),
        (["run", "--", "--url", "x"], ["run", "--", "--url", "x"]),
        (["get", "--url"], ["--url", "get"]),
    ],
)
def test_the_consoles_options_may_stand_anywhere(argv: list[str], hoisted: list[str]) -> None:
    assert hoist(argv) == hoisted


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("/home/a/My Project/", "my-project"),
        ("/srv/sample.git", "sample"),
        ("/srv/sample/.git", "sample"),
        ("https://example.org/a/b.git", "b"),
        ("git@example.org:team/tool.git", "tool"),
        ("/", "repository"),
    ],
)
def test_a_repository_is_named_after_its_path(url: str, name: str) -> None:
    assert repository.free_name(url, set()) == name
    assert repository.free_name(url, {name}) == f"{name}-2"


@bounds(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00\n"), max_size=40))
def test_a_path_cannot_break_out_of_the_resource_it_is_put_into(tail: str) -> None:
    resources, problems = read(repository.document("sample", f"/srv/{tail}", "main"), "sample.yaml")

    # A path that no Repository may have is a mistake that is told, never another document.
    assert problems or [each.document["url"] for each in resources] == [f"/srv/{tail}"]


def test_a_path_of_any_script_is_itself() -> None:
    (resource,) = load(repository.document("sample", "/srv/日本-😀-'x'", "main"), "sample.yaml")

    assert resource.document["url"] == "/srv/日本-😀-'x'"


def test_a_running_up_is_found_by_its_ready_file(tmp_path: Path) -> None:
    token = tmp_path / "admin.token"
    token.write_text("secret\n")
    (tmp_path / "ready.json").write_bytes(orjson.dumps({"console": "http://127.0.0.1:1/", "token_file": str(token)}))

    place = find(settings=Settings(data=tmp_path))

    assert (place.url, place.token) == ("http://127.0.0.1:1", "secret")


def test_options_win_over_settings_and_settings_over_a_running_up(tmp_path: Path) -> None:
    token = tmp_path / "other"
    token.write_text("from-file")
    settings = Settings.model_validate({"data": tmp_path, "url": "http://set", "token": "set"})

    assert find(settings=settings).token == "set"
    assert find(settings=settings).url == "http://set"
    assert find(url="http://given", token_file=token, settings=settings).token == "from-file"


def test_without_a_console_the_remedy_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(Failure) as raised:
        find(settings=Settings(data=tmp_path))

    assert raised.value.code is Exit.UNREACHABLE
    assert "dispatch up" in raised.value.remedy


@pytest.mark.parametrize(
    ("state", "code"), [("completed", 0), ("failed", 1), ("cancelled", 1), ("superseded", 1), ("denied", 4)]
)
def test_the_end_of_a_run_is_an_exit_code(state: str, code: int) -> None:
    assert outcome({"state": state}) == code


@pytest.mark.parametrize("text", ["1", "sample", "sample/", "/1", "sample/x"])
def test_what_is_not_a_pull_is_refused(text: str) -> None:
    with pytest.raises(Failure, match="is not a pull"):
        path_of(text)


def test_an_answer_that_is_not_of_a_console_is_not_believed() -> None:
    import httpx

    answer = httpx.Response(404, text="<html>", request=httpx.Request("GET", "http://x/v1/runs"))

    with pytest.raises(Failure, match="not as a console does"):
        raise_for(answer)
