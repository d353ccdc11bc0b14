"""The guides tell the truth: their YAML can be applied, and every word of the rules' language is in them."""

import re
from pathlib import Path

import pytest

from dispatch_common.resources import check, read
from dispatch_common.resources_expression import FIELDS, FUNCTIONS, METHODS, SAMPLE
from tests.support.policies import catalog

DOCS = Path(__file__).parents[3] / "docs"
GUIDES = ("agent-catalog.md", "adding-an-agent.md")


@pytest.mark.parametrize("guide", GUIDES)
def test_the_yaml_of_a_guide_can_be_applied(guide: str) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / guide).read_text(), re.DOTALL)
    resources, problems = read("---\n".join(blocks), guide)

    assert problems == []
    assert blocks
    assert check([*catalog(), *resources]) == []


def test_every_word_of_the_language_is_in_the_guide() -> None:
    guide = (DOCS / "agent-catalog.md").read_text()
    words = {*SAMPLE, *FIELDS["task"], *FIELDS["actor"], *FUNCTIONS, *METHODS}

    assert [word for word in sorted(words) if f"`{word}`" not in guide] == []


def test_every_agent_of_the_demo_is_in_the_guide() -> None:
    guide = (DOCS / "agent-catalog.md").read_text()

    assert [each.name for each in catalog() if each.kind == "Agent" and f"| {each.name.title()} |" not in guide] == []
