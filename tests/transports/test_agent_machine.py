"""`AgentMachine`: good handlers pass, and each seeded bug is found and named, on both loops."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
import trio
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from speech_engine_proto import ConversationMessage
from speech_engine_transports import SpeechEngineSession
from speech_engine_transports._agent_machine import AgentMachine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

Transcript = list[ConversationMessage]
Session = SpeechEngineSession

SAME_EVERY_TIME = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=50,
    stateful_step_count=8,
    phases=[Phase.generate, Phase.shrink],
    report_multiple_bugs=False,
)


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def play(machine: type[AgentMachine], backend: str) -> None:
    played = type(machine.__name__, (machine,), {"backend": backend})
    run_state_machine_as_test(played, settings=SAME_EVERY_TIME)


def finding(machine: type[AgentMachine], backend: str) -> AssertionError:
    with pytest.raises(AssertionError) as caught:
        play(machine, backend)
    return caught.value


def finding_of(
    handler: Callable[[Transcript, Session], object], backend: str, **attributes: object
) -> AssertionError:
    machine = type("Machine", (AgentMachine,), {"on_transcript": staticmethod(handler)})
    return finding(type("Machine", (machine,), attributes), backend)


async def words(*said: str, pause: float = 0.2) -> AsyncIterator[str]:
    for word in said:
        await anyio.sleep(pause)
        yield word


# Good handlers.


class Streams(AgentMachine):
    first_word_limit = 0.2

    @staticmethod
    async def on_transcript(transcript: Transcript, session: Session) -> None:
        await session.send_response(words("You ", "said ", transcript[-1].content))

    def check_reply(self, transcript: Transcript, text: str) -> None:
        assert text == f"You said {transcript[-1].content}"


class Careful(AgentMachine):
    """Reads its stream itself, cleans up for a while, starts a task that ends, and tidies up."""

    def make_callbacks(self) -> Mapping[str, Callable[..., object]]:
        ended: list[str] = []

        async def on_transcript(transcript: Transcript, session: Session) -> None:
            await session.send_response("Well. ", final=False)
            try:
                async with aclosing(self.track(Stream())) as stream, anyio.create_task_group() as g:
                    g.start_soon(anyio.sleep, 0.3)
                    async for word in stream:
                        await session.send_response(word, final=False)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(2)

        async def on_init(conversation_id: str, session: Session) -> None:
            await anyio.sleep(1)

        return {
            "on_transcript": on_transcript,
            "on_init": on_init,
            "on_close": lambda session: ended.append("close"),
            "on_disconnect": lambda session: ended.append("disconnect"),
            "on_error": lambda error, session: ended.append("error"),
        }


class Silent(AgentMachine):
    session_options = {"fallback": "Pardon?"}  # noqa: RUF012

    @staticmethod
    def on_transcript(transcript: Transcript, session: Session) -> None:
        pass

    def check_reply(self, transcript: Transcript, text: str) -> None:
        assert text == "Pardon?"


class Stream:
    """A stream such as those of the LLM's SDKs: an object, not a generator."""

    def __init__(self) -> None:
        self.words = iter(["so ", "it ", "is"])

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> str:
        await anyio.sleep(0.1)
        for word in self.words:
            return word
        raise StopAsyncIteration

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def close(self) -> None:
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("machine", [Streams, Careful, Silent])
def test_a_good_agent_passes(machine: type[AgentMachine], backend: str) -> None:
    play(machine, backend)


# Each bug is found, and named.


def test_a_handler_that_raises(backend: str) -> None:
    async def handler(transcript: Transcript, session: Session) -> None:
        if session.turn is not None and session.turn.heard is not None:
            raise KeyError("memory")
        await session.send_response("Hello")

    error = finding_of(handler, backend)
    assert str(error) == "turn 2: on_transcript raised KeyError: 'memory'"
    assert isinstance(error.__cause__, KeyError)


def test_a_handler_that_fails_where_the_caller_talks_over_it(backend: str) -> None:
    async def handler(transcript: Transcript, session: Session) -> None:
        done = False
        try:
            await session.send_response(words("one", "two"))
            done = True
        finally:
            if not done:
                raise ValueError("half a reply")

    error = finding_of(handler, backend)
    assert str(error) == "turn 1: on_transcript raised ValueError: half a reply"


def test_a_handler_that_answers_twice(backend: str) -> None:
    async def handler(transcript: Transcript, session: Session) -> None:
        await session.send_response("One moment.")
        await session.send_response("Here you are.")

    error = finding_of(handler, backend)
    assert str(error).startswith("turn 1: on_transcript raised TurnFinishedError: turn 1 already")


def test_a_handler_that_cancels_itself(backend: str) -> None:
    async def handler(transcript: Transcript, session: Session) -> None:
        await session.send_response("Hello", final=False)
        raise asyncio.CancelledError

    error = finding_of(handler, "asyncio")
    assert str(error).startswith("the session reported RuntimeError: ")


def test_a_question_that_gets_no_word(backend: str) -> None:
    class Machine(AgentMachine):
        def make_callbacks(self) -> Mapping[str, Callable[..., object]]:
            asked: set[str] = set()

            async def handler(transcript: Transcript, session: Session) -> None:
                text = transcript[-1].content
                if text not in asked:  # "the service repeats itself": so may the caller
                    asked.add(text)
                    await session.send_response("Hello")

            return {"on_transcript": handler}

    assert str(finding(Machine, backend)) == "turn 2 was answered without a word"


def test_a_first_word_that_comes_late(backend: str) -> None:
    async def handler(transcript: Transcript, session: Session) -> None:
        await session.send_response(words("Hello", pause=3))

    error = finding_of(handler, backend, first_word_limit=2.0)
    late = "turn 1: the first word came after 3 s; first_word_limit is 2 s"
    assert str(error) == late


def test_a_first_word_that_the_caller_did_not_wait_for(backend: str) -> None:
    async def handler(transcript: Transcript, session: Session) -> None:
        if len(transcript) > 1:
            await anyio.sleep_forever()
        await session.send_response("Hello")

    error = finding_of(handler, backend, first_word_limit=2.0, reply_limit=30.0)
    assert "the first word had not come after" in str(error)


def test_a_reply_that_does_not_end(backend: str) -> None:
    async def handler(transcript: Transcript, session: Session) -> None:
        await session.send_response("Hello", final=False)
        await anyio.sleep_forever()

    error = finding_of(handler, backend)
    assert str(error) == "turn 1: the reply had not ended after 600 s"


def test_a_handler_that_does_not_stop(backend: str) -> None:
    async def handler(transcript: Transcript, session: Session) -> None:
        try:
            await session.send_response(words("one", "two"))
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await anyio.sleep(60)
            raise

    error = finding_of(handler, backend)
    text = "turn 1: on_transcript was still running 5 s after the end of the call"
    assert str(error) == text


def test_a_handler_that_swallows_its_cancellation_in_a_loop() -> None:
    async def handler(transcript: Transcript, session: Session) -> None:
        await session.send_response("Hello")
        while True:
            try:
                await anyio.sleep(1)
            except asyncio.CancelledError:
                pass

    error = finding_of(handler, "asyncio", clean_up_limit=20.0)
    text = "turn 1: on_transcript was still running 20 s after the end of the call"
    assert str(error) == text


def test_a_task_that_is_left_running(backend: str) -> None:
    tasks: list[asyncio.Task[None]] = []

    async def left_behind() -> None:
        await anyio.sleep(3600)

    async def handler(transcript: Transcript, session: Session) -> None:
        await session.send_response("Hello")
        if len(transcript) > 1 and backend == "asyncio":
            tasks.append(asyncio.create_task(left_behind()))
        elif len(transcript) > 1:
            trio.lowlevel.spawn_system_task(left_behind)

    error = str(finding_of(handler, backend))
    assert error.startswith("a task was still running 5 s after the end of the call: ")
    assert error.endswith("left_behind")


def test_a_task_that_ends_soon_after_the_call_is_no_fault() -> None:
    tasks: set[asyncio.Task[None]] = set()

    class Saves(AgentMachine):
        @staticmethod
        async def on_transcript(transcript: Transcript, session: Session) -> None:
            tasks.add(asyncio.create_task(asyncio.sleep(3)))
            await session.send_response("Hello")

    play(Saves, "asyncio")
    assert all(task.done() for task in tasks)


def test_a_generator_that_is_left_open(backend: str) -> None:
    async def handler(transcript: Transcript, session: Session) -> None:
        async for word in words("one", "two"):
            await session.send_response(word)
            break

    error = finding_of(handler, backend)
    assert str(error) == "a stream was left open (see contextlib.aclosing): words"


def test_an_object_that_is_left_open(backend: str) -> None:
    class Machine(AgentMachine):
        def make_callbacks(self) -> Mapping[str, Callable[..., object]]:
            async def handler(transcript: Transcript, session: Session) -> None:
                stream = self.track(Stream())
                if len(transcript) > 1:  # the bug: only the first turn closes it
                    async for word in stream:
                        await session.send_response(word)
                        return
                await session.send_response(stream)

            return {"on_transcript": handler}

    error = finding(Machine, backend)
    assert str(error) == "a stream was left open (see contextlib.aclosing): Stream"


def test_a_stream_that_is_closed_or_used_as_a_context_is_not_open(backend: str) -> None:
    class Machine(AgentMachine):
        def make_callbacks(self) -> Mapping[str, Callable[..., object]]:
            async def handler(transcript: Transcript, session: Session) -> None:
                async with self.track(Stream()) as stream:
                    assert stream.words is not None
                    async for word in stream:
                        await session.send_response(word)
                        break

            return {"on_transcript": handler}

    play(Machine, backend)


def test_a_reply_that_the_user_finds_wrong(backend: str) -> None:
    class Machine(AgentMachine):
        def make_callbacks(self) -> Mapping[str, Callable[..., object]]:
            said: list[str] = []  # the bug: what a cut reply has said is said again

            async def handler(transcript: Transcript, session: Session) -> None:
                said.append("so ")
                await session.send_response(words(*said))
                said.clear()

            return {"on_transcript": handler}

        def check_reply(self, transcript: Transcript, text: str) -> None:
            assert text == "so ", "said twice"

    error = finding(Machine, backend)
    assert str(error).startswith("turn 2: check_reply: AssertionError: said twice")
    assert isinstance(error.__cause__, AssertionError)


def test_another_callback_that_raises(backend: str) -> None:
    class Machine(AgentMachine):
        def make_callbacks(self) -> Mapping[str, Callable[..., object]]:
            async def handler(transcript: Transcript, session: Session) -> None:
                await session.send_response("Hello")

            def on_disconnect(session: Session) -> None:
                raise OSError

            return {"on_transcript": handler, "on_disconnect": on_disconnect}

    assert str(finding(Machine, backend)) == "on_disconnect raised OSError"


# What the author reads.


def test_the_example_reads_like_a_story(backend: str) -> None:
    async def handler(transcript: Transcript, session: Session) -> None:
        if len(transcript) > 1 and transcript[-2].role == "agent":
            raise ValueError("who is there?")
        await session.send_response("Hello")

    error = finding_of(handler, backend)
    *_, steps = (note for note in error.__notes__ if "state.caller_says" in note)
    told = "\n".join(error.__notes__)
    assert "state.caller_says(text='0')" in steps
    assert "state.teardown()" in told
    assert "The call, in virtual time:\n    0.00 s  the call begins" in told
    assert "the agent says 'Hello' (turn 1)" in told
    assert "found: turn 2: on_transcript raised ValueError: who is there?" in told


def test_callers_say_what_the_user_lets_them_say(backend: str) -> None:
    heard: set[str] = set()

    class Machine(AgentMachine):
        @staticmethod
        async def on_transcript(transcript: Transcript, session: Session) -> None:
            heard.add(transcript[-1].content)
            await session.send_response("Hello")

        def caller_texts(self) -> st.SearchStrategy[str]:
            return st.sampled_from(["yes", "no"])

    play(Machine, backend)
    assert heard == {"yes", "no"}


def test_the_log_of_hundreds_of_calls_is_kept_out_of_the_report(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    finding_of(lambda transcript, session: None, backend)
    assert caplog.records == []
    logging.getLogger("speech_engine_transports").warning("heard again")
    assert [record.message for record in caplog.records] == ["heard again"]


# Mistakes in the machine itself.


def test_a_machine_without_a_handler() -> None:
    with pytest.raises(TypeError, match=r"Machine\.on_transcript: expected a handler, got nothing"):
        play(type("Machine", (AgentMachine,), {}), "asyncio")


def test_a_handler_that_cannot_take_its_arguments() -> None:
    machine: Any = type("Machine", (AgentMachine,), {"on_transcript": staticmethod(lambda: None)})
    with pytest.raises(TypeError, match=r"on_transcript: expected a callable that takes"):
        play(machine, "asyncio")


def test_an_unknown_backend() -> None:
    with pytest.raises(ValueError, match="expected 'asyncio' or 'trio', got 'curio'"):
        play(Streams, "curio")
