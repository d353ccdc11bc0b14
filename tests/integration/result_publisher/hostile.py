"""Builds repositories and bundles, honest and hostile, with real git, down to single objects."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

REF = "refs/heads/agent/0011aabb"
_PERSON = "Vega <vega@agents.test> 1763700000 +0000"


@dataclass(frozen=True)
class Repo:
    """A repository that objects are written into."""

    path: Path

    def git(self, *args: str, stdin: bytes = b"") -> bytes:
        """Run git here and return its output."""
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_AUTHOR_NAME": "Vega",
            "GIT_AUTHOR_EMAIL": "vega@agents.test",
            "GIT_COMMITTER_NAME": "Vega",
            "GIT_COMMITTER_EMAIL": "vega@agents.test",
        }
        done = subprocess.run(
            ["git", *args], cwd=self.path, input=stdin, capture_output=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def blob(self, content: bytes) -> str:
        """Write a blob."""
        return self.git("hash-object", "-w", "--stdin", stdin=content).decode().strip()

    def tree(self, *entries: tuple[str, bytes, str]) -> str:
        """Write a tree of (mode, name, oid), exactly as given."""
        content = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(oid) for mode, name, oid in entries)
        return self._literally("tree", content)

    def commit(self, tree: str, *parents: str, message: str = "Work", head: str = "") -> str:
        """Write a commit."""
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
        lines += [f"author {_PERSON}", f"committer {_PERSON}", *([head] if head else []), "", message, ""]
        return self._literally("commit", "\n".join(lines).encode())

    def bundle(self, commit: str, base: str, *objects: str, ref: str = REF, header: bytes | None = None) -> bytes:
        """Return a bundle of exactly these objects and the commit."""
        pack = self.git(
            "pack-objects", "--stdout", "-q", stdin="".join(f"{oid}\n" for oid in (commit, *objects)).encode()
        )
        head = f"# v2 git bundle\n-{base} base\n{commit} {ref}\n\n".encode()
        return (head if header is None else header) + pack

    def honest(self, commit: str, base: str, ref: str = REF) -> bytes:
        """Return the bundle that git itself makes of base..commit."""
        self.git("update-ref", ref, commit)
        return self.git("bundle", "create", "-q", "-", ref, f"^{base}")

    def grown(self, base: str, files: dict[str, bytes | None], *, message: str = "Work") -> str:
        """Return a commit on the base with these files written (None: deleted), made with git's own index."""
        index = self.path / f"index-{len(list(self.path.iterdir()))}"
        self.git("-c", "core.bare=false", "--work-tree=.", "read-tree", f"--index-output={index}", base)
        lines = b""
        for name, content in files.items():
            oid = "0" * 40 if content is None else self.blob(content)
            mode = "0" if content is None else "100644"
            lines += f"{mode} {oid}\t{name}".encode() + b"\0"
        with_index = {"GIT_INDEX_FILE": str(index)}
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", **with_index}
        subprocess.run(
            ["git", "update-index", "-z", "--index-info"], cwd=self.path, input=lines, env=environment, check=True
        )
        tree = subprocess.run(["git", "write-tree"], cwd=self.path, env=environment, check=True, capture_output=True)
        return self.commit(tree.stdout.decode().strip(), base, message=message)

    def _literally(self, kind: str, content: bytes) -> str:
        return self.git("hash-object", "-t", kind, "-w", "--literally", "--stdin", stdin=content).decode().strip()


def mirror(path: Path) -> tuple[Repo, str]:
    """Make a bare repository with one commit on main; return it and the commit."""
    path.mkdir(parents=True)
    repo = Repo(path)
    repo.git("init", "-q", "--bare", "--initial-branch=main", ".")
    source = repo.tree(("100644", b"app.py", repo.blob(b"print('hello')\n")))
    base = repo.commit(
        repo.tree(
            ("100644", b"CODEOWNERS", repo.blob(b"* @ada\n")),
            ("100644", b"README.md", repo.blob(b"# Sample\n")),
            ("40000", b"src", source),
        ),
        message="Begin",
    )
    repo.git("update-ref", "refs/heads/main", base)
    return repo, base


def work(path: Path, base_from: Repo) -> Repo:
    """Make the agent's repository: a bare one that borrows from the mirror."""
    path.mkdir(parents=True)
    repo = Repo(path)
    repo.git("init", "-q", "--bare", "--initial-branch=main", ".")
    (path / "objects" / "info" / "alternates").write_text(f"{base_from.path}/objects\n")
    return repo
