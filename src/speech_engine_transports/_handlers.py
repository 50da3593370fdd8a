"""Which handlers are there for which event, and whether they can take its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from speech_engine_proto import CLOSE, DISCONNECTED, ERROR, INIT, USER_TRANSCRIPT

__all__ = ["CALLBACKS", "Handler", "Handlers", "call"]

Handler: TypeAlias = Callable[..., Any]

ARGUMENTS: dict[str, tuple[str, ...]] = {
    INIT: ("conversation_id",),
    USER_TRANSCRIPT: ("transcript",),
    CLOSE: (),
    DISCONNECTED: (),
    ERROR: ("error",),
}

CALLBACKS: dict[str, str] = {
    "on_init": INIT,
    "on_transcript": USER_TRANSCRIPT,
    "on_close": CLOSE,
    "on_disconnect": DISCONNECTED,
    "on_error": ERROR,
}


async def call(handler: Handler, *args: object) -> None:
    """Call a handler, sync or async: what it returns decides whether to await."""
    result = handler(*args)
    if inspect.isawaitable(result):
        await result


@attrs.frozen(eq=False)
class _Registration:
    handler: Handler
    with_session: bool
    once: bool


class Handlers:
    """The handlers of one session.

    A server checks its callbacks once and hands each session a copy; a copy shares everything
    until the session registers a handler of its own.
    """

    __slots__ = ("_registered",)

    def __init__(self, registered: dict[str, tuple[_Registration, ...]] | None = None) -> None:
        self._registered = registered or {}

    @classmethod
    def from_callbacks(cls, callbacks: dict[str, Handler | None]) -> Handlers:
        """Register keyword callbacks, which get the session as their last argument.

        Raises:
            TypeError: an unknown name, or a callback that cannot take its arguments.
        """
        handlers = cls()
        for name, handler in callbacks.items():
            if name not in CALLBACKS:
                known = ", ".join(CALLBACKS)
                raise TypeError(f"{name}: no such callback; expected one of {known}")
            if handler is not None:
                handlers.add(CALLBACKS[name], handler, with_session=True, name=name)
        return handlers

    def copy(self) -> Handlers:
        """Return handlers that may be changed without changing these."""
        return Handlers(self._registered)

    def add(
        self,
        event: str,
        handler: Handler,
        *,
        with_session: bool = False,
        once: bool = False,
        name: str | None = None,
    ) -> None:
        """Register a handler.

        Raises:
            ValueError: there is no such event.
            TypeError: the handler is not callable, or cannot take the event's arguments.
        """
        arguments = _arguments(event) + (("session",) if with_session else ())
        _check_signature(name or event, handler, arguments)
        entry = _Registration(handler, with_session, once)
        self._set(event, (*self._registered.get(event, ()), entry))

    def remove(self, event: str, handler: Handler) -> None:
        """Take a handler out again, also one that would have fired only once."""
        _arguments(event)
        entries = self._registered.get(event, ())
        for entry in entries:
            if entry.handler == handler:
                self._set(event, tuple(e for e in entries if e is not entry))
                return

    def has(self, event: str) -> bool:
        """Tell whether anything would be called."""
        return bool(self._registered.get(event))

    def take(self, event: str, session: object, *args: object) -> list[tuple[Handler, list[Any]]]:
        """Return the handlers to call now, each with its arguments, in order of registration."""
        entries = self._registered.get(event, ())
        if any(entry.once for entry in entries):
            self._set(event, tuple(entry for entry in entries if not entry.once))
        return [(e.handler, [*args, session] if e.with_session else [*args]) for e in entries]

    def _set(self, event: str, entries: tuple[_Registration, ...]) -> None:
        # What is shared with copies stays as it is.
        self._registered = {**self._registered, event: entries}


def _arguments(event: str) -> tuple[str, ...]:
    try:
        return ARGUMENTS[event]
    except KeyError:
        known = ", ".join(ARGUMENTS)
        raise ValueError(f"event: expected one of {known}; got {event!r}") from None


def _check_signature(name: str, handler: Handler, arguments: tuple[str, ...]) -> None:
    if not callable(handler):
        raise TypeError(f"{name}: expected a callable, got {type(handler).__name__}")
    try:
        signature = inspect.signature(handler)
    except (ValueError, TypeError):
        return  # some callables written in C tell nothing of their parameters
    try:
        signature.bind(*arguments)
    except TypeError as error:
        expected = ", ".join(arguments) or "no arguments"
        raise TypeError(f"{name}: expected a callable that takes ({expected}): {error}") from None
