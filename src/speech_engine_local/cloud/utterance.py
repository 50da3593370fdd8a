"""One thing that the agent says to a client, as text and as sound, and what is heard of it."""

from __future__ import annotations

import logging
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import attrs

from .._errors import EngineError
from . import convai
from ._traces import without_words
from .playback import Playback
from .speech import AudioFormat, Sentences, Synthesizer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable

    from .._reply import Reply
    from .outbox import Outbox

__all__ = ["Utterance", "Voice"]

logger = logging.getLogger("speech_engine_local")

PAUSE_SECONDS = 0.5
"""How long a text may halt before what there is of it is spoken: the agent looks something up."""


@attrs.frozen
class Voice:
    """How a conversation sounds.

    Args:
        synthesizer: makes the sound.
        format: what the client was told that it gets.
        speed: 1 is as usual.
        language: a code like ``en``; None is the synthesizer's own choice.
    """

    synthesizer: Synthesizer
    format: AudioFormat
    speed: float = 1.0
    language: str | None = None


class Utterance:
    """A reply, or the first message, on its way to the client.

    Args:
        reply: what is said; it may still be coming in.
        event_id: of all its frames.
        outbox: where its frames go.
        wants: tells which types of frames the client is sent.
        voice: None where there is no sound: then it is heard when it has been sent.
        streams: whether its pieces are sent one by one, in addition to the whole.
    """

    def __init__(
        self,
        reply: Reply,
        event_id: int,
        outbox: Outbox,
        *,
        wants: Callable[[str], bool],
        voice: Voice | None = None,
        streams: bool = True,
    ) -> None:
        self.reply = reply
        self.event_id = event_id
        self.error: EngineError | None = None
        self._outbox = outbox
        self._wants = wants
        self._voice = voice
        self._streams = streams and wants("agent_chat_response_part")
        self._shown: list[str] = []
        self._told = False
        self._spoken = voice is None
        self._playback = Playback()
        self._heard: str | None = None
        self._scope = anyio.CancelScope()
        self._sent = anyio.Event()

    @property
    def is_stopped(self) -> bool:
        """Whether it was interrupted."""
        return self._heard is not None

    @property
    def is_done(self) -> bool:
        """Whether it came whole, and was heard to its end."""
        return self._told and self._spoken and self._playback.remaining(anyio.current_time()) <= 0

    @property
    def heard(self) -> str:
        """What the user has heard of it, in whole words where it is sound."""
        if self._heard is not None:
            return self._heard
        if self._voice is None or self.is_done:
            return "".join(self._shown)
        return self._playback.heard(anyio.current_time())

    async def run(self) -> None:
        """Say it, until it has been sent or is stopped. Why a reply failed is in ``error``."""
        try:
            await self._run()
        finally:
            self._sent.set()

    async def wait_heard(self) -> None:
        """Return when it has been heard to its end, or was stopped."""
        await self._sent.wait()
        if not self.is_stopped:
            await anyio.sleep(self._playback.remaining(anyio.current_time()))

    def stop(self) -> None:
        """Stop at once: nothing more is sent, and what was heard until here is what is kept."""
        self._heard = self.heard
        self._playback.stop(anyio.current_time())
        self._outbox.drop(self)
        self._scope.cancel()

    def conclude(self) -> None:
        """Stop, and send the whole of what was shown of it, if that was not done."""
        self.stop()
        if self._shown:
            self._tell()

    def interrupt(self, event_id: int) -> None:
        """Stop, and tell the client what it has missed.

        Args:
            event_id: of the interruption; audio with a lower id is stale (fact sheet 5.4).
        """
        self.conclude()
        if not self._shown:
            return  # the user spoke before the first word: there is nothing to correct
        text = "".join(self._shown)
        self._post("interruption", convai.interruption(event_id))
        correction = convai.correction(text, self.heard, self.event_id)
        self._post("agent_response_correction", correction)

    async def _run(self) -> None:
        with self._scope:
            send, sentences = anyio.create_memory_object_stream[str](math.inf)
            with sentences:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._speak, sentences)
                    with send:
                        await self._show_all(send.send_nowait)

    async def _show_all(self, say: Callable[[str], None]) -> None:
        """Send the text as it comes, and pass it on sentence by sentence."""
        sentences = Sentences()
        pieces = aiter(self.reply)
        try:
            while piece := await self._next(pieces, sentences, say):
                await self._show(piece)
                for sentence in sentences.feed(piece):
                    say(sentence)
        except EngineError as error:
            self.error = error
        say(sentences.flush())
        if self._shown and not self.is_stopped:
            self._tell()
        self._told = True

    async def _next(
        self, pieces: AsyncIterator[str], sentences: Sentences, say: Callable[[str], None]
    ) -> str | None:
        """Wait for a piece; None at the end. Where the text halts, say what is held back of it."""
        with anyio.move_on_after(PAUSE_SECONDS) as pause:
            return await anext(pieces, None)
        assert pause.cancelled_caught
        say(sentences.flush())
        return await anext(pieces, None)

    async def _show(self, piece: str) -> None:
        if self.is_stopped:
            return
        first = not self._shown
        self._shown.append(piece)
        if self._streams:
            if first:
                self._post_part("", "start")
            await self._outbox.send(convai.response_part(piece, "delta", self.event_id))

    def _tell(self) -> None:
        """Send the whole of it, once."""
        if self._told:
            return
        self._told = True
        if self._streams:
            self._post_part("", "stop")
        self._post("agent_response", convai.agent_response("".join(self._shown), self.event_id))

    async def _speak(self, sentences: AsyncIterable[str]) -> None:
        async for sentence in sentences:
            said = 0
            if self._voice is not None and sentence.strip():
                said = await self._say(sentence, self._voice)
            self._playback.add(0.0, sentence[said:], anyio.current_time())
        self._spoken = True

    async def _say(self, sentence: str, voice: Voice) -> int:
        """Send the sound of a sentence; return how many characters of it have sound."""
        said = 0
        sounds = voice.synthesizer.speak(
            sentence,
            sample_rate=voice.format.sample_rate,
            speed=voice.speed,
            language=voice.language,
        )
        try:
            async with _closing(sounds):
                async for sound in sounds:
                    text = sentence[said : said + sound.characters]
                    said += len(text)
                    await self._play(voice.format.encode(sound.pcm), text, voice.format)
        except Exception as error:  # the text has arrived: a conversation can go on without sound
            logger.error("a sentence has no sound: %s", without_words(error))  # noqa: TRY400
        return said

    async def _play(self, sound: bytes, text: str, format: AudioFormat) -> None:
        await anyio.sleep(self._playback.delay(anyio.current_time()))
        if self.is_stopped or not sound:
            return
        await self._outbox.send(convai.audio(sound, self.event_id), owner=self)
        self._playback.add(format.seconds(len(sound)), text, anyio.current_time())

    def _post(self, kind: str, frame: str) -> None:
        if self._wants(kind):
            self._outbox.post(frame)

    def _post_part(self, text: str, kind: convai.Part) -> None:
        self._outbox.post(convai.response_part(text, kind, self.event_id))


@asynccontextmanager
async def _closing(stream: AsyncIterator[Any]) -> AsyncGenerator[None]:
    """Close a stream at the end of the block, in the task that reads it, if it can be closed."""
    try:
        yield
    finally:
        close: Callable[[], Any] | None = getattr(stream, "aclose", None)
        if close is not None:
            await close()
