"""Text out of chunks: every shape of the module's table, as dictionaries and as objects.

The same shapes as the providers' own packages make them are in `tests/interop`.
"""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech_engine_proto import ConversationMessage
from speech_engine_proto.llm import ReplyStreamError, extract_text, to_messages


class Slotted:
    """An object whose fields are no entries of a `__dict__`."""

    __slots__ = ("choices", "type")

    def __init__(self, choices: object) -> None:
        self.choices = choices
        self.type = None


class Lazy:
    """An object whose fields are made when they are asked for."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        try:
            return as_lazy(self._fields[name])
        except KeyError:
            raise AttributeError(name) from None


class BlockedReason(str, Enum):  # noqa: UP042  (what google-genai has: its str() is no value)
    SAFETY = "SAFETY"


def as_object(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{str(name): as_object(item) for name, item in value.items()})
    return [as_object(item) for item in value] if isinstance(value, list) else value


def as_lazy(value: Any) -> Any:
    if isinstance(value, dict):
        return Lazy(value)
    return tuple(as_lazy(item) for item in value) if isinstance(value, list) else value


def as_dict(value: Any) -> Any:
    return value


shaped = pytest.mark.parametrize("shaped", [as_dict, as_object, as_lazy])


def chat(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta}]}


def anthropic(**delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": delta}


def gemini(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}}]}


# --- text

TEXTS: list[tuple[str, Any]] = [
    ("Hi", {"type": "response.output_text.delta", "delta": "Hi"}),
    ("I can't", {"type": "response.refusal.delta", "delta": "I can't"}),
    ("Hi", chat(role="assistant", content="Hi", refusal=None)),
    ("I can't", chat(content=None, refusal="I can't")),
    ("I can't", chat(content="", refusal="I can't")),
    ("first", {"choices": [{"delta": {"content": "first"}}, {"delta": {"content": "second"}}]}),
    ("Hi", {"type": "content.delta", "delta": "Hi", "snapshot": "Oh. Hi"}),
    ("I can't", {"type": "refusal.delta", "delta": "I can't", "snapshot": "I can't"}),
    ("Hi", {"type": "chat.completion.chunk", **chat(content="Hi")}),
    ("Hi", anthropic(type="text_delta", text="Hi")),
    ("Hi", gemini({"text": "Hi"})),
    ("One, two.", gemini({"text": "One, "}, {"text": "two."})),
    ("Said", gemini({"text": "Hm.", "thought": True}, {"text": "Said", "thought": False})),
    ("ab", gemini({"text": "a", "thought": None}, {"functionCall": {}}, {"text": "b"})),
    ("Hi", {"error": None, **chat(content="Hi")}),
]


@shaped
@pytest.mark.parametrize(("text", "chunk"), TEXTS)
def test_text(shaped: Any, text: str, chunk: Any) -> None:
    assert extract_text(shaped(chunk)) == text


@pytest.mark.parametrize("text", ["Hi", "", " ", "\n", "\ud83d", "data: {}"])
def test_plain_text_is_left_as_it_stands(text: str) -> None:
    assert extract_text(text) is text


def test_fields_in_slots_and_in_classes() -> None:
    class Delta:
        type = "response.output_text.delta"

        def __init__(self, delta: str) -> None:
            self.delta = delta

    assert extract_text(Slotted([{"delta": {"content": "Hi"}}])) == "Hi"
    assert extract_text(Delta("Hi")) == "Hi"


def test_tuples_are_lists() -> None:
    assert extract_text({"choices": ({"delta": {"content": "Hi"}},)}) == "Hi"
    assert extract_text({"candidates": ({"content": {"parts": ({"text": "Hi"},)}},)}) == "Hi"


# --- nothing to say

NOTHING: list[Any] = [
    {"type": "response.created", "response": {"error": None}},
    {"type": "response.output_text.done", "text": "all of it again"},
    {"type": "response.refusal.done", "refusal": "all of it again"},
    {"type": "response.reasoning_text.delta", "delta": "Hm."},
    {"type": "response.function_call_arguments.delta", "delta": "{"},
    {"type": "response.incomplete", "response": {"incomplete_details": {"reason": "max"}}},
    {"type": "response.steer.failed", "error": {"message": "too late"}},
    {"type": "response.completed", "response": {}},
    {"type": "response.output_text.delta", "delta": None},
    {"type": "response.output_text.delta", "delta": ["Hi"]},
    {"type": "response.output_text.delta"},
    {"choices": []},
    {"choices": None},
    {"choices": [None]},
    {"choices": [{"delta": None}]},
    {"choices": [{"delta": {}, "finish_reason": "content_filter"}]},
    {"choices": {"0": {"delta": {"content": "Hi"}}}},
    chat(role="assistant", content=""),
    chat(content=None, tool_calls=[{"function": {"arguments": "{"}}]),
    chat(content=["Hi"], refusal=5),
    {"type": "chunk", "chunk": chat(content="told again by content.delta")},
    {"type": "text", "text": "told before", "snapshot": "told before"},
    {"type": "message_start", "message": {"content": []}},
    {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_stop", "content_block": {"type": "text", "text": "again"}},
    {"type": "message_delta", "delta": {"stop_reason": "refusal"}},
    {"type": "ping"},
    anthropic(type="thinking_delta", thinking="Hm."),
    anthropic(type="input_json_delta", partial_json="{"),
    anthropic(type="text_delta", text=None),
    anthropic(type="some_later_delta", text="not known to be speech"),
    {"type": "content_block_delta"},
    gemini(),
    gemini({"text": "Hm.", "thought": True}),
    gemini({"text": ""}),
    gemini({"text": None, "functionCall": {}}),
    {"candidates": [{"content": None, "finishReason": "SAFETY"}]},
    {"candidates": [{"content": {"parts": "text"}}]},
    {"candidates": []},
    {"usageMetadata": {"totalTokenCount": 5}, "promptFeedback": {"safetyRatings": []}},
    {"error": None},
    {"error": {}},
    {"error": False},
    {"error": [1]},
    {"error": ""},
    {"promptFeedback": {"blockReason": None}},
    {},
    {"type": None},
    {"type": 5},
    {"type": ["response.output_text.delta"], "delta": "Hi"},
    {"delta": "Hi"},
    {"text": "Hi"},
    None,
    True,
    5,
    2.5,
    b"Hi",
    [],
    ["Hi"],
    pytest.param(object(), id="an object"),
    dict,
]


@shaped
@pytest.mark.parametrize("chunk", NOTHING, ids=lambda chunk: repr(chunk)[:60])
def test_no_text(shaped: Any, chunk: Any) -> None:
    assert extract_text(shaped(chunk)) is None


def test_an_object_that_has_every_attribute_says_nothing() -> None:
    assert extract_text(MagicMock()) is None


# --- errors

ERRORS: list[tuple[str, Any]] = [
    (
        "Overloaded",
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
    ),
    ("overloaded_error", {"type": "error", "error": {"type": "overloaded_error", "message": ""}}),
    ("No more.", {"type": "error", "code": "rate_limit", "message": "No more.", "param": None}),
    ("rate_limit", {"type": "error", "code": "rate_limit", "message": None}),
    ("It broke.", {"type": "error", "error": "It broke."}),
    (
        "The model failed.",
        {
            "type": "response.failed",
            "response": {"error": {"code": "server_error", "message": "The model failed."}},
        },
    ),
    ("server_error", {"type": "response.failed", "response": {"error": {"code": "server_error"}}}),
    (
        "the provider reported an error without a reason",
        {"type": "response.failed", "response": {"error": None}},
    ),
    ("the provider reported an error without a reason", {"type": "response.failed"}),
    ("Bad gateway", {"error": {"message": "Bad gateway", "type": "server_error", "code": 502}}),
    ("server_error", {"error": {"message": None, "type": "server_error", "code": 502}}),
    ("RESOURCE_EXHAUSTED", {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}),
    ("It broke.", {"error": "It broke."}),
    ("Bad gateway", {"error": {"message": "Bad gateway"}, **chat(content="")}),
    ("the prompt was blocked: SAFETY", {"promptFeedback": {"blockReason": "SAFETY"}}),
    ("the prompt was blocked: SAFETY", {"prompt_feedback": {"block_reason": BlockedReason.SAFETY}}),
    (
        "Not this.",
        {"promptFeedback": {"blockReason": "OTHER", "blockReasonMessage": "Not this."}},
    ),
    (
        "Not this.",
        {
            "candidates": None,
            "prompt_feedback": {
                "block_reason": BlockedReason.SAFETY,
                "block_reason_message": "Not this.",
            },
        },
    ),
]


@shaped
@pytest.mark.parametrize(("message", "chunk"), ERRORS)
def test_error(shaped: Any, message: str, chunk: Any) -> None:
    with pytest.raises(ReplyStreamError) as caught:
        extract_text(shaped(chunk))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "chunk", [{"type": "error"}, {"type": "error", "error": {}}, {"error": {"code": 502}}]
)
def test_an_error_without_words(chunk: Any) -> None:
    with pytest.raises(ReplyStreamError, match="an error without a reason"):
        extract_text(chunk)


def test_text_goes_before_an_error_in_the_same_chunk() -> None:
    assert extract_text({"error": {"message": "cut off"}, **chat(content="Hi")}) == "Hi"


# --- properties

names = st.sampled_from(
    """type delta text content choices candidates parts thought error message code response
    refusal prompt_feedback promptFeedback block_reason blockReason""".split()
)
kinds = st.sampled_from(
    """response.output_text.delta response.refusal.delta response.failed content_block_delta
    text_delta content.delta error message""".split()
)
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | kinds,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | st.text(), inner),
    max_leaves=12,
)


@given(tree=trees)
def test_any_json_gives_text_none_or_the_one_error(tree: Any) -> None:
    verdicts: list[str | None] = []
    for shaped in (as_dict, as_object, as_lazy):
        try:
            verdicts.append(extract_text(shaped(tree)))
        except ReplyStreamError:
            return
    text = verdicts[0]
    assert text is None or isinstance(text, str)
    assert verdicts == [text] * 3


@given(texts=st.lists(st.text()), thoughts=st.lists(st.text()), data=st.data())
def test_gemini_says_all_its_text_and_no_thought(
    texts: list[str], thoughts: list[str], data: st.DataObject
) -> None:
    parts: list[dict[str, Any]] = [{"text": text} for text in texts]
    for thought in thoughts:
        parts.insert(data.draw(st.integers(0, len(parts))), {"text": thought, "thought": True})
    assert extract_text(gemini(*parts)) == ("".join(texts) or None)


def test_to_messages_speaks_of_the_assistant() -> None:
    transcript = [
        ConversationMessage("user", "hi"),
        ConversationMessage("agent", "hello"),
        ConversationMessage("narrator", ""),
    ]
    assert to_messages(transcript) == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
        {"role": "narrator", "content": ""},
    ]
