"""What a body must be to be looked at, and what a signature must be to count."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.webhook_receiver import verify
from services.webhook_receiver.verify import Refusal, check_signature, content_type_is_json, deeper_than, read_object
from tests.support.plane_fixtures import Recorded, deliveries, delivery

SIGNED = [each for each in deliveries() if each.body]


@pytest.mark.parametrize("recorded", SIGNED, ids=lambda each: each.name)
def test_every_recorded_delivery_verifies(recorded: Recorded):
    given = recorded.headers["X-Plane-Signature"]

    assert check_signature(given, recorded.body, ["plane_wh_other", recorded.secret]) is None
    assert check_signature(given, recorded.body + b" ", [recorded.secret]) is verify.WRONG_SIGNATURE
    assert check_signature(given, recorded.body, ["plane_wh_other"]) is verify.WRONG_SIGNATURE


@pytest.mark.parametrize("given", ["", None])
def test_no_signature_is_unsigned(given: str | None):
    assert check_signature(given, b"{}", ["secret"]) is verify.UNSIGNED


@pytest.mark.parametrize("given", ["x", "0" * 64, "é" * 64, "0" * 10_000, "sha256=" + "0" * 64])
def test_nonsense_is_a_wrong_signature(given: str):
    assert check_signature(given, b"{}", ["secret"]) is verify.WRONG_SIGNATURE


def test_without_a_secret_nothing_verifies():
    assert check_signature(verify.signature("", b"{}"), b"{}", []) is verify.NO_SECRET


def test_an_upper_case_or_prefixed_signature_is_not_planes():
    right = verify.signature("secret", b"{}")

    assert check_signature(right, b"{}", ["secret"]) is None
    assert check_signature(right.upper(), b"{}", ["secret"]) is verify.WRONG_SIGNATURE
    assert check_signature(right + "0", b"{}", ["secret"]) is verify.WRONG_SIGNATURE


@pytest.mark.parametrize(
    ("header", "encoding", "plain"),
    [
        ("application/json", "", True),
        ("application/json; charset=utf-8", "identity", True),
        ('application/json;charset="UTF-8"', "", True),
        ("application/json; charset=utf-16", "", False),
        ("application/json", "gzip", False),
        ("text/plain", "", False),
        ("application/x-www-form-urlencoded", "", False),
        ("", "", False),
    ],
)
def test_only_plain_json_is_taken(header: str, encoding: str, plain: bool):
    assert content_type_is_json(header, encoding) is plain


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"a": 1', "invalid_json"),
        (b'{"a": NaN}', "invalid_json"),
        (b'{"a": 1} {"b": 2}', "invalid_json"),
        (b"[]", "not_an_object"),
        (b"null", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b'{"a": "\xff\xfe"}', "invalid_utf8"),
        (b"\xef\xbb\xbf{}", "invalid_json"),
        (b'{"a": ' + b"[" * 65 + b"]" * 65 + b"}", "too_deep"),
        (b"[" * 1_000_000, "too_deep"),
        (b'{"a":' * 1_000_000, "too_deep"),
        (b"[" + b"[]," * 300_000 + b"[]]", "too_deep"),
        (b'{"event": "issue", "event": "project"}', "ambiguous_json"),
        (b'{"data": {"id": 1, "id": 2}}', "ambiguous_json"),
    ],
    ids=lambda value: value[:30] if isinstance(value, bytes) else value,
)
def test_what_cannot_be_used_says_why(body: bytes, code: str):
    refusal = read_object(body)

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (400, code)
    assert refusal.remedy


def test_brackets_in_strings_are_no_depth():
    assert read_object(json.dumps({"a": "[" * 1000, "b": '\\"[[' * 100}).encode()) == {
        "a": "[" * 1000,
        "b": '\\"[[' * 100,
    }


def test_a_genuine_body_is_read():
    assert read_object(delivery("04a").body) == delivery("04a").data


_JSON = st.recursive(
    st.none() | st.booleans() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), _JSON))
def test_whatever_json_writes_is_read_back(value: dict[str, object]):
    assert read_object(json.dumps(value).encode()) == value


@given(st.binary())
def test_any_bytes_are_read_or_refused(body: bytes):
    assert isinstance(read_object(body), dict | Refusal)


@given(st.integers(0, 100))
def test_depth_is_counted_exactly(depth: int):
    assert deeper_than("[" * depth + "]" * depth, 64) is (depth > 64)
