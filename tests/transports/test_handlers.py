"""Registration: what cannot be called with its event's arguments is refused at once."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from speech_engine_transports import SpeechEngineServer, SpeechEngineSession
from speech_engine_transports._handlers import CALLBACKS, Handlers

if TYPE_CHECKING:
    from collections.abc import Callable


class Nothing:
    async def recv(self) -> str:
        raise EOFError

    async def send(self, data: str) -> None: ...

    async def close(self) -> None: ...


class Agent:
    async def two(self, a: object, b: object) -> None: ...

    def __call__(self, a: object) -> None: ...


class NoSignature:
    """What some callables written in C do: their parameters cannot be read."""

    @property
    def __signature__(self) -> Any:
        raise ValueError("no signature found")

    def __call__(self, *args: object) -> None: ...


def one(a: object) -> None: ...


def two(a: object, b: object) -> None: ...


def optional(a: object, b: object = None, *, c: object = None) -> None: ...


def needs_keyword(a: object, *, b: object) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [
        one,
        optional,
        print,
        lambda *args: None,
        Agent(),
        functools.partial(two, 1),
        functools.partial(needs_keyword, b=1),
        NoSignature(),
        dict,
        [].append,
    ],
)
def test_what_takes_one_argument_is_accepted_for_a_transcript(handler: Callable[..., Any]) -> None:
    session = SpeechEngineSession(Nothing())
    assert session.on("user_transcript", handler) is session
    assert session.once("user_transcript", handler) is session


@pytest.mark.parametrize(
    "handler", [two, lambda: None, needs_keyword, Agent().two, functools.partial(one, 1)]
)
def test_a_wrong_number_of_parameters_is_refused(handler: Callable[..., Any]) -> None:
    session = SpeechEngineSession(Nothing())
    for register in (session.on, session.once):
        with pytest.raises(TypeError, match=r"user_transcript: expected .* \(transcript\)"):
            register("user_transcript", handler)


@pytest.mark.parametrize("event", ["close", "disconnected"])
def test_handlers_of_the_end_take_nothing(event: str) -> None:
    session = SpeechEngineSession(Nothing())
    session.on(event, lambda: None)
    with pytest.raises(TypeError, match=rf"{event}: expected .* \(no arguments\)"):
        session.on(event, one)


@pytest.mark.parametrize("handler", ["on_transcript", None, 17])
def test_what_is_not_callable_is_refused(handler: Any) -> None:
    with pytest.raises(TypeError, match="error: expected a callable, got"):
        SpeechEngineSession(Nothing()).on("error", handler)


@pytest.mark.parametrize("name", CALLBACKS)
def test_callbacks_get_the_session_as_well(name: str) -> None:
    arguments = 1 if name in ("on_close", "on_disconnect") else 2
    right, wrong = (one, two) if arguments == 1 else (two, one)
    SpeechEngineServer(**{name: right})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=rf"{name}: expected a callable that takes \(.*session\)"):
        SpeechEngineServer(**{name: wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["on_transcripts", "callbacks", "onTranscript"])
def test_an_unknown_callback_is_refused(name: str) -> None:
    """Weakness 14 of the official SDK: a typo was a mute agent."""
    with pytest.raises(TypeError, match=f"{name}: no such callback; expected one of on_init, "):
        SpeechEngineServer(**{name: two})  # type: ignore[arg-type]


def test_a_callback_that_is_none_is_not_there() -> None:
    handlers = Handlers.from_callbacks({"on_init": None, "on_error": two})
    assert not handlers.has("init")
    assert handlers.has("error")


def test_a_copy_is_its_own() -> None:
    handlers = Handlers.from_callbacks({"on_error": two})
    copy = handlers.copy()
    copy.add("error", one)
    copy.add("close", lambda: None)
    assert len(handlers.take("error", None, 1)) == 1
    assert not handlers.has("close")
    assert [args for _, args in copy.take("error", "session", 1)] == [[1, "session"], [1]]
