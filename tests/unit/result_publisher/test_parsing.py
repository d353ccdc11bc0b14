"""Bundle headers and trees as bytes: whatever comes, the answer is a value or a sentence."""

from hypothesis import example, given
from hypothesis import strategies as st

from services.result_publisher import bundle, trees
from services.result_publisher.bundle import Bundle
from services.result_publisher.trees import Entry

A, B = "a" * 40, "b" * 40
GOOD = f"# v2 git bundle\n-{A} base\n{B} refs/heads/agent/1\n\nPACKrest".encode()


def test_an_honest_header_is_read():
    assert bundle.parse(GOOD) == Bundle(commit=B, ref="refs/heads/agent/1", prerequisite=A, pack_at=GOOD.index(b"PACK"))


def test_what_differs_from_the_agreement_is_said():
    read = bundle.parse(GOOD)
    assert isinstance(read, Bundle)
    assert bundle.mismatch(read, ref="refs/heads/agent/1", base=A, commit=B) == ""
    assert "instead of refs/heads/x" in bundle.mismatch(read, ref="refs/heads/x", base=A, commit=B)
    assert "instead of the base" in bundle.mismatch(read, ref="refs/heads/agent/1", base=B, commit=B)
    assert "instead of the commit" in bundle.mismatch(read, ref="refs/heads/agent/1", base=A, commit=A)


@given(st.binary())
@example(b"# v2 git bundle\n\n\nPACK")
@example(b"# v2 git bundle\n" + b"x" * 3000)
@example(b"# v2 git bundle\n-" + A.encode() + b"\n\nPACK")
def test_any_bytes_are_a_bundle_or_a_sentence(content: bytes):
    assert bundle.parse(content)


@given(st.binary(), st.integers(0, 120))
def test_a_header_with_something_in_it_is_never_more_than_it_was(noise: bytes, at: int):
    read = bundle.parse(GOOD[:at] + noise + GOOD[at:])
    if isinstance(read, Bundle):
        assert "\n" not in read.ref
        assert len(read.commit) == 40


@given(st.binary())
def test_any_bytes_are_a_tree_or_nothing(content: bytes):
    read = trees.parse(content)
    assert read is None or all(len(entry.oid) == 40 for entry in read.values())


@given(
    st.dictionaries(st.binary(min_size=1).filter(lambda name: b"\0" not in name), st.binary(min_size=20, max_size=20))
)
def test_a_tree_is_read_as_it_was_written(entries: dict[bytes, bytes]):
    content = b"".join(b"100644 " + name + b"\0" + oid for name, oid in entries.items())
    assert trees.parse(content) == {name: Entry("100644", oid.hex()) for name, oid in entries.items()}


def test_what_was_there_before_is_not_judged_and_what_is_new_is():
    old = {b"-rf": Entry("100644", A), b"readme": Entry("100644", A), b"README": Entry("100644", A)}
    assert trees.problem("", old, {**old, b"new": Entry("100644", B)}) == ""
    assert trees.problem("", old, {**old, b"-rf": Entry("100644", B)}) == ""
    assert "is a submodule" in trees.problem("", old, {**old, b"lib": Entry("160000", B)})
    assert "one file on systems" in trees.problem("", old, {**old, b"Readme": Entry("100644", B)})
    assert "has the mode 100664" in trees.problem("", old, {**old, b"x": Entry("100664", B)})
