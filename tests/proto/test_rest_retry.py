"""When a request is tried again, and after how long."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech_engine_proto.rest import ApiResponse, RetryPolicy, is_transient, retry_after

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's examples


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529, 599])
def test_what_may_pass(status: int) -> None:
    assert is_transient(status)
    assert RetryPolicy().delay(0, ApiResponse(status), now=NOW, chance=0.5) == 1.0


@pytest.mark.parametrize("status", [200, 201, 301, 400, 401, 403, 404, 409, 422, 600])
def test_what_will_not(status: int) -> None:
    assert not is_transient(status)
    response = ApiResponse(status, {"Retry-After": "1"})
    assert RetryPolicy().delay(0, response, now=NOW, chance=0.5) is None


def test_what_never_reached_the_service_is_tried_again() -> None:
    assert RetryPolicy().delay(1, None, now=NOW, chance=0.5) == 2.0


def test_each_wait_is_twice_as_long_up_to_a_bound() -> None:
    policy = RetryPolicy(max_retries=9, initial_delay=0.5, max_delay=3)
    delays = [policy.delay(n, ApiResponse(500), now=NOW, chance=0.5) for n in range(10)]
    assert delays == [0.5, 1.0, 2.0, 3, 3, 3, 3, 3, 3, None]


def test_it_gives_up_after_its_tries() -> None:
    assert RetryPolicy(max_retries=0).delay(0, ApiResponse(500), now=NOW, chance=0.5) is None
    assert RetryPolicy().delay(2, ApiResponse(500), now=NOW, chance=0.5) is None
    assert RetryPolicy().delay(2, None, now=NOW, chance=0.5) is None


@pytest.mark.parametrize(("chance", "delay"), [(0.0, 0.9), (0.5, 1.0), (1.0, 1.1)])
def test_the_wait_is_spread(chance: float, delay: float) -> None:
    waited = RetryPolicy().delay(0, ApiResponse(503), now=NOW, chance=chance)
    assert waited == pytest.approx(delay)


def test_the_service_says_how_long() -> None:
    def delay(header: str) -> float | None:
        response = ApiResponse(429, {"Retry-After": header})
        return RetryPolicy().delay(0, response, now=NOW, chance=0.5)

    assert delay("7") == 7.0
    assert delay("60") == 60.0
    assert delay("61") is None  # asking before that would only be refused again
    assert delay("Sun, 06 Nov 1994 08:50:07 GMT") == 30.0
    assert delay("Sun, 06 Nov 1994 08:49:07 GMT") == 1.0  # has passed: as if nothing was said
    assert delay("0") == 1.0
    assert delay("soon") == 1.0


@given(
    retries=st.integers(0, 5_000),
    chance=st.floats(0, 1),
    jitter=st.floats(0, 5),
    header=st.none() | st.text() | st.integers(-5, 10**12).map(str),
    now=st.floats(allow_nan=False, allow_infinity=False),
)
def test_no_wait_is_negative_or_endless(
    retries: int, chance: float, jitter: float, header: str | None, now: float
) -> None:
    policy = RetryPolicy(max_retries=10_000, jitter=jitter)
    headers = {} if header is None else {"retry-after": header}
    delay = policy.delay(retries, ApiResponse(500, headers), now=now, chance=chance)
    assert delay is None or 0 <= delay <= 60 * (1 + jitter)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        ("Sunday, 06-Nov-94 08:49:47 GMT", 10.0),
        ("Sun Nov  6 08:49:47 1994", 10.0),
        ("Sun, 06 Nov 1994 09:49:47 +0100", 10.0),
        ("Sun, 06 Nov 1994 08:49:27 GMT", 0.0),
        ("", None),
        (None, None),
        ("-1", None),
        ("1e3", None),
        ("9" * 400, None),
        ("Sun, 99 Nov 1994 08:49:47 GMT", None),
        ("Sun, 06 Nov 99999999999 08:49:47 GMT", None),
        ("tomorrow", None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, now=NOW) == seconds


def test_without_the_time_a_date_tells_nothing() -> None:
    assert retry_after("Sun, 06 Nov 1994 08:49:47 GMT") is None
    assert retry_after("5") == 5.0


@given(st.text())
def test_any_header_can_be_read(header: str) -> None:
    seconds = retry_after(header, now=NOW)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_retries": -1}, r"RetryPolicy\.max_retries: expected an int of at least 0, got -1"),
        ({"max_retries": True}, "max_retries: expected an int of at least 0, got True"),
        ({"max_retries": 1.5}, "max_retries: expected an int of at least 0, got 1.5"),
        ({"initial_delay": -0.1}, "initial_delay: expected a number of at least 0, got -0.1"),
        ({"max_delay": float("inf")}, "max_delay: expected a number of at least 0, got inf"),
        ({"jitter": float("nan")}, "jitter: expected a number of at least 0, got nan"),
        ({"jitter": True}, "jitter: expected a number of at least 0, got True"),
    ],
)
def test_a_policy_that_is_none(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RetryPolicy(**options)
