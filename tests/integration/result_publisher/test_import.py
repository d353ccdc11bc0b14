"""Every hostile bundle of the facts table is refused with a sentence, and an honest one is read exactly."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from services.result_publisher.confine import Bounds as ConfineBounds
from services.result_publisher.confine import can_confine, prefix
from services.result_publisher.importer import LIMITS, Given, HostileResult, Limits, repository, take_in
from services.result_publisher.judge import Findings
from services.result_publisher.treewalk import Bounds, HostileTree
from tests.integration.result_publisher.hostile import REF, Repo, mirror, work


@dataclass
class Bench:
    """A mirror, the agent's repository, and the way in."""

    folder: Path
    mirror: Repo
    agent: Repo
    base: str

    async def take_in(self, commit: str, bundle: bytes, limits: Limits = LIMITS) -> Findings:
        async with repository(self.folder / "import", self.mirror.path, confined=True) as git:
            return await take_in(git, bundle, Given(REF, self.base, commit), limits)

    async def refusal(self, commit: str, bundle: bytes, limits: Limits = LIMITS) -> str:
        with pytest.raises((HostileResult, HostileTree)) as caught:
            await self.take_in(commit, bundle, limits)
        assert not (self.folder / "import").exists()
        return str(caught.value)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    origin, base = mirror(tmp_path / "mirror.git")
    return Bench(tmp_path, origin, work(tmp_path / "agent.git", origin), base)


def _blob(repo: Repo) -> str:
    return repo.blob(b"evil\n")


Build = Callable[[Repo], list[tuple[str, bytes, str]]]

_TREES: dict[str, tuple[Build, str]] = {
    ".git": (lambda r: [("40000", b".git", r.tree(("100644", b"config", _blob(r))))], "git refused"),
    ".GIT": (lambda r: [("40000", b".GIT", r.tree(("100644", b"config", _blob(r))))], "git refused"),
    "zero width": (lambda r: [("100644", ".g\u200cit".encode(), _blob(r))], "git refused"),
    "short name": (lambda r: [("100644", b"git~1", _blob(r))], "git refused"),
    "dots": (lambda r: [("100644", b"..", _blob(r))], "git refused"),
    "slash": (lambda r: [("100644", b"../evil", _blob(r))], "git refused"),
    "twice": (lambda r: [("100644", b"a", _blob(r)), ("100644", b"a", r.blob(b"b"))], "git refused"),
    "unsorted": (lambda r: [("100644", b"b", _blob(r)), ("100644", b"a", _blob(r))], "git refused"),
    "gitmodules link": (lambda r: [("120000", b".gitmodules", _blob(r))], "git refused"),
    "submodule option": (
        lambda r: [("100644", b".gitmodules", r.blob(b'[submodule "a"]\n\tpath = a\n\turl = -u./evil\n'))],
        "git refused",
    ),
    "submodule name": (
        lambda r: [
            ("100644", b".gitmodules", r.blob(b'[submodule "../../x"]\n\tpath = a\n\turl = https://x.test/a\n'))
        ],
        "git refused",
    ),
    "submodule": (lambda _: [("160000", b"lib", "1" * 40)], "is a submodule"),
    "link up": (lambda r: [("120000", b"up", r.blob(b"../../etc"))], "outside the repository"),
    "link absolute": (lambda r: [("120000", b"passwd", r.blob(b"/etc/passwd"))], "absolute"),
    "link detour": (lambda r: [("120000", b"detour", r.blob(b"src/../../etc"))], "goes up after it went down"),
    "link into git": (lambda r: [("120000", b"hook", r.blob(b".git/hooks"))], "git's own folder"),
    "case twin": (lambda r: [("100644", b"readme.md", _blob(r))], "one file on systems"),
    "form twins": (
        lambda r: [("100644", "cafe\u0301".encode(), _blob(r)), ("100644", "café".encode(), _blob(r))],
        "one file on systems",
    ),
    "option": (lambda r: [("100644", b"-rf", _blob(r))], "starts with a hyphen"),
    "line break": (lambda r: [("100644", b"a\nb", _blob(r))], "control or invisible"),
    "right to left": (lambda r: [("100644", "a\u202etxt.py".encode(), _blob(r))], "control or invisible"),
    "latin": (lambda r: [("100644", b"caf\xe9", _blob(r))], "not UTF-8"),
    "backslash": (lambda r: [("100644", b"a\\b", _blob(r))], "not a plain file name"),
    "stream": (lambda r: [("100644", b".git::$INDEX_ALLOCATION", _blob(r))], "git"),
}


@pytest.mark.parametrize("name", _TREES)
async def test_a_hostile_tree_is_refused(bench: Bench, name: str):
    build, expected = _TREES[name]
    entries = build(bench.agent)
    base = bench.agent.git("ls-tree", bench.base).decode().splitlines()
    kept = [(line.split()[0].lstrip("0"), line.split("\t")[1].encode(), line.split()[2]) for line in base]
    merged = (
        [*kept, *entries] if name in {"unsorted", "twice"} else sorted([*kept, *entries], key=lambda entry: entry[1])
    )
    tree = bench.agent.tree(*merged)
    commit = bench.agent.commit(tree, bench.base)
    objects = [oid for mode, _, oid in entries if mode != "160000"]
    objects += [_blob(bench.agent)] if any(mode == "40000" for mode, _, _ in entries) else []

    sentence = await bench.refusal(commit, bench.agent.bundle(commit, bench.base, tree, *dict.fromkeys(objects)))

    assert expected in sentence


@pytest.mark.parametrize(
    "ref",
    ["--upload-pack=x", "refs/heads/../../config", "HEAD", "refs/heads/x.lock", "refs/heads/main", "-d", REF + "\x00"],
)
async def test_another_ref_is_refused(bench: Bench, ref: str):
    commit = bench.agent.grown(bench.base, {"a": b"a\n"})
    header = f"# v2 git bundle\n-{bench.base}\n{commit} {ref}\n\n".encode()
    assert "not taken" in await bench.refusal(commit, bench.agent.bundle(commit, bench.base, header=header))


async def test_malformed_bundles_are_refused(bench: Bench):
    commit = bench.agent.grown(bench.base, {"a": b"a\n"})
    good = bench.agent.honest(commit, bench.base)
    head, pack = good.split(b"\n\n", 1)
    one = head.splitlines()[-1]
    for bad in (
        b"",
        b"garbage" * 1000,
        good[:40],
        good[:-30],
        good[:-1] + bytes([good[-1] ^ 1]),
        head.replace(b"v2", b"v3") + b"\n\n" + pack,
        head + b"\n" + one + b"-2\n\n" + pack,
        head + b"\n-" + bench.base.encode() + b"\n\n" + pack,
        head.replace(bench.base.encode(), b"1" * 40) + b"\n\n" + pack,
        head.replace(commit.encode(), bench.base.encode()) + b"\n\n" + pack,
        head + b"\n" * 2,
        head + b"\n\n" + b"PACK" + b"\xff" * 100,
    ):
        assert await bench.refusal(commit, bad)


async def test_a_tree_bomb_is_refused_quickly(bench: Bench):
    tree = bench.agent.tree(*(("100644", f"f{number}".encode(), _blob(bench.agent)) for number in range(10)))
    objects = [_blob(bench.agent), tree]
    for _ in range(6):
        tree = bench.agent.tree(*(("40000", f"d{number}".encode(), tree) for number in range(10)))
        objects.append(tree)
    commit = bench.agent.commit(tree, bench.base)

    sentence = await bench.refusal(commit, bench.agent.bundle(commit, bench.base, *objects))

    assert "files differ" in sentence


async def test_deep_folders_are_refused(bench: Bench):
    tree = bench.agent.tree(("100644", b"f", _blob(bench.agent)))
    objects = [_blob(bench.agent), tree]
    for _ in range(100):
        tree = bench.agent.tree(("40000", b"d", tree))
        objects.append(tree)
    commit = bench.agent.commit(tree, bench.base)
    assert "nested deeper" in await bench.refusal(commit, bench.agent.bundle(commit, bench.base, *objects))


async def test_many_empty_folders_are_bounded(bench: Bench):
    tree = bench.agent.tree()
    objects = [tree]
    for _ in range(5):
        tree = bench.agent.tree(*(("40000", f"d{number}".encode(), tree) for number in range(10)))
        objects.append(tree)
    commit = bench.agent.commit(tree, bench.base)
    limits = replace(LIMITS, walk=Bounds(trees=1000))
    assert "folders" in await bench.refusal(commit, bench.agent.bundle(commit, bench.base, *objects), limits)


async def test_zeros_that_pack_to_nothing_are_refused_by_their_real_size(bench: Bench):
    commit = bench.agent.grown(bench.base, {"zeros": b"\0" * (40 << 20)})
    bundle = bench.agent.honest(commit, bench.base)
    assert len(bundle) < 1 << 20
    assert "are taken per file" in await bench.refusal(commit, bundle)


async def test_what_only_an_earlier_commit_holds_counts_too(bench: Bench):
    token = "AKIA" + "QYLPMN5HFIQR7XYA"
    first = bench.agent.grown(bench.base, {"keys.txt": f"key {token}\n".encode(), "CODEOWNERS": b"* @vega\n"})
    second = bench.agent.grown(first, {"keys.txt": None, "CODEOWNERS": b"* @ada\n", "a": b"a\n"})

    findings = await bench.take_in(second, bench.agent.honest(second, bench.base))

    assert [change.path for change in findings.changes] == ["a"]
    assert findings.touched == ("CODEOWNERS", "a", "keys.txt")
    assert findings.secrets is not None
    assert [(found.path, found.kind, found.certain) for found in findings.secrets] == [
        ("keys.txt", "AWS Access Key", True)
    ]
    assert token not in repr(findings)


async def test_commits_that_do_not_build_on_the_base_are_refused(bench: Bench):
    lone = bench.agent.commit(bench.agent.tree(("100644", b"a", _blob(bench.agent))))
    merged = bench.agent.commit(bench.agent.tree(("100644", b"a", _blob(bench.agent))), bench.base, lone)
    tree = bench.agent.git("rev-parse", f"{lone}^{{tree}}").decode().strip()
    bundle = bench.agent.bundle(merged, bench.base, lone, tree, _blob(bench.agent))
    assert "does not build on the base" in await bench.refusal(merged, bundle)


async def test_too_many_commits_and_missing_objects_are_refused(bench: Bench):
    tip = bench.base
    for number in range(6):
        tip = bench.agent.grown(tip, {"a": str(number).encode()})
    limits = replace(LIMITS, commits=5)
    assert "more than 5 commits" in await bench.refusal(tip, bench.agent.honest(tip, bench.base), limits)
    assert await bench.refusal(tip, bench.agent.bundle(tip, bench.base))


async def test_an_honest_result_is_read_exactly(bench: Bench):
    commit = bench.agent.grown(
        bench.base, {"src/app.py": b"print('hi')\n", "src/new.py": b"x = 1\n", "README.md": None}, message="Say hi"
    )

    findings = await bench.take_in(commit, bench.agent.honest(commit, bench.base))

    words = [(change.path, change.word) for change in findings.changes]
    assert words == [("README.md", "deleted"), ("src/app.py", "changed"), ("src/new.py", "added")]
    assert findings.new_bytes == len(b"print('hi')\n") + len(b"x = 1\n")
    assert findings.secrets == ()


async def test_hooks_config_and_attributes_of_the_agent_run_nowhere(bench: Bench, tmp_path: Path):
    trap = tmp_path / "trapped"
    script = f"#!/bin/sh\ntouch {trap}\n"
    for name in ("post-checkout", "reference-transaction", "pre-push", "post-index-change", "pre-receive"):
        hook = bench.agent.path / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(script)
    attributes = b"* filter=evil diff=evil merge=evil export-subst\n"
    commit = bench.agent.grown(bench.base, {".gitattributes": attributes, "hooks/post-checkout": script.encode()})
    bundle = bench.agent.honest(commit, bench.base)
    bench.agent.git("config", "filter.evil.clean", f"touch {trap}")
    for name in ("post-checkout", "reference-transaction"):
        (bench.agent.path / "hooks" / name).chmod(0o755)

    findings = await bench.take_in(commit, bundle)

    assert {change.path for change in findings.changes} == {".gitattributes", "hooks/post-checkout"}
    assert not trap.exists()


async def test_a_secret_that_the_base_already_has_is_not_news(bench: Bench):
    line = b"password = 'correct-horse-battery-9'\n"
    first = bench.agent.grown(bench.base, {"conf.py": line})
    bench.mirror.git("fetch", "-q", str(bench.agent.path), first)
    bench.base = first
    commit = bench.agent.grown(first, {"conf.py": b"# moved\n" + line})
    assert (await bench.take_in(commit, bench.agent.honest(commit, first))).secrets == ()

    doubled = bench.agent.grown(first, {"conf.py": line, "copy.py": line})
    found = (await bench.take_in(doubled, bench.agent.honest(doubled, first))).secrets
    assert found is not None
    assert [(finding.path, finding.line, finding.certain) for finding in found] == [("copy.py", 1, False)]


async def test_a_comment_cannot_hide_a_secret(bench: Bench):
    hidden = f"key = '{'AKIA' + 'QYLPMN5HFIQR7XYA'}'  # pragma: allowlist secret\n".encode()
    commit = bench.agent.grown(bench.base, {"logo.png": hidden, "wide.txt": hidden.decode().encode("utf-16")})
    found = (await bench.take_in(commit, bench.agent.honest(commit, bench.base))).secrets
    assert found is not None
    assert [finding.path for finding in found if finding.certain] == ["logo.png", "wide.txt"]


def test_a_confined_program_writes_only_in_its_folder_and_has_no_network(tmp_path: Path):
    if not can_confine():
        pytest.skip("bubblewrap does not work on this host")
    (tmp_path / "mine").mkdir()
    script = f"""
echo x > {tmp_path}/mine/a || exit 1
echo x > {tmp_path}/b && exit 2
grep -q ':' /proc/net/dev && [ $(grep -c ':' /proc/net/dev) -gt 1 ] && exit 3
exit 0
"""
    command = [*prefix(ConfineBounds(), tmp_path / "mine"), "/bin/sh", "-c", script]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert not (tmp_path / "b").exists()
