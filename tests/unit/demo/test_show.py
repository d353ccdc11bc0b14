"""What the demo prints, whoever wrote it."""

import orjson
import pytest

from services.demo.show import JsonLines, Line, Terminal, printable


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\x1b]0;title\x07", "\r", "\x9b31m", "\u202e", "\x00"])
def test_no_text_can_move_the_cursor(hostile: str) -> None:
    shown = printable(f"before{hostile}after")

    assert shown.isprintable()
    assert shown.startswith("before")
    assert shown.endswith("after")


def test_long_words_of_an_agent_keep_their_bar(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().tell(Line("agent", "word " * 60, "says", 1.5))

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    assert lines[0].startswith("  1.500 s  says")
    assert all(line[30:].startswith("│ word") for line in lines)


def test_output_that_is_long_is_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().tell(Line("output", "\n".join(str(number) for number in range(100))))

    assert "… 88 more lines" in capsys.readouterr().out


def test_programs_get_one_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    JsonLines().tell(Line("step", "a\nb", "queued", 0.5, "next", {"code": "policy.allowed"}))

    assert orjson.loads(capsys.readouterr().out) == {
        "kind": "step",
        "text": "a\nb",
        "label": "queued",
        "seconds": 0.5,
        "then": "next",
        "facts": {"code": "policy.allowed"},
    }
