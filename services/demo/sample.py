"""The demo's repository: a small Python project with a history and one test that fails about every second time.

Made on the spot, always the same to the last byte, so that a demo can be compared with the one before.
"""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from dispatch_common.errors import Permanent


class SampleFailed(Permanent):
    """The sample repository could not be made."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit: who, when, why, and the files that it adds or replaces."""

    author: str
    at: str
    message: str
    files: dict[str, str]


_ITEM: Final = '''"""What can be bought."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One thing in a basket. Prices are in cents, so that sums are exact."""

    name: str
    category: str
    price: int
'''
_RECEIPT: Final = '''"""What a customer sees after paying."""

from shop.item import Item


def categories(items: list[Item]) -> list[str]:
    """Return the categories of the items, each once, in the order they were bought."""
    return list({item.category for item in items})


def total(items: list[Item]) -> int:
    """Return the sum in cents."""
    return sum(item.price for item in items)


def receipt(items: list[Item]) -> str:
    """Return the receipt as text."""
    lines = [f"{item.name:<20}{item.price / 100:>8.2f}" for item in items]
    lines.append(f"{'total':<20}{total(items) / 100:>8.2f}")
    lines.append("from: " + ", ".join(categories(items)))
    return "\\n".join(lines)
'''
_TEST_ITEM: Final = """import unittest

from shop.item import Item


class ItemTest(unittest.TestCase):
    def test_items_with_the_same_content_are_equal(self) -> None:
        self.assertEqual(Item("pear", "fruit", 40), Item("pear", "fruit", 40))


if __name__ == "__main__":
    unittest.main()
"""
_TEST_RECEIPT: Final = """import unittest

from shop.item import Item
from shop.receipt import categories, receipt, total

BASKET = [Item("pear", "fruit", 40), Item("roll", "bread", 65), Item("apple", "fruit", 35)]


class ReceiptTest(unittest.TestCase):
    def test_the_total_is_the_sum_of_the_prices(self) -> None:
        self.assertEqual(total(BASKET), 140)

    def test_categories_come_once_and_in_the_order_they_were_bought(self) -> None:
        self.assertEqual(categories(BASKET), ["fruit", "bread"])

    def test_a_receipt_ends_with_the_categories(self) -> None:
        self.assertTrue(receipt(BASKET[:1]).endswith("from: fruit"))


if __name__ == "__main__":
    unittest.main()
"""
_README: Final = """# shop

A till for a very small shop.

    python3 -m unittest discover
"""
_AGENTS: Final = """# For agents and new colleagues

* The standard library is enough; add no dependency.
* Prices are integers, in cents.
* Run `python3 -m unittest discover` before you commit.
"""

HISTORY: Final = (
    Commit(
        "Alice Moreno <alice@example.com>",
        "2026-03-02T09:12:00+00:00",
        "Begin with items",
        {
            ".gitignore": "__pycache__/\n",
            "README.md": _README,
            "shop/__init__.py": "",
            "shop/item.py": _ITEM,
            "tests/__init__.py": "",
            "tests/test_item.py": _TEST_ITEM,
        },
    ),
    Commit(
        "Bela Okafor <bela@example.com>",
        "2026-03-09T15:40:00+00:00",
        "Print receipts",
        {"shop/receipt.py": _RECEIPT, "tests/test_receipt.py": _TEST_RECEIPT},
    ),
    Commit(
        "Alice Moreno <alice@example.com>",
        "2026-03-11T08:05:00+00:00",
        "Say what newcomers must know",
        {"AGENTS.md": _AGENTS},
    ),
)

#: The work item, as a person writes it in Plane. The last part is what the built-in agent needs in place of a model.
TITLE: Final = "Fix the flaky receipt test"
STORY: Final = """
<p><code>test_categories_come_once_and_in_the_order_they_were_bought</code> fails about every second time, and passes
when it is run again. Customers see it too: the last line of their receipt changes its order.</p>
<p>Done when: the test passes every time, also with different values of <code>PYTHONHASHSEED</code>.
The place is probably <code>shop/receipt.py</code>. No new dependencies, please.</p>
"""
SCRIPT: Final = """#!dispatch-script
think A set of strings has another order in every process, so the list made of it has, too. A dict keeps the order.
run for seed in 1 2 3 4 5 6; do PYTHONHASHSEED=$seed python3 -m unittest -q tests.test_receipt 2>&1 | tail -n 1; done
replace shop/receipt.py <<END
    return list({item.category for item in items})
----
    return list(dict.fromkeys(item.category for item in items))
END
run for seed in 1 2 3 4 5 6; do PYTHONHASHSEED=$seed python3 -m unittest -q tests.test_receipt 2>&1 | tail -n 1; done
test
commit Keep categories in the order they were bought
"""


def make(folder: Path) -> Path:
    """Make the bare repository in ``folder``, which must not exist, and return its path."""
    _git("init", "--quiet", "--bare", "--initial-branch=main", str(folder))
    _git("--git-dir", str(folder), "fast-import", "--quiet", stdin="".join(_stream()).encode())
    return folder


def _stream() -> Iterator[str]:
    """Yield the history as git's fast-import reads it."""
    for commit in HISTORY:
        moment = int(datetime.fromisoformat(commit.at).timestamp())
        who = f"{commit.author} {moment} +0000"
        yield f"commit refs/heads/main\nauthor {who}\ncommitter {who}\n{_data(commit.message)}"
        for path, text in commit.files.items():
            yield f"M 100644 inline {path}\n{_data(text)}"
        yield "\n"


def _data(text: str) -> str:
    return f"data {len(text.encode())}\n{text}\n"


def _git(*arguments: str, stdin: bytes = b"") -> None:
    ended = subprocess.run(["git", *arguments], input=stdin, capture_output=True, check=False)
    if ended.returncode != 0:
        raise SampleFailed(f"git {arguments[0]}: {ended.stderr.decode(errors='replace').strip()}")
