"""The documentation: generated parts are fresh, links lead somewhere, nothing that can be set is missing."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch_common.families import ErrorFamily
from dispatch_common.lifecycle import RunState
from dispatch_common.settings import Settings
from services.cli import docs

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
HEADINGS = ("## Context", "## Decision", "## Consequences", "## Alternatives", "## References")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def test_what_is_generated_is_fresh() -> None:
    stale = [str(path.relative_to(ROOT)) for path in docs.stale(DOCS)]

    assert stale == [], "run: make docs"


def test_a_stale_page_is_noticed_and_brought_up_to_date() -> None:
    page = "before\n<!-- generated: states -->\nold\n<!-- end -->\nafter\n"

    assert docs.fill(page, {"states": "new"}) == page.replace("old", "new")
    assert docs.fill(docs.fill(page, {"states": ""}), {"states": "new"}) == page.replace("old", "new")


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert list(_broken(page)) == []


def _broken(page: Path) -> Iterator[str]:
    for target in LINK.findall(page.read_text()):
        name, _, anchor = str(target).partition("#")
        if "://" in target:
            continue
        other = (page.parent / name) if name else page
        if not other.exists() or (anchor and anchor not in _anchors(other)):
            yield target


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", sorted((DOCS / "adr").glob("[0-9]*.md")), ids=lambda page: page.stem)
def test_every_decision_has_its_headings_and_is_listed(page: Path) -> None:
    lines = page.read_text().splitlines()

    assert [line for line in lines if line.startswith("## ")] == list(HEADINGS)
    assert page.name in (DOCS / "adr" / "README.md").read_text()


def test_every_setting_says_what_it_does() -> None:
    operations = (DOCS / "operations.md").read_text()

    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
    assert [name for name in Settings.model_fields if f"DISPATCH_{name.upper()}" not in operations] == []


def test_every_state_and_family_is_in_the_docs() -> None:
    architecture, operations = ((DOCS / name).read_text() for name in ("architecture.md", "operations.md"))

    assert [state for state in RunState if state not in architecture] == []
    assert [family for family in ErrorFamily if family not in operations] == []


def test_the_glossary_is_in_order_and_says_nothing_twice() -> None:
    rows = re.findall(r"^\| ([a-z][^|]*?) \|", (DOCS / "glossary.md").read_text(), re.M)[1:]

    assert rows == sorted(set(rows), key=str.casefold)
