"""The example agent: what it says, how it streams, and the same over a language model."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from speech_engine_local import LocalEngine
from speech_engine_local.agent import ExampleAgent, OpenAIAgent, answer, speak
from speech_engine_proto import ConversationMessage, HeardReply
from speech_engine_transports.server import SpeechEngineServer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from speech_engine_local.chat import Agent

pytestmark = pytest.mark.anyio

KEY = "sk_test_of_the_agent"


def said(*contents: str) -> list[ConversationMessage]:
    """A history in which caller and agent take turns, the caller first."""
    roles = ("user", "agent")
    return [ConversationMessage(roles[i % 2], text) for i, text in enumerate(contents)]


@asynccontextmanager
async def call(agent: Agent, errors: list[Exception] | None = None) -> AsyncGenerator[LocalEngine]:
    """Serve an agent for real, and call it."""
    failures: list[Exception] = [] if errors is None else errors
    async with SpeechEngineServer(
        host="127.0.0.1",
        port=0,
        api_key=KEY,
        on_transcript=agent.on_transcript,
        on_error=lambda error, _: failures.append(error),
    ) as server:
        async with LocalEngine(f"ws://127.0.0.1:{server.port}/", api_key=KEY) as engine:
            yield engine
            assert engine.violations == ()
    if errors is None:
        assert failures == []


class TestWhatItSays:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("Hello!", "Hello! I am the example agent"),
            ("Who are you?", "I am the example agent of speech-engine-proto"),
            ("What is Speech Engine?", "Speech Engine hears the caller"),
            ("What is a terminator?", "Each reply ends with one terminator"),
            ("How does barge-in work?", "When you speak while I do"),
            ("Count to 3", "One, two, three. Done!"),
            ("please count from one to three", "One, two, three. Done!"),
            ("count to 0", "Zero."),
            ("Tell me a story", "Once there was a word"),
            ("stop!", "I am listening."),
            ("My name is Ada", "Nice to meet you, Ada."),
            ("What is my name?", "You have not told me your name yet."),
            ("What did I say?", "You have only just begun"),
            ("Thank you", "You are welcome."),
            ("Goodbye", "Goodbye!"),
            ("A joke, please", "Why did the stale word"),
            ("How are you?", "All my states are legal"),
            ("help", "I greet, count"),
            ("Go on", "There is nothing left to say"),
            ("I like tea.", "I will remember that: it is the first thing"),
            ("Why is the sky blue?", "That is a good question"),
            ("", "I heard nothing."),
            ("   ", "I heard nothing."),
        ],
    )
    def test_depends_on_what_is_asked(self, text: str, expected: str) -> None:
        assert answer(said(text)).startswith(expected)

    def test_an_empty_transcript_is_answered_too(self) -> None:
        assert answer([]).startswith("I heard nothing.")

    @pytest.mark.parametrize(
        ("last", "ending"),
        [
            ("20", "nineteen, twenty. Done!"),
            ("twenty", "nineteen, twenty. Done!"),
            ("forty-two", "forty-one, forty-two. Done!"),
            ("100", "ninety-nine, one hundred. Done!"),
            ("5000", "ninety-nine, one hundred. Done!"),
            ("infinity", "nineteen, twenty. Done!"),
        ],
    )
    def test_it_counts_to_a_hundred(self, last: str, ending: str) -> None:
        assert answer(said(f"count to {last}")).endswith(ending)

    def test_it_remembers_a_name(self) -> None:
        history = said("Hi, my name is Ada", "Nice to meet you, Ada.", "so, who am I?")
        assert answer(history) == "You are Ada, you told me so."

    def test_it_remembers_what_was_said(self) -> None:
        history = said("I like tea", "Good.", "And cake", "Good.", "What did I say?")
        text = answer(history)
        assert '"I like tea"' in text
        assert '"And cake"' in text

    def test_it_counts_what_it_was_told_and_greets_once(self) -> None:
        assert "thing number two" in answer(said("tea", "Good.", "cake"))
        assert answer(said("Hello", "Hello!", "hello?")) == "Hello again! I am still here."

    def test_it_says_where_it_was_interrupted(self) -> None:
        heard = HeardReply("One, two, three, four", "One, two, three, ", interrupted=True)
        text = answer(said("count to 4", "One, two, three, ", "stop"), heard)
        assert text == 'You stopped me after "One, two, three". I am listening.'

    def test_it_says_so_also_if_not_a_word_was_heard(self) -> None:
        text = answer([*said("hello"), *said("wait")], cut=True)
        assert text == "You spoke before I had said a word, that is fine. I am listening."

    def test_what_was_wholly_heard_is_not_mentioned(self) -> None:
        heard = HeardReply("Good.", "Good.", interrupted=False)
        assert answer(said("tea", "Good.", "thanks"), heard) == "You are welcome."

    def test_it_goes_on_where_it_was_cut(self) -> None:
        history = said("count to 4", "One, two, ", "stop", "I am listening.", "go on")
        assert answer(history) == "Where was I? Three, four. Done!"


class TestHowItStreams:
    async def test_word_by_word_and_nothing_is_lost(self) -> None:
        text = "One, two,  three.\nDone!"
        pieces = [piece async for piece in speak(text, 1000)]
        assert pieces == ["One, ", "two,  ", "three.\n", "Done!"]

    @pytest.mark.parametrize("pace", [0, -1, float("nan")])
    def test_a_pace_is_positive(self, pace: float) -> None:
        with pytest.raises(ValueError, match="words_per_second: expected more than 0"):
            ExampleAgent(words_per_second=pace)

    async def test_it_knows_of_an_interruption_over_the_wire(self) -> None:
        async with call(ExampleAgent(words_per_second=200)) as engine:
            story = await engine.ask("tell me a story")
            async for _ in story:
                if len(story.pieces_read) == 4:
                    break
            reply = await (await engine.interrupt("wait")).wait()
            assert reply.text == 'You stopped me after "there was a". I am listening.'
            reply = await engine.say("go on")
            assert reply.text.startswith("Where was I? Word that wanted")

    async def test_and_of_one_before_its_first_word(self) -> None:
        async with call(ExampleAgent(words_per_second=5)) as engine:
            await engine.ask("hello")
            reply = await engine.interrupt("wait")
            async for piece in reply:
                assert piece == "You "
                break


class Endpoint:
    """A chat completions endpoint of one's own: HTTP and server-sent events, by hand."""

    def __init__(self, *words: str, status: int = 200) -> None:
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self._words = words
        self._status = status

    @asynccontextmanager
    async def serve(self) -> AsyncGenerator[str]:
        async with await asyncio.start_server(self._handle, "127.0.0.1", 0) as server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        self.requests.append((head[0], headers, body))
        if self._status != 200:
            error = b'{"error":{"message":"no such model","type":"invalid_request_error"}}'
            writer.write(
                f"HTTP/1.1 {self._status} Not Found\r\ncontent-type: application/json\r\n"
                f"content-length: {len(error)}\r\nconnection: close\r\n\r\n".encode()
                + error
            )
        else:
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
            )
            for word in self._words:
                writer.write(b"data: " + json.dumps(self._chunk(word)).encode() + b"\n\n")
                await writer.drain()
            writer.write(b"data: [DONE]\n\n")
        await writer.drain()
        writer.close()

    @staticmethod
    def _chunk(word: str) -> dict[str, Any]:
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "tiny",
            "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}],
        }


class TestOverALanguageModel:
    async def test_streams_what_the_endpoint_streams(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        endpoint = Endpoint("I ", "am ", "a ", "model.")
        async with endpoint.serve() as url, call(OpenAIAgent(base_url=url, model="tiny")) as engine:
            reply = await engine.say("who are you?")
            await engine.say("really?")
        assert reply.pieces == ("I ", "am ", "a ", "model.")
        request, _, body = endpoint.requests[1]
        assert request == "POST /v1/chat/completions HTTP/1.1"
        assert body["model"] == "tiny"
        assert body["stream"] is True
        assert body["messages"][0]["role"] == "system"
        assert body["messages"][1:] == [
            {"role": "user", "content": "who are you?"},
            {"role": "assistant", "content": "I am a model."},
            {"role": "user", "content": "really?"},
        ]

    async def test_the_endpoint_gets_the_key_of_the_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
        endpoint = Endpoint("Hi.")
        async with endpoint.serve() as url, call(OpenAIAgent(base_url=url)) as engine:
            await engine.say("hello")
        assert endpoint.requests[0][1]["authorization"] == "Bearer sk-mine"

    async def test_an_error_of_the_endpoint_is_the_agents_error(self) -> None:
        errors: list[Exception] = []
        endpoint = Endpoint(status=404)
        async with endpoint.serve() as url:
            async with call(OpenAIAgent(base_url=url, api_key="x"), errors) as engine:
                reply = await engine.say("hello")
        assert reply.finished
        assert reply.text == ""
        (error,) = errors
        assert "no such model" in str(error)

    def test_openai_itself_wants_a_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        with pytest.raises(ValueError, match="OPENAI_API_KEY: expected a key, got none"):
            OpenAIAgent()

    def test_a_missing_package_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "openai", None)
        with pytest.raises(ImportError, match=r"pip install 'speech-engine-proto\[llm\]'"):
            OpenAIAgent()
