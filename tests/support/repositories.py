"""Small real git repositories for tests."""

import subprocess
from pathlib import Path

_ADDER = "def add(a, b):\n    return a - b\n"
_TEST = """\
import unittest

from adder import add


class Adding(unittest.TestCase):
    def test_adds(self):
        self.assertEqual(add(2, 3), 5)
"""
#: What the scripted agent follows to mend the repository.
FIX = """\
say The subtraction is the mistake.
replace adder.py <<END
a - b
----
a + b
END
test
commit Add instead of subtracting
"""


def git(*args: str, cwd: Path) -> str:
    """Run git without anybody's configuration and return what it printed."""
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "Alice",
        "GIT_AUTHOR_EMAIL": "alice@example.com",
        "GIT_COMMITTER_NAME": "Alice",
        "GIT_COMMITTER_EMAIL": "alice@example.com",
    }
    done = subprocess.run(["git", *args], cwd=cwd, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def sample(folder: Path) -> Path:
    """Make a bare repository whose one test fails, and return its path."""
    work, bare = folder / "sample-work", folder / "sample.git"
    work.mkdir(parents=True)
    (work / "adder.py").write_text(_ADDER)
    (work / "test_adder.py").write_text(_TEST)
    (work / "README.md").write_text("# Adder\n")
    git("init", "-q", "-b", "main", cwd=work)
    git("add", "-A", cwd=work)
    git("commit", "-q", "-m", "Add an adder", cwd=work)
    git("clone", "-q", "--bare", str(work), str(bare), cwd=folder)
    return bare
