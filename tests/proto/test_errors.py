"""The two families of errors, and what may be read in them."""

from __future__ import annotations

import copy
import pickle

import pytest

from speech_engine_proto import (
    ConnectionClosedError,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    StaleTurnError,
    TurnFinishedError,
)


@pytest.mark.parametrize("kind", [StaleTurnError, TurnFinishedError, ConnectionClosedError])
def test_our_own_mistakes(kind: type[LocalProtocolError]) -> None:
    assert issubclass(kind, LocalProtocolError)
    assert issubclass(kind, ProtocolError)
    assert issubclass(kind, RuntimeError)
    assert not issubclass(kind, RemoteProtocolError)


def test_the_peers_mistakes_are_no_mistakes_of_ours() -> None:
    assert issubclass(RemoteProtocolError, ProtocolError)
    assert not issubclass(RemoteProtocolError, LocalProtocolError | RuntimeError)


def test_what_was_expected_what_came_and_where() -> None:
    error = RemoteProtocolError("`int`", "`bool`", "$.event_id", '{"event_id":true}')
    assert str(error) == "expected `int`, got `bool` at $.event_id"
    assert (error.expected, error.got, error.where) == ("`int`", "`bool`", "$.event_id")
    assert error.excerpt == '{"event_id":true}'


def test_the_whole_message_is_the_place_by_default() -> None:
    error = RemoteProtocolError("UTF-8", "an invalid byte")
    assert (error.where, error.excerpt) == ("$", "")


def test_the_excerpt_is_short_and_in_no_text() -> None:
    error = RemoteProtocolError("a", "b", "$", "secret" * 100)
    assert error.excerpt == ("secret" * 100)[:200]
    assert "secret" not in f"{error} {error!r} {error.args!r}"


@pytest.mark.parametrize("again", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_it_survives_a_copy(again: object) -> None:
    error = RemoteProtocolError("a", "b", "$.c", "d")
    twin = again(error)  # type: ignore[operator]
    assert type(twin) is RemoteProtocolError
    assert str(twin) == str(error)
    assert (twin.expected, twin.got, twin.where, twin.excerpt) == ("a", "b", "$.c", "d")
