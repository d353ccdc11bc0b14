"""What follows from findings, and what an approval is bound to."""

from dataclasses import replace

import pytest

from dispatch_common.events import Verification
from dispatch_common.values import Grant
from services.result_publisher.judge import Finding, Findings, digest, judge
from services.result_publisher.trees import Change, Entry

APP = Change("src/app.py", Entry("100644", "1" * 40), Entry("100644", "2" * 40))
PLAIN = Findings("b" * 40, "c" * 40, "d" * 40, (APP,), ("src/app.py",), 10, ())


def _touching(*touched: str) -> Findings:
    return replace(PLAIN, touched=touched)


def test_a_plain_result_is_accepted():
    assert judge(PLAIN, Grant()).verification is Verification.ACCEPTED


@pytest.mark.parametrize(
    "path",
    [
        ".github/workflows/ci.yml",
        "CODEOWNERS",
        "docs/CODEOWNERS",
        "uv.lock",
        "web/package-lock.json",
        "Jenkinsfile",
        "go.sum",
    ],
)
def test_ci_lockfiles_and_owners_always_want_a_person(path: str):
    judgement = judge(_touching(path), Grant())
    assert judgement.verification is Verification.NEEDS_APPROVAL
    assert judgement.paths == (path,)
    assert judge(_touching(path.upper()), Grant()).verification is Verification.NEEDS_APPROVAL


def test_an_approval_counts_for_exactly_one_result():
    asked = judge(_touching("CODEOWNERS"), Grant())
    assert judge(_touching("CODEOWNERS"), Grant(), approved=asked.digest).verification is Verification.ACCEPTED
    other = replace(_touching("CODEOWNERS"), tree="e" * 40)
    again = judge(other, Grant(), approved=asked.digest)
    assert again.verification is Verification.NEEDS_APPROVAL
    assert again.reasons[0].code == "result_changed"


def test_an_approval_does_not_lift_what_is_refused():
    found = replace(PLAIN, secrets=(Finding("a", 1, "AWS Access Key", certain=True),))
    assert judge(found, Grant(), approved=digest(found)).verification is Verification.REFUSED


def test_a_suspicion_and_an_unfinished_search_want_a_person():
    guess = replace(PLAIN, secrets=(Finding("a", 3, "Secret Keyword", certain=False),))
    assert judge(guess, Grant()).paths == ("a",)
    assert judge(guess, Grant()).reasons[0].sentence == "a, line 3 may hold a secret: Secret Keyword."
    assert judge(replace(PLAIN, secrets=None), Grant()).reasons[0].code == "scan_incomplete"


def test_every_reason_is_given_at_once():
    bad = replace(PLAIN, touched=(".dispatch/x", "lib/y"), new_bytes=99)
    codes = [reason.code for reason in judge(bad, Grant(paths_allowed=("src/**",), max_bytes=10)).reasons]
    assert codes == ["path_kept_out", "path_not_granted", "too_many_bytes"]


def test_commits_that_change_nothing_in_the_end_are_refused():
    assert judge(replace(PLAIN, changes=()), Grant()).reasons[0].code == "nothing_changed"


def test_the_digest_covers_base_tree_paths_modes_and_contents_and_nothing_else():
    others = [
        replace(PLAIN, base="a" * 40),
        replace(PLAIN, tree="a" * 40),
        replace(PLAIN, changes=(replace(APP, path="src/b.py"),)),
        replace(PLAIN, changes=(replace(APP, new=Entry("100755", "2" * 40)),)),
        replace(PLAIN, changes=(replace(APP, new=Entry("100644", "3" * 40)),)),
        replace(PLAIN, changes=(replace(APP, new=None),)),
    ]
    assert len({digest(findings) for findings in [PLAIN, *others]}) == len(others) + 1
    assert digest(replace(PLAIN, tip="0" * 40, secrets=None, new_bytes=0)) == digest(PLAIN)
