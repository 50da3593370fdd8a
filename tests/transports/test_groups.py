"""Users see the exception that was raised, not the group that carried it."""

from __future__ import annotations

import pytest

from speech_engine_transports._groups import single_exception


def raised(group: BaseException) -> BaseException:
    with pytest.raises(BaseException) as caught, single_exception():  # noqa: PT011
        raise group
    return caught.value


def test_the_first_one_is_raised_however_deep() -> None:
    first, second = ValueError("first"), ValueError("second")
    nested = ExceptionGroup("outer", [ExceptionGroup("inner", [first, second])])
    assert raised(nested) is first


def test_it_keeps_its_cause_and_its_context() -> None:
    cause, context = KeyError("cause"), KeyError("context")
    error = ValueError("first")
    error.__context__ = context
    error.__cause__ = cause
    assert raised(ExceptionGroup("group", [error])).__cause__ is cause
    assert error.__context__ is context


def test_the_group_is_no_context_of_an_error_that_had_none() -> None:
    error = KeyboardInterrupt()
    assert raised(BaseExceptionGroup("group", [error])) is error
    assert error.__context__ is None


def test_what_is_no_group_leaves_as_it_is() -> None:
    error = ValueError("plain")
    assert raised(error) is error
