"""Hypothesis plays the callers of *your* handler, and says in words what went wrong."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

try:
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
except ImportError:
    raise ImportError(
        "speech_engine_transports.testing needs hypothesis: "
        "pip install 'speech-engine-proto[testing]'"
    ) from None

from ._agent_call import Bounds, Call
from ._options import SessionOptions
from ._streams import TrackedStream
from ._virtual_time import world

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping

    from speech_engine_proto import ConversationMessage

    from ._handlers import Handler
    from ._virtual_time import World

__all__ = ["AgentMachine"]

PAUSES = (0.0, 0.1, 1.0, 10.0)
"""Virtual seconds for which nobody does anything."""


def _somebody_spoke(machine: AgentMachine) -> bool:
    return machine.has_spoken


class AgentMachine(RuleBasedStateMachine):
    """Plays callers to your handler, and fails where the handler lets them down.

    Put the handler in, and let pytest or unittest run it::

        class MyMachine(AgentMachine):
            on_transcript = staticmethod(my_handler)  # what you give to serve()

        TestMyAgent = MyMachine.TestCase

    Callers talk over the agent, ask twice and hang up; lines drop; the service sends transcripts
    again, under the same, an older and a new id. All of that happens on a socket in memory and in
    virtual time: a handler that sleeps for an hour is done at once. It is a failure when

    - a handler raises, or the session reports an error of it;
    - a turn is answered without a word;
    - the first word takes longer than ``first_word_limit``, or a reply than ``reply_limit``;
    - a handler, or a task that it started, still runs when the call is long over;
    - a stream is left open: an async generator that was neither read to its end nor closed, or
      one that was given to ``track``;
    - your own ``check_reply`` raises.

    The steps of an example are played when all of them are known. So the error stands below its
    last step, and has a note that tells the call with its times.

    Virtual time knows nothing of worker threads and of the network: give the handler a fake LLM,
    written as an async generator. On trio a handler that swallows its cancellation in a loop
    never lets the clock move: have pytest-timeout at hand. A subclass may add rules, and one that
    overrides ``teardown`` calls it on ``super()``, since the calls are played there.
    """

    on_transcript: Handler
    """The handler, ``(transcript, session)``; or override `make_callbacks`."""

    backend: ClassVar[str] = "asyncio"
    """The event loop: ``"asyncio"`` (needs aiotools) or ``"trio"``."""

    first_word_limit: ClassVar[float | None] = None
    """Virtual seconds from a question to the first word of its reply; None is any time."""

    reply_limit: ClassVar[float] = 600.0
    """Virtual seconds that the caller listens before a reply must have ended."""

    clean_up_limit: ClassVar[float] = 5.0
    """Virtual seconds from the end of a call to that of the last task that belongs to it."""

    session_options: ClassVar[Mapping[str, Any]] = {}
    """Keywords of `SpeechEngineSession`, such as ``fallback``."""

    def __init__(self) -> None:
        super().__init__()
        self.has_spoken = False
        """Whether the caller has said something in the call that goes on."""
        self._calls: list[list[Callable[[Call], Coroutine[Any, Any, None]]]] = [[]]
        self._tracked: list[TrackedStream] = []

    def make_callbacks(self) -> Mapping[str, Handler]:
        """Return the callbacks of the agent, as a server takes them; called for each call.

        By default that is ``on_transcript`` alone.
        """
        if not hasattr(self, "on_transcript"):
            name = type(self).__name__
            raise TypeError(f"{name}.on_transcript: expected a handler, got nothing")
        return {"on_transcript": self.on_transcript}

    def check_reply(self, transcript: list[ConversationMessage], text: str) -> None:
        """Check one whole reply that nobody interrupted; raise where it is wrong.

        Args:
            transcript: what the agent was asked.
            text: all that it answered.
        """

    def caller_texts(self) -> st.SearchStrategy[str]:
        """Return what callers may say; by default any short text."""
        return st.text(min_size=1, max_size=20)

    def track(self, stream: Any) -> TrackedStream:
        """Return the stream, watched: left neither read to its end nor closed, it is a failure.

        For objects with ``aclose`` or ``close`` such as the streams of an LLM's SDK. Async
        generators need not be tracked.
        """
        tracked = TrackedStream(stream)
        self._tracked.append(tracked)
        return tracked

    @rule(text=st.runner().flatmap(lambda machine: machine.caller_texts()))
    def caller_says(self, text: str) -> None:
        """The caller speaks; where the agent still does, they talk over it."""
        self.has_spoken = True
        self._then(partial(Call.say, text=text))

    @precondition(_somebody_spoke)
    @rule()
    def caller_asks_again(self) -> None:
        """The caller says the same as before."""
        self._then(Call.ask_again)

    @precondition(_somebody_spoke)
    @rule(pieces=st.integers(1, 3))
    def caller_hears(self, pieces: int) -> None:
        """The caller listens to so many more pieces of the reply, or to its end."""
        self._then(partial(Call.hear, pieces=pieces))

    @precondition(_somebody_spoke)
    @rule()
    def caller_hears_it_out(self) -> None:
        """The caller listens until the reply has ended."""
        self._then(Call.hear_out)

    @rule(seconds=st.sampled_from(PAUSES))
    def time_passes(self, seconds: float) -> None:
        """Nobody does anything."""
        self._then(partial(Call.wait, seconds=seconds))

    @precondition(_somebody_spoke)
    @rule()
    def service_sends_same_id_again(self) -> None:
        """The service sends the current transcript again as it was."""
        self._then(Call.resend)

    @precondition(_somebody_spoke)
    @rule()
    def service_sends_oldest_id_again(self) -> None:
        """The service sends its first transcript again, however old that is."""
        self._then(Call.resend_older)

    @precondition(_somebody_spoke)
    @rule()
    def service_sends_it_under_new_id(self) -> None:
        """The service sends the current transcript again, under the next id."""
        self._then(Call.resend_under_new_id)

    @rule()
    def caller_hangs_up(self) -> None:
        """The caller hangs up, and another one calls."""
        self._then(Call.hang_up)
        self._next_call()

    @rule()
    def line_drops(self) -> None:
        """The socket ends without a close message, and another caller calls."""
        self._then(Call.drop)
        self._next_call()

    def teardown(self) -> None:
        """Play the calls, and fail with what was found first."""
        calls = [steps for steps in self._calls if steps]
        self._calls = [[]]
        if calls:
            place = world(self.backend)
            played: list[Call] = []
            with _quiet_log():
                place.run(partial(self._play, place, calls, played))
            _raise_finding(played[-1])

    def _then(self, step: Callable[[Call], Coroutine[Any, Any, None]]) -> None:
        self._calls[-1].append(step)

    def _next_call(self) -> None:
        self.has_spoken = False
        self._calls.append([])

    async def _play(
        self,
        place: World,
        calls: list[list[Callable[[Call], Coroutine[Any, Any, None]]]],
        played: list[Call],
    ) -> None:
        bounds = Bounds(
            first_word=self.first_word_limit, reply=self.reply_limit, clean_up=self.clean_up_limit
        )
        options = SessionOptions(**self.session_options)
        for steps in calls:
            callbacks = self.make_callbacks()
            call = Call(place, callbacks, options, bounds, self.check_reply, self._tracked)
            played.append(call)
            await call.run(steps)
            if call.findings:
                return


@contextmanager
def _quiet_log() -> Generator[None]:
    """Keep the session's log out of the report: hundreds of calls, and the findings say it all."""
    logger = logging.getLogger("speech_engine_transports")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was_disabled


def _raise_finding(call: Call) -> None:
    if call.findings:
        finding = call.findings[0]
        error = AssertionError(finding.text)
        error.add_note("\n".join(["The call, in virtual time:", *call.story]))
        raise error from finding.cause
