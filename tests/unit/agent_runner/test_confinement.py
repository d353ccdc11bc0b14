"""The command line that confines: what is in it, in which order, and that words stay words."""

from dataclasses import replace
from pathlib import Path

from agent_runner.sandbox.confinement import Confinement, Host, Mount, Overlay, argv, fits_mount_options

ROOT = Host(is_root=True, stage=Path("/stage"), links=(("usr/bin", "/bin"),))
USER = Host(is_root=False, stage=Path("/data/a/stage"))
CONFINED = Confinement(
    mounts=(Mount(Path("/data/home"), "/home/agent", writable=True), Mount(Path("/data/objects"), "/data/objects")),
    workdir="/repo",
    environment={"HOME": "/home/agent", "WORDS": "a 'b' $(c) --d"},
    overlay=Overlay(Path("/data/base"), Path("/data/upper"), Path("/data/work"), "/repo"),
    uid=62_000,
    gid=62_000,
    info_fd=9,
)


def pairs(line: list[str], option: str) -> list[tuple[str, str]]:
    return [(line[i + 1], line[i + 2]) for i, each in enumerate(line) if each == option]


def test_every_sandbox_has_all_its_walls():
    for host in (ROOT, USER):
        line = argv(CONFINED, ["agent"], host)
        for wall in ("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"):
            assert wall in line
        assert "--no-new-privs" in line
        assert line[line.index("--cap-drop") + 1] == "ALL"
        assert "--share-net" not in line
        assert line[-2:] == ["--", "agent"]
        assert line.index("--remount-ro") > line.index("--bind")


def test_only_repository_and_home_are_writable():
    for host in (ROOT, USER):
        line = argv(CONFINED, ["agent"], host)
        assert [target for _, target in pairs(line, "--bind")] == ["/repo", "/home/agent"]
        assert ("/usr", "/usr") in pairs(line, "--ro-bind")


def test_root_becomes_nobody_in_particular_before_bubblewrap():
    line = argv(CONFINED, ["agent"], ROOT)

    assert line.index("--reuid") < line.index("bwrap")
    assert line[line.index("--reuid") + 1] == "62000"
    assert "--clear-groups" in line


def test_root_brings_folders_to_where_the_other_user_can_reach_them():
    line = argv(CONFINED, ["agent"], ROOT)
    script = line[line.index("-euc") + 1]

    assert "mount --bind /data/home /stage/1" in script
    assert ("/stage/1", "/home/agent") in pairs(line, "--bind")
    assert "userxattr" not in script


def test_an_ordinary_user_mounts_the_overlay_in_a_user_namespace_of_its_own():
    line = argv(CONFINED, ["agent"], USER)
    script = line[line.index("-euc") + 1]

    assert line[:3] == ["unshare", "--user", "--map-root-user"]
    assert "userxattr" in script
    assert ("/data/home", "/home/agent") in pairs(line, "--bind")


def test_without_an_overlay_an_ordinary_user_needs_one_stage_only():
    line = argv(replace(CONFINED, overlay=None), ["agent"], USER)

    assert line[0] == "prlimit"
    assert "unshare" not in line


def test_bubblewrap_can_mount_the_overlay_itself():
    line = argv(CONFINED, ["agent"], replace(USER, overlay_by_bubblewrap=True))

    assert line[0] == "prlimit"
    assert line[line.index("--overlay-src") + 1] == "/data/base"
    assert line[line.index("--overlay") + 1 : line.index("--overlay") + 4] == ["/data/upper", "/data/work", "/repo"]


def test_words_stay_words():
    line = argv(CONFINED, ["agent", "--share-net", "; rm -rf /"], ROOT)

    assert line[-4:] == ["--", "agent", "--share-net", "; rm -rf /"]
    assert ("WORDS", "a 'b' $(c) --d") in pairs(line, "--setenv")
    assert line.index("--clearenv") < line.index("--setenv")


def test_paths_in_the_first_stage_are_quoted():
    odd = replace(CONFINED, mounts=(Mount(Path("/data/it's; $(me)"), "/home/agent", writable=True),))
    script = argv(odd, ["agent"], ROOT)[argv(odd, ["agent"], ROOT).index("-euc") + 1]

    assert """mount --bind '/data/it'"'"'s; $(me)' /stage/1""" in script


def test_limits_are_set_where_no_cgroup_does():
    line = argv(replace(CONFINED, processes=50, file_mib=8, cgroups=(Path("/sys/g"),)), ["agent"], ROOT)

    assert "--nproc=50" in line
    assert f"--fsize={8 * 1024 * 1024}" in line
    assert "echo 0 > /sys/g/cgroup.procs" in line[line.index("-euc") + 1]


def test_overlayfs_cannot_be_told_every_path():
    assert fits_mount_options([Path("/data/a b")])
    for odd in ("/a,b", "/a:b", "/a\\b", "/a\nb"):
        assert not fits_mount_options([Path(odd)])
