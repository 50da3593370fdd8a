"""The example agent: offline, and streaming word by word like an LLM.

Read it as an example of handlers: `ExampleAgent.on_transcript` and `OpenAIAgent.on_transcript` are
what a developer writes. The rest is small talk.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import anyio

from speech_engine_proto.llm import to_messages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from speech_engine_proto import ConversationMessage, HeardReply, Turn
    from speech_engine_transports.session import SpeechEngineSession

__all__ = ["ExampleAgent", "OpenAIAgent", "answer", "speak"]

DEFAULT_MODEL = "gpt-4o-mini"

SYSTEM_PROMPT = (
    "You are a friendly voice agent. What you write is spoken aloud: answer in one to three short "
    "sentences, without lists or markup. Your earlier replies appear as the caller heard them; "
    "one that breaks off was interrupted."
)


class ExampleAgent:
    """A small companion that follows rules, needs no network and no key.

    Args:
        words_per_second: how fast it streams. Speech is about 2.5; LLMs are faster than that.
    """

    def __init__(self, *, words_per_second: float = 12.0) -> None:
        if not words_per_second > 0:
            raise ValueError(f"words_per_second: expected more than 0, got {words_per_second!r}")
        self._words_per_second = words_per_second
        self._latest: WeakKeyDictionary[SpeechEngineSession, Turn] = WeakKeyDictionary()

    async def on_transcript(
        self, transcript: list[ConversationMessage], session: SpeechEngineSession
    ) -> None:
        """Answer the newest turn, knowing what was heard of the reply before it."""
        turn, before = session.turn, self._latest.get(session)
        assert turn is not None
        self._latest[session] = turn
        # A reply that was cut before its first word leaves nothing that could have been heard.
        cut = before is not None and before.interrupted
        text = answer(transcript, turn.heard, cut=cut)
        await session.send_response(speak(text, self._words_per_second))


class OpenAIAgent:
    """The same handler over the chat completions of OpenAI, or of any endpoint that speaks them.

    Args:
        model: the name of the model, as the endpoint knows it.
        base_url: address of an OpenAI-compatible endpoint; None is OpenAI.
        api_key: the endpoint's key; by default ``OPENAI_API_KEY``. An endpoint of your own often
            wants none.

    Raises:
        ImportError: the ``openai`` package is not installed.
        ValueError: OpenAI is asked for, and there is no key.
    """

    def __init__(
        self, *, model: str = DEFAULT_MODEL, base_url: str | None = None, api_key: str | None = None
    ) -> None:
        try:
            from openai import AsyncOpenAI, OpenAIError
        except ImportError as error:
            raise ImportError(
                "an LLM needs the openai package: pip install 'speech-engine-proto[llm]'"
            ) from error
        try:
            self._client = AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=1)
        except OpenAIError as error:
            if base_url is None:
                raise ValueError("OPENAI_API_KEY: expected a key, got none") from error
            self._client = AsyncOpenAI(base_url=base_url, api_key="none", max_retries=1)
        self._model = model

    async def on_transcript(
        self, transcript: list[ConversationMessage], session: SpeechEngineSession
    ) -> None:
        """Hand the history to the model, and its stream to the session."""
        messages: Any = [{"role": "system", "content": SYSTEM_PROMPT}, *to_messages(transcript)]
        stream = await self._client.chat.completions.create(
            model=self._model, messages=messages, stream=True
        )
        await session.send_response(stream)


async def speak(text: str, words_per_second: float) -> AsyncGenerator[str]:
    """Stream a text word by word.

    Args:
        text: what to say; the pieces joined are exactly this.
        words_per_second: the pace.
    """
    for word in re.findall(r"\S+\s*|\s+", text):
        await anyio.sleep(1 / words_per_second)
        yield word


def answer(
    transcript: Sequence[ConversationMessage], heard: HeardReply | None = None, *, cut: bool = False
) -> str:
    """Tell what the example agent says to a conversation.

    Args:
        transcript: the history, the caller's newest words last.
        heard: what was heard of the previous reply; None where nothing was sent.
        cut: whether the previous reply was cut off before its end.
    """
    said = [message.content.strip() for message in transcript if message.role == "user"]
    text = _rest_of_earlier(transcript) or _reply_to(said)
    if cut or (heard is not None and heard.interrupted):
        return f"{_after_interruption('' if heard is None else heard.heard)} {text}"
    return text


def _reply_to(said: list[str]) -> str:
    newest = said[-1] if said else ""
    for pattern, reply in _REPLIES:
        if found := pattern.search(newest):
            return reply(found, said)
    return _echo(newest, len(said))


def _after_interruption(heard: str) -> str:
    words = heard.split()
    if not words:
        return "You spoke before I had said a word, that is fine."
    return f'You stopped me after "{" ".join(words[-3:]).rstrip(",.!?:;")}".'


def _rest_of_earlier(transcript: Sequence[ConversationMessage]) -> str | None:
    """Find the newest reply that was cut off, if the caller wants to hear the rest of it."""
    if not transcript or not _GO_ON.search(transcript[-1].content):
        return None
    for index in range(len(transcript) - 2, 0, -1):
        if transcript[index].role != "agent":
            continue
        said = [m.content.strip() for m in transcript[:index] if m.role == "user"]
        whole, heard = _reply_to(said), transcript[index].content
        rest = whole.removeprefix(heard)
        if rest and rest != whole:
            return f"Where was I? {rest[0].upper()}{rest[1:]}"
    return "There is nothing left to say, I had come to the end."


def _echo(text: str, turns: int) -> str:
    if not text:
        return "I heard nothing. Say something, and I will answer."
    if text.endswith("?"):
        return (
            "That is a good question, and I am only a small example without a model. Ask me about "
            "Speech Engine, let me count to twenty, or have me tell a story."
        )
    number = "the first thing" if turns == 1 else f"thing number {_number(turns)}"
    return f"I will remember that: it is {number} you have told me."


def _greet(_: re.Match[str], said: list[str]) -> str:
    if len(said) > 1:
        return "Hello again! I am still here."
    return (
        "Hello! I am the example agent, and these words reach you over a real WebSocket. "
        "Ask me to count to twenty, and interrupt me whenever you like."
    )


def _learn_name(found: re.Match[str], _: list[str]) -> str:
    return f"Nice to meet you, {found['name']}. I will remember your name."


def _tell_name(_: re.Match[str], said: list[str]) -> str:
    for text in reversed(said[:-1]):
        if found := _MY_NAME.search(text):
            return f"You are {found['name']}, you told me so."
    return "You have not told me your name yet."


def _recall(_: re.Match[str], said: list[str]) -> str:
    if len(said) < 2:
        return "You have only just begun: that was the first thing you said."
    return f'You began with "{said[0]}", and just now, before this, you said "{said[-2]}".'


def _count(found: re.Match[str], _: list[str]) -> str:
    last = min(int(found["number"]), 100) if found["number"].isdigit() else _value(found["number"])
    if last < 1:
        return "Zero. That was quick."
    names = [_number(n) for n in range(1, last + 1)]
    return f"{', '.join(names).capitalize()}. Done!"


def _fixed(text: str) -> Callable[[re.Match[str], list[str]], str]:
    return lambda _found, _said: text


_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def _number(value: int) -> str:
    if value < 20:
        return _ONES[value]
    if value >= 100:
        return "one hundred" if value == 100 else str(value)
    tens, ones = divmod(value, 10)
    return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")


def _value(word: str) -> int:
    names = [_number(n) for n in range(101)]
    return names.index(word.lower()) if word.lower() in names else 20


_STORY = (
    "Once there was a word that wanted to be heard. It left the agent as a piece of a reply, "
    "travelled over a WebSocket, and was spoken by a voice it had never met. On the way it met "
    "a word from an older turn, tired and late. Nobody will listen to you any more, it said, the "
    "caller has spoken since. I know, said the old word, and stepped aside. And then came the "
    "terminator, which says nothing at all, and that was the end."
)

_GO_ON = re.compile(r"\b(go on|carry on|continue|keep going)\b", re.I)
_MY_NAME = re.compile(r"\b(?:my name is|call me|i am called)\s+(?P<name>[\w'-]+)", re.I)

_REPLIES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], list[str]], str]], ...] = tuple(
    (pattern if isinstance(pattern, re.Pattern) else re.compile(pattern, re.I), reply)
    for pattern, reply in (
        (r"\bcount\b.*?\bto\s+(?P<number>\d+|[a-z-]+)", _count),
        (r"\b(stop|wait|enough|hold on|quiet)\b", _fixed("I am listening.")),
        (r"\b(story|tale)\b", _fixed(_STORY)),
        (r"\bwhat('s| is) my name\b|\bwho am i\b|\bknow my name\b", _tell_name),
        (_MY_NAME, _learn_name),
        (r"\bwhat did i (say|tell)\b|\bdo you remember\b", _recall),
        (
            r"\bwho are you\b|\bwhat are you\b|\babout you(rself)?\b|\byour name\b",
            _fixed(
                "I am the example agent of speech-engine-proto: a few rules that stream word by "
                "word, as a language model would. I run offline, on your own machine."
            ),
        ),
        (
            r"\bterminator\b|\bis_final\b",
            _fixed(
                "Each reply ends with one terminator: an agent response with is final true and no "
                "text in it. Exactly one, and never a piece after it."
            ),
        ),
        (
            r"\binterrupt|\bbarge",
            _fixed(
                "When you speak while I do, a transcript with a higher id reaches me. My reply is "
                "cancelled at once, and the history keeps only what you heard of it."
            ),
        ),
        (
            r"\b(speech engine|protocol|websocket|how do(es)? (it|this|you) work)\b",
            _fixed(
                "Speech Engine hears the caller and sends the transcript over a WebSocket. "
                "I stream text back, piece by piece, and it speaks what I say."
            ),
        ),
        (r"\b(thanks|thank you)\b", _fixed("You are welcome.")),
        (r"\b(bye|goodbye|good night|see you)\b", _fixed("Goodbye! It was good to talk with you.")),
        (r"\b(joke|funny)\b", _fixed("Why did the stale word stay silent? It was not its turn.")),
        (r"\bhow are you\b", _fixed("All my states are legal, thank you. How are you?")),
        (
            r"\bhelp\b|\bwhat can you do\b",
            _fixed(
                "I greet, count to any number up to a hundred, tell a story, explain Speech "
                "Engine, and remember what you said. Interrupt me, and then tell me to go on."
            ),
        ),
        (r"\b(hello|hi|hey|good (morning|evening|day|afternoon))\b", _greet),
    )
)
