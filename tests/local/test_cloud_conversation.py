"""One conversation of the cloud, in memory and in virtual time, with a real agent behind it."""

from __future__ import annotations

import base64
import json
import logging
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech_engine_local.cloud import conversation as conversation_module
from speech_engine_local.cloud import outbox as outbox_module

from ..transports.clock import ASYNCIO, VirtualLoop, settle, virtual
from .memory import INITIATION, Agent, Beeps, Client, RawAgent, initiation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from speech_engine_transports import SpeechEngineSession

pytestmark = pytest.mark.anyio

FIRST = {"overrides": {"first_message": True}}


@pytest.fixture(params=ASYNCIO)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    return virtual(request.param)


class Counting:
    """An agent that counts, five words a second, and notes what it is asked."""

    def __init__(self, words: str = "One two three four five six seven eight nine ten.") -> None:
        self.asked: list[list[tuple[str, str]]] = []
        self.closed = 0
        self._words = words
        self._changed = anyio.Event()

    async def on_transcript(self, transcript: list[Any], session: SpeechEngineSession) -> None:
        self.asked.append([(entry.role, entry.content) for entry in transcript])
        self._changed.set()
        self._changed = anyio.Event()
        await session.send_response(self._count())

    async def wait_for(self, text: str) -> None:
        """Wait until this was the question."""
        while not self.asked or self.asked[-1][-1] != ("user", text):
            await self._changed.wait()

    async def _count(self) -> AsyncIterator[str]:
        for word in self._words.split():
            await anyio.sleep(0.2)
            yield f"{word} "

    def on_close(self, session: SpeechEngineSession) -> None:
        self.closed += 1

    def agent(self) -> Agent:
        return Agent(on_transcript=self.on_transcript, on_close=self.on_close)


COUNTED = "One two three four five six seven eight nine ten. "


class TestAReply:
    async def test_streams_as_text_and_comes_whole(self) -> None:
        async with Client(Counting().agent()) as client:
            client.says("count")
            whole = await client.until("agent_response")
        assert whole["agent_response"] == client.parts == COUNTED
        assert client.types == [
            "conversation_initiation_metadata",
            *["agent_chat_response_part"] * 12,
            "agent_response",
        ]
        parts = client.of("agent_chat_response_part")
        assert [part["type"] for part in parts] == ["start", *["delta"] * 10, "stop"]
        assert {part["event_id"] for part in parts} == {whole["event_id"]}
        assert client.of("conversation_initiation_metadata") == [
            {
                "conversation_id": "conv_1",
                "agent_output_audio_format": "pcm_16000",
                "user_input_audio_format": "pcm_16000",
            }
        ]

    async def test_is_spoken_no_more_than_half_a_second_ahead(self) -> None:
        async with Client(Counting("a. b c d e f g h").agent(), voice=Beeps()) as client:
            client.says("count")
            await client.until("audio", 8)
        pieces = [
            at for at, kind in zip(client.times, client.types, strict=True) if kind == "audio"
        ]
        assert client.sound_seconds == 4.0
        begun = pieces[1]  # the second sentence is complete after the last word
        for index, at in enumerate(pieces[1:]):
            assert at >= begun + 0.5 * index - 0.5 - 1e-6

    async def test_the_next_message_after_its_last_sound_interrupts_nothing(self) -> None:
        counting = Counting("a b.")
        async with Client(counting.agent(), voice=Beeps()) as client:
            client.says("one")
            await client.until("audio", 2)
            await anyio.sleep(1.0)
            client.says("two")
            await client.until("agent_response", 2)
        assert "interruption" not in client.types
        assert counting.asked[1] == [("user", "one"), ("agent", "a b. "), ("user", "two")]

    async def test_without_a_word_sends_nothing(self) -> None:
        async def nothing(_: object, session: SpeechEngineSession) -> None:
            await session.send_response("")

        async with Client(Agent(on_transcript=nothing)) as client:
            client.says("one")
            await anyio.sleep(1)
            client.says("two")
            await anyio.sleep(1)
        assert client.types == ["conversation_initiation_metadata"]

    async def test_only_what_the_engine_lets_clients_have_is_sent(self) -> None:
        counting = Counting()
        events = {"client_events": ["agent_response"]}
        async with Client(
            counting.agent(), voice=Beeps(), settings={"conversation": events}
        ) as client:
            client.says("count")
            await anyio.sleep(0.9)
            client.says("stop")
            await client.until("agent_response", 2)
        assert set(client.types) == {"conversation_initiation_metadata", "agent_response"}

    async def test_a_synthesizer_that_fails_leaves_the_text(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        voice = Beeps(fails=True)
        counting = Counting("Secret words.")
        async with Client(counting.agent(), voice=voice) as client:
            client.says("count")
            await client.until("agent_response")
            await settle()
            client.says("on")
            await client.until("agent_response", 2)
        assert "interruption" not in client.types
        assert counting.asked[1][1] == ("agent", "Secret words. ")
        assert "RuntimeError" in caplog.text
        assert "Secret" not in caplog.text

    async def test_a_text_that_halts_is_spoken_meanwhile(self) -> None:
        agent, voice = RawAgent(), Beeps()
        async with Client(agent, voice=voice) as client:
            client.says("hello")
            await anyio.sleep(1)
            agent.says("One moment.")  # a stop counts once something follows it
            await anyio.sleep(0.4)
            assert voice.spoken == []
            await anyio.sleep(0.2)
            assert voice.spoken == ["One moment."]
            agent.says(" Here.")
            agent.says("", final=True)
            await client.until("audio", 3)
            await anyio.sleep(2)
            client.says("thanks")
            await settle()
        assert voice.spoken == ["One moment.", " Here."]
        history = agent.transcripts[-1]["user_transcript"]
        assert history[1] == {"role": "agent", "content": "One moment. Here."}

    async def test_ulaw_is_sent_where_it_was_announced(self) -> None:
        tts = {"agent_output_audio_format": "ulaw_8000"}
        async with Client(Counting("one.").agent(), voice=Beeps(), settings={"tts": tts}) as client:
            client.says("count")
            event = await client.until("audio")
        assert len(base64.b64decode(event["audio_base_64"])) == 4000
        metadata = client.of("conversation_initiation_metadata")[0]
        assert metadata["agent_output_audio_format"] == "ulaw_8000"

    async def test_it_is_spoken_in_the_speed_and_the_language_of_the_engine(self) -> None:
        voice, settings = Beeps(), {"tts": {"speed": 1.1}, "language": "de"}
        async with Client(Counting("eins.").agent(), voice=voice, settings=settings) as client:
            client.says("count")
            await client.until("audio")
        assert voice.manners == {(1.1, "de")}


class TestAnInterruption:
    async def test_stops_the_sound_and_cuts_the_history_to_what_was_heard(self) -> None:
        counting, voice = Counting("One two three four five six. "), Beeps()
        async with Client(counting.agent(), voice=voice) as client:
            client.says("count")
            await client.until("audio")
            await anyio.sleep(1.2)  # of half a second each, two words were heard, and a half
            client.says("stop")
            await settle()
            told = client.frames[:]
            await anyio.sleep(0.05)
            heard = counting.asked[1]
        kinds = [frame["type"] for frame in told]
        first = kinds.index("interruption")
        assert kinds[first:] == ["interruption", "agent_response_correction"]
        interruption = client.of("interruption")[0]["event_id"]
        assert all(event["event_id"] < interruption for event in client.of("audio")[:4])
        correction = client.of("agent_response_correction")[0]
        assert correction["original_agent_response"] == "One two three four five six. "
        assert correction["corrected_agent_response"].strip() == "One two"
        assert heard == [
            ("user", "count"),
            ("agent", correction["corrected_agent_response"]),
            ("user", "stop"),
        ]
        assert voice.open == 0

    async def test_no_sound_of_the_old_reply_follows_it(self) -> None:
        async with Client(Counting("a b c d e f.").agent(), voice=Beeps()) as client:
            client.says("one")
            await client.until("audio")
            client.says("two")
            await client.until("audio", 5)
        at = client.types.index("interruption")
        border = client.of("interruption")[0]["event_id"]
        for index, frame in enumerate(client.frames):
            if frame["type"] == "audio":
                assert (frame["audio_event"]["event_id"] > border) == (index > at)

    async def test_in_text_what_was_sent_was_heard(self) -> None:
        counting = Counting()
        async with Client(
            counting.agent(), settings={"conversation": {"text_only": True}}
        ) as client:
            client.says("count")
            await client.until("agent_chat_response_part", 4)
            client.says("stop")
            await client.until("agent_response", 2)
        assert client.of("agent_response")[0]["agent_response"] == "One two three "
        assert client.of("agent_response_correction")[0] == {
            "original_agent_response": "One two three ",
            "corrected_agent_response": "One two three ",
            "event_id": client.of("agent_response")[0]["event_id"],
        }
        assert counting.asked[1][1] == ("agent", "One two three ")
        kinds = client.types
        stop = [part["type"] for part in client.of("agent_chat_response_part")].index("stop")
        assert stop == 4
        assert kinds.index("agent_response") < kinds.index("interruption")

    async def test_before_the_first_word_there_is_nothing_to_tell(self) -> None:
        counting = Counting()
        async with Client(counting.agent()) as client:
            client.says("one")
            await anyio.sleep(0.1)
            client.says("two")
            await client.until("agent_response")
        assert "interruption" not in client.types
        assert len(client.of("agent_response")) == 1
        assert counting.asked[-1] == [("user", "one"), ("user", "two")]

    async def test_a_burst_is_answered_once_at_its_end(self) -> None:
        counting = Counting()
        async with Client(counting.agent()) as client:
            for number in range(20):
                client.says(f"message {number}")
            whole = await client.until("agent_response")
            await anyio.sleep(5)
        assert whole["agent_response"] == COUNTED
        assert len(client.of("agent_response")) == 1
        assert len(counting.asked[-1]) == 20


class TestTheFirstMessage:
    async def test_is_spoken_and_never_asked(self) -> None:
        counting, voice = Counting("Fine."), Beeps()
        first = initiation(agent={"first_message": "Good day."})
        async with Client(counting.agent(), voice=voice, first=first, settings=FIRST) as client:
            await client.until("audio", 2)
            await anyio.sleep(1)
            assert counting.asked == []
            client.says("hello")
            await client.until("agent_response", 2)
        assert client.types[:2] == ["conversation_initiation_metadata", "agent_response"]
        assert client.of("agent_response")[0]["agent_response"] == "Good day."
        assert voice.spoken[0] == "Good day."
        assert counting.asked == [[("agent", "Good day."), ("user", "hello")]]
        assert "interruption" not in client.types

    async def test_interrupted_is_cut_to_what_was_heard(self) -> None:
        counting = Counting()
        first = initiation(agent={"first_message": "One two three four."})
        async with Client(counting.agent(), voice=Beeps(), first=first, settings=FIRST) as client:
            await client.until("audio")
            await anyio.sleep(0.7)
            client.says("hello")
            correction = await client.until("agent_response_correction")
            await settle()
        assert correction["original_agent_response"] == "One two three four."
        assert correction["corrected_agent_response"].strip() == "One"
        assert counting.asked[0][0] == ("agent", correction["corrected_agent_response"])

    async def test_of_which_nothing_was_heard_leaves_no_entry(self) -> None:
        counting = Counting()
        first = initiation(agent={"first_message": "One two three four."})
        async with Client(counting.agent(), voice=Beeps(), first=first, settings=FIRST) as client:
            await client.until("audio")
            client.says("hello")
            await client.until("interruption")
            await settle()
        assert counting.asked == [[("user", "hello")]]

    async def test_is_refused_where_the_engine_does_not_allow_it(self) -> None:
        agent = Counting().agent()
        async with Client(agent, first=initiation(agent={"first_message": "Hi"})) as client:
            closed = await client.over()
        reason = "Override for field 'first_message' is not allowed by config."
        assert closed == (1008, reason)
        assert client.frames == [
            {"type": "error", "error_event": {"code": 1008, "message": reason}}
        ]
        assert agent.dialled == 0


class TestTheBeginning:
    async def test_metadata_waits_for_the_first_frame_at_most_five_seconds(self) -> None:
        async with Client(Counting().agent(), first=None) as client:
            await client.until("conversation_initiation_metadata")
            assert client.times == [5.0]
            client.sends(INITIATION)  # late, and harmless
            client.says("count")
            await client.until("agent_response")

    async def test_another_frame_first_breaks_the_protocol(self) -> None:
        agent = Counting().agent()
        async with Client(agent, first={"type": "user_message", "text": "hi"}) as client:
            closed = await client.over()
        assert closed is not None
        assert closed[0] == 1002
        assert client.of("error")[0]["code"] == 1002
        assert agent.dialled == 0

    async def test_no_json_first_breaks_the_protocol(self) -> None:
        async with Client(Counting().agent(), first="hello") as client:
            assert await client.over() == (1002, "frame: expected JSON, got something else")

    async def test_nothing_comes_before_the_metadata(self) -> None:
        async with Client(Counting().agent()) as client:
            client.sends("garbage in the same read as the first frame")
            client.says("count")
            await client.until("agent_response")
        assert client.types[:2] == ["conversation_initiation_metadata", "error"]

    async def test_the_setup_of_an_orchestrator_may_come_before(self) -> None:
        async with Client(Counting().agent(), first={"type": "enclave_setup_config"}) as client:
            client.sends(INITIATION)
            await client.until("conversation_initiation_metadata")
        assert client.times[0] < 0.1

    async def test_a_client_that_leaves_before_it(self) -> None:
        agent = Counting().agent()
        async with Client(agent, first=None) as client:
            await anyio.sleep(1)
            client.end.end()
            await client.over()
        assert agent.dialled == 0

    @pytest.mark.parametrize(
        ("override", "field"),
        [
            ({"agent": {"prompt": {"prompt": "be rude"}}}, "prompt"),
            ({"agent": {"language": "de"}}, "language"),
            ({"tts": {"voice_id": "x"}}, "voice_id"),
            ({"asr": {"keywords": ["x"]}}, "keywords"),
        ],
    )
    async def test_other_overrides_are_refused(self, override: dict[str, Any], field: str) -> None:
        async with Client(
            Counting().agent(), first=initiation(**override), settings=FIRST
        ) as client:
            closed = await client.over()
        assert closed == (1008, f"Override for field '{field}' is not allowed by config.")

    @pytest.mark.parametrize(
        "override", [{"text_only": True}, {"conversation": {"text_only": True}}]
    )
    async def test_text_only_may_be_asked_for_in_both_places(
        self, override: dict[str, Any]
    ) -> None:
        voice = Beeps()
        async with Client(
            Counting("one.").agent(), voice=voice, first=initiation(**override)
        ) as client:
            client.says("count")
            await client.until("agent_response")
            await anyio.sleep(5)
        assert "audio" not in client.types
        assert voice.spoken == []

    async def test_variables_fill_headers(self, caplog: pytest.LogCaptureFixture) -> None:
        agent = Counting().agent()
        headers = {
            "X-Plain": "as it is",
            "X-User": {"variable_name": "user"},
            "X-Paid": {"variable_name": "paid"},
            "X-None": {"variable_name": "unknown"},
            "X-Evil": {"variable_name": "evil"},
            "X-Secret": {"secret_id": "s1"},
        }
        variables = {"user": "José", "paid": True, "evil": "a\r\nX-Admin: 1"}
        engine = {"ws_url": "ws://memory/ws", "request_headers": headers}
        first = {**INITIATION, "dynamic_variables": variables}
        async with Client(agent, first=first, settings={"speech_engine": engine}) as client:
            await client.until("conversation_initiation_metadata")
            await settle()
        sent = dict(agent.headers)
        token = sent.pop("X-Elevenlabs-Speech-Engine-Authorization")
        assert token.count(".") == 2
        assert sent == {"X-Plain": "as it is", "X-User": "José", "X-Paid": "true"}
        assert "José" not in caplog.text
        for left_out in ("X-None", "X-Evil", "X-Secret"):
            assert left_out in caplog.text


class TestWhatTheClientSends:
    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            ("not json", 1002),
            ("[1]", 1002),
            ("null", 1002),
            ("[" * 100_000, 1002),
            ('{"no": "type"}', 1002),
            ('{"type": 7}', 1002),
            ('{"type": "user_message"}', 1002),
            ('{"type": "user_message", "text": 5}', 1002),
            ('{"type": "user_message", "text": " "}', 1008),
            ('{"type": "pong", "event_id": "x"}', 1002),
            ('{"user_audio_chunk": 5}', 1002),
            ('{"user_audio_chunk": "!"}', 1002),
            (b"\x00\xff", 1002),
            (b'{"type": "user_activity"}', 1002),
            ('"' + "x" * 1_100_000 + '"', 1008),
        ],
    )
    async def test_wrong_frames_are_told_and_the_conversation_goes_on(
        self, frame: str | bytes, code: int
    ) -> None:
        async with Client(Counting().agent()) as client:
            await client.until("conversation_initiation_metadata")
            client.sends(frame)
            assert (await client.until("error"))["code"] == code
            client.says("count")
            await client.until("agent_response")

    @pytest.mark.parametrize(
        "frame",
        [
            {"type": "user_activity"},
            {"type": "contextual_update", "text": "x"},
            {"type": "feedback", "event_id": 1, "score": "like"},
            {"type": "client_tool_result", "tool_call_id": "x", "result": "", "is_error": False},
            {"type": "something_new"},
            {"type": "pong", "event_id": 77},
            {"user_audio_chunk": ""},
        ],
    )
    async def test_what_asks_for_nothing_is_taken_in_silence(self, frame: dict[str, Any]) -> None:
        async with Client(Counting().agent()) as client:
            await client.until("conversation_initiation_metadata")
            client.sends(frame)
            await settle()
            assert client.types == ["conversation_initiation_metadata"]

    async def test_a_multimodal_message_with_text_is_a_message(self) -> None:
        counting = Counting()
        async with Client(counting.agent()) as client:
            text = {"type": "user_message", "text": "look"}
            client.sends({"type": "multimodal_message", "text": text})
            await client.until("agent_response")
        assert counting.asked == [[("user", "look")]]

    async def test_the_microphone_is_counted_and_told_of_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        async with Client(Counting().agent()) as client:
            await client.until("conversation_initiation_metadata")
            for _ in range(100):
                client.sends({"user_audio_chunk": base64.b64encode(bytes(1024)).decode()})
            client.says("count")
            await client.until("agent_response")
        assert caplog.text.count("no speech recognition") == 1

    async def test_pings_tell_the_round_trip_of_the_last(self) -> None:
        async with Client(Counting().agent()) as client:
            first = await client.until("ping")
            assert client.times[-1] == pytest.approx(10.0)
            await anyio.sleep(0.25)
            client.sends({"type": "pong", "event_id": first["event_id"]})
            second = await client.until("ping", 2)
        assert first["ping_ms"] == 0
        assert second["ping_ms"] == pytest.approx(260, abs=11)
        assert second["event_id"] > first["event_id"]

    async def test_too_many_messages_end_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(conversation_module, "MAX_MESSAGES", 3)
        async with Client(Counting().agent()) as client:
            await client.until("conversation_initiation_metadata")
            for _ in range(4):
                client.says("hi")
            closed = await client.over()
        assert closed is not None
        assert closed[0] == 1008

    async def test_messages_that_cannot_wait_are_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(conversation_module, "MAX_WAITING_MESSAGES", 1)
        counting = Counting()
        async with Client(counting.agent()) as client:
            await client.until("conversation_initiation_metadata")
            for number in range(3):  # the agent is not asked before a moment has passed
                client.says(f"message {number}")
            await client.until("agent_response")
        assert [error["code"] for error in client.of("error")] == [1008, 1008]
        assert counting.asked == [[("user", "message 0")]]


class TestTheAgent:
    async def test_that_is_down(self) -> None:
        async with Client(Agent(refuse="no")) as client:
            closed = await client.over()
        assert closed is not None
        assert closed[0] == 1011
        assert "nobody listens there" in closed[1]
        assert client.types == ["conversation_initiation_metadata", "error"]
        assert client.of("error")[0]["code"] == 1011

    async def test_that_never_answers_is_asked_three_times(self) -> None:
        agent = RawAgent()
        async with Client(agent, settings={"cascade_timeout_seconds": 3}) as client:
            client.says("hello")
            closed = await client.over()
        asked = [
            at - client.begun
            for at, kind in zip(agent.times, agent.types, strict=True)
            if kind == "user_transcript"
        ]
        assert asked == pytest.approx([0.05, 3.05, 6.05])
        assert closed == (1011, "agent: expected a word within 9 s, asked 3 times, got none")
        assert client.of("error")[0]["message"] == closed[1]
        assert agent.types[-2:] == ["error", "close"]

    async def test_that_vanishes(self) -> None:
        agent = RawAgent()
        async with Client(agent) as client:
            await anyio.sleep(1)
            agent.socket.end()
            assert await client.over() == (1011, "agent: it ended the call")

    @pytest.mark.parametrize("spoken", [False, True])
    async def test_that_says_goodbye_and_hangs_up_is_heard_to_its_end(self, spoken: bool) -> None:
        voice = Beeps() if spoken else None

        async def goodbye(_: object, session: SpeechEngineSession) -> None:
            await session.send_response("Well then, goodbye.")
            session.close()

        async with Client(Agent(on_transcript=goodbye), voice=voice) as client:
            client.says("bye")
            await client.until("agent_response")
            spoken_from = anyio.current_time()
            assert await client.over() == (1000, "the agent ended the call")
        assert "error" not in client.types
        if spoken:  # three words of half a second
            assert anyio.current_time() - spoken_from >= 1.4
            assert len(client.of("audio")) == 3

    async def test_that_hangs_up_with_another_code(self) -> None:
        agent = RawAgent()
        async with Client(agent) as client:
            await anyio.sleep(1)
            await agent.socket.close(1001)
            assert await client.over() == (1011, "agent: it ended the call")

    async def test_that_hangs_up_in_a_reply(self) -> None:
        agent = RawAgent()
        async with Client(agent) as client:
            client.says("hello")
            await anyio.sleep(1)
            agent.says("Well")
            await settle()
            agent.socket.end()
            closed = await client.over()
        assert closed == (1011, "agent: expected the rest of a reply, got the end of the socket")
        assert client.of("agent_response")[0]["agent_response"] == "Well"

    async def test_that_floods(self) -> None:
        agent = RawAgent()
        async with Client(agent) as client:
            client.says("hello")
            await anyio.sleep(1)
            for _ in range(1_001):
                agent.says("x" * 100)
            closed = await client.over()
        assert closed is not None
        assert closed[0] == 1011
        assert "at most 100000 characters" in closed[1]
        assert len(client.parts) <= 100_000
        assert agent.types[-2:] == ["error", "close"]

    async def test_that_answers_garbage(self, caplog: pytest.LogCaptureFixture) -> None:
        agent = RawAgent()
        async with Client(agent) as client:
            client.says("hello")
            await anyio.sleep(1)
            for _ in range(conversation_module.MAX_VIOLATIONS):
                agent.socket.other.put("secret garbage")
            closed = await client.over()
        assert closed == (1011, "agent: it broke the protocol 100 times")
        assert "secret" not in caplog.text

    async def test_one_wrong_message_changes_nothing(self) -> None:
        agent = RawAgent()
        async with Client(agent) as client:
            client.says("hello")
            await anyio.sleep(1)
            agent.socket.other.put("garbage")
            agent.says("Fine.")
            agent.says("", final=True)
            assert (await client.until("agent_response"))["agent_response"] == "Fine."

    async def test_that_forgets_the_terminator(self) -> None:
        agent = RawAgent()
        async with Client(agent) as client:
            client.says("hello")
            await anyio.sleep(1)
            agent.says("Well")
            assert (await client.until("agent_response"))["agent_response"] == "Well"
            assert client.times[-1] == pytest.approx(31, abs=0.1)
            assert "error" not in client.types
            client.says("go on")
            await settle()
        assert agent.transcripts[1]["user_transcript"][1] == {"role": "agent", "content": "Well"}

    async def test_that_forgets_the_terminator_and_then_hangs_up(self) -> None:
        agent = RawAgent()
        async with Client(agent) as client:
            client.says("hello")
            await anyio.sleep(1)
            agent.says("Well")
            await client.until("agent_response")
            agent.socket.end()
            assert await client.over() == (1011, "agent: it ended the call")

    async def test_whose_handler_fails_has_said_nothing(self) -> None:
        asked = 0

        async def fails_once(_: object, session: SpeechEngineSession) -> None:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise RuntimeError("no")
            await session.send_response("Here.")

        agent = Agent(on_transcript=fails_once, on_error=lambda *_: None)
        async with Client(agent) as client:
            client.says("hello")
            await anyio.sleep(20)  # its terminator, without a word, is an answer
            client.says("hello?")
            await client.until("agent_response")
        assert asked == 2
        assert "error" not in client.types


class TestTheEnd:
    async def test_a_client_that_does_not_read_it_is_cut_off(self) -> None:
        agent = RawAgent()
        async with Client(agent) as client:
            await client.until("conversation_initiation_metadata")
            client.link.stalled = True
            agent.socket.end()
            await client.over()
            assert anyio.current_time() - client.begun == pytest.approx(5.0, abs=0.1)
        assert client.link.aborted

    async def test_a_message_that_crosses_with_the_agents_end(self) -> None:
        agent = RawAgent()
        async with Client(agent) as client:
            await anyio.sleep(1)
            agent.socket.end()
            client.says("are you there?")
            assert await client.over() == (1011, "agent: it ended the call")
        assert agent.transcripts == []

    async def test_a_failure_of_the_cloud_is_told_without_its_words(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        agent = Counting().agent()
        async with Client(agent, voice=Beeps(), first=None) as client:
            client.engine.settings["tts"]["agent_output_audio_format"] = "mp3_secret"
            client.sends(INITIATION)
            closed = await client.over()
        assert closed == (1011, "the cloud failed; see its log")
        assert client.types == ["error"]
        assert "ValueError" in caplog.text
        assert "_choose_voice" in caplog.text
        assert "secret" not in caplog.text

    async def test_a_client_that_leaves_ends_the_call(self) -> None:
        counting = Counting()
        agent = counting.agent()
        async with Client(agent) as client:
            client.says("count")
            await client.until("agent_chat_response_part", 3)
            client.end.end()
            await client.over()
            await settle()
            assert agent.left.is_set()
        assert counting.closed == 1

    async def test_time_is_up(self) -> None:
        counting = Counting()
        settings = {"max_duration_seconds": 60}
        async with Client(counting.agent(), settings={"conversation": settings}) as client:
            closed = await client.over()
        assert client.times[-1] == pytest.approx(60.0)
        assert closed == (1000, "the conversation reached its 60 seconds")
        assert client.of("error")[0]["error_type"] == "max_duration_exceeded"
        assert counting.closed == 1

    async def test_time_is_up_in_a_reply(self) -> None:
        agent = RawAgent()
        settings = {"conversation": {"max_duration_seconds": 10}}
        async with Client(agent, settings=settings) as client:
            await anyio.sleep(9)
            client.says("hello")
            await settle()
            agent.says("Well, ")
            assert (await client.over() or (0, ""))[0] == 1000
        assert client.of("agent_chat_response_part")[-1]["type"] == "stop"
        assert client.of("agent_response")[0]["agent_response"] == "Well, "
        assert client.types[-1] == "error"

    async def test_a_cloud_that_stops_says_so(self) -> None:
        counting = Counting()
        async with Client(counting.agent()) as client:
            await client.until("conversation_initiation_metadata")
            client.running.cancel()
            await client.over()
            await settle()
        assert client.link.closed == (1001, "the cloud stops")
        assert counting.closed == 1


class TestAClientThatDoesNotRead:
    async def test_is_cut_off_after_ten_seconds(self) -> None:
        agent = RawAgent()
        async with Client(agent, stalled=True) as client:
            client.says("hello")
            await client.over()
            assert anyio.current_time() - client.begun == pytest.approx(10.0)
        assert client.link.aborted

    async def test_does_not_keep_the_agents_pings_waiting(self) -> None:
        agent = RawAgent()
        async with Client(agent, voice=Beeps()) as client:
            await anyio.sleep(15)
            client.says("hello")
            await settle()
            client.link.stalled = True
            agent.says("One two three four five six seven.")
            await client.over()
            assert anyio.current_time() - client.begun == pytest.approx(25.0)
        pings = [
            at - client.begun
            for at, kind in zip(agent.times, agent.types, strict=True)
            if kind == "ping"
        ]
        assert pings == pytest.approx([20.0])

    async def test_cannot_pile_up_frames(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(outbox_module, "MAX_WAITING", 10)
        async with Client(Counting().agent()) as client:
            await client.until("conversation_initiation_metadata")
            client.link.stalled = True
            for _ in range(12):
                client.sends("garbage")
            await client.over()
            assert anyio.current_time() - client.begun < 1
        assert client.link.aborted


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
TYPES = st.sampled_from(
    [
        "conversation_initiation_client_data",
        "user_message",
        "multimodal_message",
        "pong",
        "user_activity",
        "enclave_setup_config",
    ]
)
FIELDS = st.sampled_from(
    [
        "text",
        "event_id",
        "conversation_config_override",
        "dynamic_variables",
        "user_audio_chunk",
        "type",
    ]
)
NEAR_MISSES = st.builds(
    lambda name, fields: {"type": name, **fields}, TYPES, st.dictionaries(FIELDS, JSON)
)
FRAMES = st.one_of(
    st.text(),
    st.binary(),
    JSON.map(json.dumps),
    NEAR_MISSES.map(json.dumps),
    st.dictionaries(FIELDS, JSON).map(json.dumps),
)


def in_virtual_time(main: Callable[[], Awaitable[None]]) -> None:
    anyio.run(main, backend_options={"loop_factory": VirtualLoop})


class TestWhateverTheClientDoes:
    @given(st.lists(FRAMES, max_size=10))
    def test_no_frame_breaks_a_conversation(self, frames: list[str | bytes]) -> None:
        async def main() -> None:
            counting = Counting("Still here.")
            async with Client(counting.agent()) as client:
                await client.until("conversation_initiation_metadata")
                for frame in frames:
                    client.sends(frame)
                client.says("are you there?")
                await counting.wait_for("are you there?")
                answers = len(client.of("agent_response"))
                await client.until("agent_response", answers + 1)
                assert not client.ended.is_set()
            assert {frame["code"] for frame in client.of("error")} <= {1002, 1008}

        in_virtual_time(main)

    @given(FRAMES)
    def test_any_first_frame_begins_or_ends_it(self, frame: str | bytes) -> None:
        async def main() -> None:
            async with Client(Counting().agent(), first=None) as client:
                client.sends(frame)
                await anyio.sleep(6)
                if client.ended.is_set():
                    assert client.link.closed is not None
                    assert client.link.closed[0] in (1002, 1008)
                    assert client.types == ["error"]
                else:
                    assert client.types == ["conversation_initiation_metadata"]

        in_virtual_time(main)

    @given(st.lists(st.integers(0, 30).map(lambda tenths: tenths / 10), max_size=8), st.booleans())
    def test_whenever_it_interrupts(self, pauses: list[float], text_only: bool) -> None:
        async def main() -> None:
            counting = Counting("One two. Three four, five six seven.")
            settings = {"text_only": text_only}
            async with Client(
                counting.agent(), voice=Beeps(), settings={"conversation": settings}
            ) as client:
                for index, pause in enumerate(pauses):
                    client.says(f"question {index}")
                    await anyio.sleep(pause)
                client.says("the last")
                await anyio.sleep(20)
                check_frames(client.frames)
                check_history(client, counting.asked[-1])

        in_virtual_time(main)


def check_frames(frames: list[dict[str, Any]]) -> None:
    """Hold the frames against the rules: nothing stale, nothing twice, parts in order."""
    border, whole, open_part = 0, set[int](), None
    for frame in frames:
        event: Any = next((value for key, value in frame.items() if key != "type"), {})
        match frame["type"]:
            case "interruption":
                assert event["event_id"] > border
                border = event["event_id"]
            case "audio":
                assert event["event_id"] > border
            case "agent_response":
                assert event["event_id"] not in whole
                assert event["event_id"] > border
                whole.add(event["event_id"])
            case "agent_chat_response_part" if event["type"] == "start":
                assert open_part is None
                open_part = event["event_id"]
            case "agent_chat_response_part":
                assert open_part == event["event_id"]
                if event["type"] == "stop":
                    open_part = None
            case _:
                pass
    assert open_part is None


def check_history(client: Client, asked: list[tuple[str, str]]) -> None:
    """Hold what the agent was told was heard against what the client was told."""
    corrected = {
        event["event_id"]: event["corrected_agent_response"]
        for event in client.of("agent_response_correction")
    }
    told = [
        corrected.get(event["event_id"], event["agent_response"])
        for event in client.of("agent_response")
    ]
    history = [content for role, content in asked if role == "agent"]
    assert history == [text for text in told[:-1] if text]


async def test_both_wires_are_kept_without_sound() -> None:
    async with Client(Counting("one.").agent(), voice=Beeps()) as client:
        client.says("count")
        client.sends({"user_audio_chunk": base64.b64encode(bytes(96)).decode()})
        await client.until("audio")
        client.end.end()
        await client.over()
        lines = [line async for line in client.wires.follow("conv_1")]
    told = [(line.link, line.dir, json.loads(line.frame)) for line in lines]
    assert told[0] == ("client", "in", INITIATION)
    assert ("agent", "out", {"type": "close"}) in told
    assert ("client", "in", {"user_audio_chunk": "<96 bytes>"}) in told
    sound = [body["audio_event"] for *_, body in told if body.get("type") == "audio"]
    assert [event["audio_base_64"] for event in sound] == ["<16000 bytes>"]
    kinds = {(link, direction, body.get("type")) for link, direction, body in told}
    assert ("agent", "in", "agent_response") in kinds
    assert ("agent", "out", "user_transcript") in kinds


async def test_no_word_of_it_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    agent = RawAgent()
    async with Client(agent) as client:
        client.says("a secret question")
        await anyio.sleep(1)
        agent.says("a secret answer")
        await settle()
        client.says("another secret")
        client.sends("secret garbage")
        await settle()
        agent.socket.end()
        await client.over()
    assert "secret" not in caplog.text
