"""`extract_text` on what the providers' own packages make of their servers' bytes.

Each stream below is written in the provider's wire format of server-sent events. A small HTTP
server on this machine sends the bytes; the client, its stream parser and its types are the real
ones.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from speech_engine_proto.llm import ReplyStreamError, extract_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

anthropic = pytest.importorskip("anthropic")
genai = pytest.importorskip("google.genai")
openai = pytest.importorskip("openai")


@contextmanager
def sending(stream: bytes) -> Iterator[str]:
    """Answer every POST with one recorded stream; yields the server's address."""

    class Recorded(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.end_headers()
            self.wfile.write(stream)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output free of access logs."""

    with HTTPServer(("127.0.0.1", 0), Recorded) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def events(*payloads: dict[str, Any]) -> bytes:
    """Server-sent events that are named after their type, as Responses and Anthropic send them."""
    return b"".join(
        f"event: {payload['type']}\ndata: {json.dumps(payload)}\n\n".encode()
        for payload in payloads
    )


def data(*payloads: dict[str, Any]) -> bytes:
    """Server-sent events without a name, as Chat Completions and Gemini send them."""
    return b"".join(f"data: {json.dumps(payload)}\r\n\r\n".encode() for payload in payloads)


def pieces(stream: Iterable[Any]) -> list[str]:
    return [text for text in map(extract_text, stream) if text is not None]


def failure(stream: Iterable[Any]) -> tuple[str, str]:
    """The text before the error, and the error's message."""
    said = ""
    with pytest.raises(ReplyStreamError) as caught:  # noqa: PT012
        for chunk in stream:
            said += extract_text(chunk) or ""
    return said, str(caught.value)


# --- OpenAI Responses


def response(status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": status,
        "model": "gpt-4.1",
        "output": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        **more,
    }


def part(kind: str, sequence: int, **more: Any) -> dict[str, Any]:
    return {
        "type": f"response.{kind}",
        "item_id": "msg_1",
        "output_index": 0,
        "content_index": 0,
        "sequence_number": sequence,
        **more,
    }


CREATED = {"type": "response.created", "response": response("in_progress"), "sequence_number": 0}
MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "status": "in_progress",
    "role": "assistant",
    "content": [],
}
ADDED = {
    "type": "response.output_item.added",
    "output_index": 0,
    "item": MESSAGE,
    "sequence_number": 1,
}
TEXT_PART = {"type": "output_text", "text": "", "annotations": []}
REFUSAL_PART = {"type": "refusal", "refusal": ""}


def said(*words: str) -> list[dict[str, Any]]:
    return [
        CREATED,
        ADDED,
        part("content_part.added", 2, part=TEXT_PART),
        *(part("output_text.delta", 3, delta=word, logprobs=[]) for word in words),
    ]


def completed(text: str) -> list[dict[str, Any]]:
    content = [TEXT_PART | {"text": text}]
    item = MESSAGE | {"status": "completed", "content": content}
    return [
        part("output_text.done", 7, text=text, logprobs=[]),
        part("content_part.done", 8, part=content[0]),
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response("completed", output=[item])},
    ]


REASONING = {
    "type": "response.reasoning_summary_text.delta",
    "item_id": "rs_1",
    "output_index": 0,
    "summary_index": 0,
    "delta": "They greeted me.",
    "sequence_number": 2,
}


@contextmanager
def responses(*payloads: dict[str, Any]) -> Iterator[Any]:
    with (
        sending(events(*payloads)) as url,
        openai.OpenAI(api_key="k", base_url=url, max_retries=0) as client,
        client.responses.create(model="gpt-4.1", input="Hi", stream=True) as stream,
    ):
        yield stream


def test_responses() -> None:
    with responses(*said("Hel", "lo"), REASONING, *completed("Hello")) as stream:
        assert pieces(stream) == ["Hel", "lo"]


def test_responses_helper() -> None:
    body = events(*said("Hel", "lo"), *completed("Hello"))
    with (
        sending(body) as url,
        openai.OpenAI(api_key="k", base_url=url, max_retries=0) as client,
        client.responses.stream(model="gpt-4.1", input="Hi") as stream,
    ):
        assert pieces(stream) == ["Hel", "lo"]


def test_responses_refusal() -> None:
    with responses(
        CREATED,
        ADDED,
        part("content_part.added", 2, part=REFUSAL_PART),
        part("refusal.delta", 3, delta="I can't "),
        part("refusal.delta", 4, delta="help with that."),
        part("refusal.done", 5, refusal="I can't help with that."),
    ) as stream:
        assert pieces(stream) == ["I can't ", "help with that."]


def test_responses_failed() -> None:
    error = {"code": "server_error", "message": "The model failed."}
    failed = {"type": "response.failed", "response": response("failed", error=error)}
    with responses(*said("Hel"), failed) as stream:
        assert failure(stream) == ("Hel", "The model failed.")


def test_responses_error_event() -> None:
    error = {
        "type": "error",
        "code": "rate_limit_exceeded",
        "message": "Too fast.",
        "param": None,
        "sequence_number": 4,
    }
    with responses(*said("Hel"), error) as stream:
        assert failure(stream) == ("Hel", "Too fast.")


def test_responses_incomplete_is_no_error() -> None:
    details = {"reason": "max_output_tokens"}
    end = {
        "type": "response.incomplete",
        "response": response("incomplete", incomplete_details=details),
    }
    with responses(*said("Hel", "lo"), end) as stream:
        assert pieces(stream) == ["Hel", "lo"]


# --- OpenAI Chat Completions


def chat(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "gpt-4.1",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        **more,
    }


CHAT_ROLE = chat({"role": "assistant", "content": "", "refusal": None})
CHAT_STOP = chat({}, "stop")
CHAT_USAGE = {
    **CHAT_STOP,
    "choices": [],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}
DONE = b"data: [DONE]\n\n"


@contextmanager
def completions(*payloads: dict[str, Any]) -> Iterator[Any]:
    with (
        sending(data(*payloads) + DONE) as url,
        openai.OpenAI(api_key="k", base_url=url, max_retries=0) as client,
        client.chat.completions.create(model="gpt-4.1", messages=[], stream=True) as stream,
    ):
        yield stream


def test_chat() -> None:
    hel, lo = chat({"content": "Hel"}), chat({"content": "lo"})
    with completions(CHAT_ROLE, hel, lo, CHAT_STOP, CHAT_USAGE) as stream:
        assert "".join(pieces(stream)) == "Hello"


def test_chat_helper_says_each_word_once() -> None:
    body = data(CHAT_ROLE, chat({"content": "Hel"}), chat({"content": "lo"}), CHAT_STOP) + DONE
    with (
        sending(body) as url,
        openai.OpenAI(api_key="k", base_url=url, max_retries=0) as client,
        client.chat.completions.stream(model="gpt-4.1", messages=[]) as stream,
    ):
        assert "".join(pieces(stream)) == "Hello"


def test_chat_refusal() -> None:
    no, way = chat({"refusal": "I can't "}), chat({"refusal": "help."})
    with completions(CHAT_ROLE, no, way, CHAT_STOP) as stream:
        assert "".join(pieces(stream)) == "I can't help."


def test_chat_refusal_of_the_helper() -> None:
    body = data(CHAT_ROLE, chat({"refusal": "I can't "}), chat({"refusal": "help."}), CHAT_STOP)
    with (
        sending(body + DONE) as url,
        openai.OpenAI(api_key="k", base_url=url, max_retries=0) as client,
        client.chat.completions.stream(model="gpt-4.1", messages=[]) as stream,
    ):
        assert "".join(pieces(stream)) == "I can't help."


def test_chat_tool_call_is_not_spoken() -> None:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
    with completions(
        CHAT_ROLE, chat({"content": "One moment."}), chat({"tool_calls": [call]})
    ) as stream:
        assert "".join(pieces(stream)) == "One moment."


def test_chat_error_chunk() -> None:
    # The client itself raises on this one; read without a client, it is an error all the same.
    chunk = {"error": {"message": "Bad gateway", "type": "server_error", "code": 502}}
    with (
        completions(CHAT_ROLE, chat({"content": "Hel"}), chunk) as stream,
        pytest.raises(openai.APIError, match="Bad gateway"),
    ):
        pieces(stream)
    assert failure([CHAT_ROLE, chat({"content": "Hel"}), chunk]) == ("Hel", "Bad gateway")


def test_chat_error_that_the_client_keeps_as_an_extra_field() -> None:
    # The same chunk as the client's own object: the error is a field that the type does not know.
    chunk = chat({"content": ""}, "error", error={"message": "Bad gateway", "code": 502})
    with pytest.raises(ReplyStreamError, match=r"^Bad gateway$"):
        extract_text(openai.types.chat.ChatCompletionChunk.construct(**chunk))


# --- Anthropic

USAGE = {"input_tokens": 1, "output_tokens": 1}
ANTHROPIC_START = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4-1",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": USAGE,
    },
}
PING = {"type": "ping"}


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def stop(reason: str) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return [
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]


def text_delta(text: str) -> dict[str, Any]:
    return {"type": "text_delta", "text": text}


THINKING = block(
    0,
    {"type": "thinking", "thinking": "", "signature": ""},
    {"type": "thinking_delta", "thinking": "They greeted me."},
    {"type": "signature_delta", "signature": "c2ln"},
)
HELLO = block(1, {"type": "text", "text": ""}, text_delta("Hel"), text_delta("lo"))
TOOL = block(
    2,
    {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    {"type": "input_json_delta", "partial_json": "{}"},
)
ANTHROPIC_STREAM = events(ANTHROPIC_START, PING, *THINKING, *HELLO, *TOOL, *stop("tool_use"))
ASK: dict[str, Any] = {
    "model": "claude-opus-4-1",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hi"}],
}


# The package warns of models that will retire, whichever is asked for.
@pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")
class TestAnthropic:
    def test_messages(self) -> None:
        with (
            sending(ANTHROPIC_STREAM) as url,
            anthropic.Anthropic(api_key="k", base_url=url, max_retries=0) as client,
            client.messages.create(**ASK, stream=True) as stream,
        ):
            assert pieces(stream) == ["Hel", "lo"]

    def test_helper_says_each_word_once(self) -> None:
        with (
            sending(ANTHROPIC_STREAM) as url,
            anthropic.Anthropic(api_key="k", base_url=url, max_retries=0) as client,
            client.messages.stream(**ASK) as stream,
        ):
            chunks = list(stream)
        assert [chunk.text for chunk in chunks if chunk.type == "text"] == ["Hel", "lo"]
        assert pieces(chunks) == ["Hel", "lo"]

    def test_text_stream_of_the_helper(self) -> None:
        with (
            sending(ANTHROPIC_STREAM) as url,
            anthropic.Anthropic(api_key="k", base_url=url, max_retries=0) as client,
            client.messages.stream(**ASK) as stream,
        ):
            assert pieces(stream.text_stream) == ["Hel", "lo"]

    def test_refusal_keeps_what_was_said(self) -> None:
        with (
            sending(events(ANTHROPIC_START, *HELLO, *stop("refusal"))) as url,
            anthropic.Anthropic(api_key="k", base_url=url, max_retries=0) as client,
            client.messages.create(**ASK, stream=True) as stream,
        ):
            assert pieces(stream) == ["Hel", "lo"]

    def test_error_event(self) -> None:
        # The client itself raises on this one; read without a client, it is an error all the same.
        error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
        with (
            sending(events(ANTHROPIC_START, *HELLO, error)) as url,
            anthropic.Anthropic(api_key="k", base_url=url, max_retries=0) as client,
            client.messages.create(**ASK, stream=True) as stream,
            pytest.raises(anthropic.APIStatusError, match="Overloaded"),
        ):
            pieces(stream)
        assert failure([ANTHROPIC_START, *HELLO, error]) == ("Hello", "Overloaded")


# --- Gemini


def gemini(*parts: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    usage = {"promptTokenCount": 1, "totalTokenCount": 2}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-2.5-flash"}


@contextmanager
def generated(*payloads: dict[str, Any]) -> Iterator[Any]:
    with sending(data(*payloads)) as url:
        client = genai.Client(api_key="k", http_options={"base_url": url})
        try:
            yield client.models.generate_content_stream(model="gemini-2.5-flash", contents="Hi")
        finally:
            client.close()


def test_gemini() -> None:
    with generated(
        gemini({"text": "They greeted me.", "thought": True}, {"text": "Hel"}),
        gemini({"text": "lo, "}, {"functionCall": {"name": "f", "args": {}}}, {"text": "you."}),
        gemini({"text": "More thought.", "thought": True}),
        gemini({"text": ""}, finish="STOP"),
    ) as stream:
        assert pieces(stream) == ["Hel", "lo, you."]


def test_gemini_cut_off_keeps_what_was_said() -> None:
    cut = {"candidates": [{"finishReason": "SAFETY", "index": 0}]}
    with generated(gemini({"text": "Hel"}), cut) as stream:
        assert pieces(stream) == ["Hel"]


BLOCKED = {
    "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
    "usageMetadata": {"promptTokenCount": 1},
    "modelVersion": "gemini-2.5-flash",
}


def test_gemini_blocked_prompt() -> None:
    message = "the prompt was blocked: PROHIBITED_CONTENT"
    with generated(BLOCKED) as stream:
        assert failure(stream) == ("", message)
    assert failure([BLOCKED]) == ("", message)


def test_gemini_error_chunk() -> None:
    # The client itself raises on this one; read without a client, it is an error all the same.
    chunk = {"error": {"code": 503, "message": "Overloaded.", "status": "UNAVAILABLE"}}
    with (
        generated(gemini({"text": "Hel"}), chunk) as stream,
        pytest.raises(genai.errors.APIError, match=r"Overloaded\."),
    ):
        pieces(stream)
    assert failure([gemini({"text": "Hel"}), chunk]) == ("Hel", "Overloaded.")
