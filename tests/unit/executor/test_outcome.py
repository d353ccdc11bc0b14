"""How an attempt ended: the gateway's own record first, the supervisor's report next, the agent's words last."""

import pytest

from agent_runner.protocol import Blob, Outcome, ResultReport, UsageReport
from dispatch_common.events import AttemptOutcome
from dispatch_common.families import TREATMENT, ErrorFamily
from services.executor.outcome import OF_ATTEMPTS, Record, next_action, outcome

BLOB = Blob(digest="a" * 64, size=3)
CHANGED = ResultReport(
    outcome=Outcome.SUCCEEDED,
    sentence="Done.",
    summary="I did it.",
    base_commit="b",
    commit="c",
    bundle=BLOB,
    files_changed=2,
)
FAILED = ResultReport(outcome=Outcome.FAILED, sentence="It broke.", family="timeout")


def test_a_result_is_a_success() -> None:
    answer = outcome(CHANGED, Record())

    assert (answer.outcome, answer.family, answer.sentence) == (AttemptOutcome.SUCCEEDED, None, "Done.")
    assert answer.result is not None
    assert (answer.result.commit, answer.result.files_changed, answer.result.summary) == ("c", 2, "I did it.")


def test_words_without_a_change_are_a_success_too() -> None:
    answer = outcome(
        ResultReport(outcome=Outcome.SUCCEEDED, sentence="Done.", summary="It is right as it is."), Record()
    )

    assert answer.outcome is AttemptOutcome.SUCCEEDED
    assert answer.result is not None
    assert answer.result.commit is None


def test_neither_a_change_nor_a_word_is_empty() -> None:
    silent = ResultReport(outcome=Outcome.SUCCEEDED, sentence="Done.")

    assert outcome(silent, Record()).family is ErrorFamily.EMPTY
    assert outcome(silent, Record(spoke=True)).outcome is AttemptOutcome.SUCCEEDED


@pytest.mark.parametrize("report", [CHANGED, FAILED])
def test_what_the_gateway_cut_is_no_success_whatever_the_agent_says(report: ResultReport) -> None:
    answer = outcome(report, Record(cut=ErrorFamily.BUDGET_EXCEEDED, cut_sentence="The budget of 5 $ is used up."))

    assert (answer.outcome, answer.family) == (AttemptOutcome.FAILED, ErrorFamily.BUDGET_EXCEEDED)
    assert answer.sentence == "The budget of 5 $ is used up."


def test_a_stop_is_a_stop_with_the_reason_that_was_given() -> None:
    stopped = ResultReport(outcome=Outcome.STOPPED, sentence="It was asked to stop.")

    assert outcome(stopped, Record(stop="Alice cancelled it.")).sentence == "Alice cancelled it."
    assert outcome(stopped, Record()).outcome is AttemptOutcome.STOPPED


def test_an_agent_that_was_quicker_than_its_stop_has_succeeded() -> None:
    assert outcome(CHANGED, Record(stop="Alice cancelled it.")).outcome is AttemptOutcome.SUCCEEDED


def test_no_report_means_a_lost_worker() -> None:
    assert outcome(None, Record()).family is ErrorFamily.WORKER_LOST


@pytest.mark.parametrize("family", [None, "", "nonsense", *sorted(set(ErrorFamily) - OF_ATTEMPTS)])
def test_a_family_that_no_attempt_can_have_is_not_believed(family: str | None) -> None:
    assert outcome(FAILED.model_copy(update={"family": family}), Record()).family is ErrorFamily.UNKNOWN


@pytest.mark.parametrize("family", sorted(OF_ATTEMPTS))
def test_every_failure_says_what_helps(family: ErrorFamily) -> None:
    answer = outcome(FAILED.model_copy(update={"family": family.value}), Record())

    assert answer.family is family
    assert answer.next_action == next_action(family)
    assert answer.next_action.strip()
    assert family in TREATMENT


@pytest.mark.parametrize("change", [{"bundle": None}, {"commit": None}])
def test_a_commit_without_its_bundle_is_no_result(change: dict[str, None]) -> None:
    assert outcome(CHANGED.model_copy(update=change), Record()).family is ErrorFamily.WORKSPACE_FAILED


def test_an_exit_without_words_is_told_as_an_exit() -> None:
    silent = ResultReport(outcome=Outcome.FAILED, sentence="", exit_code=3)

    assert outcome(silent, Record()).sentence == "The agent ended with exit code 3."
    assert outcome(silent.model_copy(update={"signal": 9}), Record()).sentence == "The agent was killed by signal 9."


def test_what_the_gateway_metered_goes_before_what_the_agent_counted() -> None:
    report = CHANGED.model_copy(update={"usage": UsageReport(wall_ms=5, input_tokens=1, output_tokens=1)})

    metered = outcome(report, Record(input_tokens=100, output_tokens=20, money_microusd=7)).usage
    counted = outcome(report, Record()).usage

    assert (metered.input_tokens, metered.output_tokens, metered.money_microusd, metered.wall_ms) == (100, 20, 7, 5)
    assert (counted.input_tokens, counted.money_microusd) == (1, None)
