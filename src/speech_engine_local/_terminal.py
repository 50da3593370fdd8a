"""The conversation with a person who types: words appear as they stream, Enter interrupts.

One prompt lives for the whole conversation. The line that the agent is speaking is part of that
prompt, above what is being typed; lines that are full move up into the scroll-back.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
from prompt_toolkit import PromptSession
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout
from prompt_toolkit.utils import get_cwidth

from ._errors import ConversationOverError, EngineError

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from ._reply import Reply
    from .engine import LocalEngine

__all__ = ["HELP", "talk"]

HELP = (
    "Type, and press Enter. While the agent speaks, that interrupts it. "
    "/history shows what was heard, /quit or Ctrl-D leaves."
)


async def talk(engine: LocalEngine) -> None:
    """Hold a conversation until the person leaves, or the agent hangs up.

    Input and output are those of the current prompt_toolkit app session: by default the terminal.
    """
    with patch_stdout():
        await _Talk(engine).run()


class _Talk:
    def __init__(self, engine: LocalEngine) -> None:
        self._engine = engine
        self._live = ""  # the line that the agent is speaking
        self._reply: Reply | None = None
        keys = KeyBindings()
        keys.add("enter")(self._on_enter)
        self._prompt: PromptSession[str] = PromptSession(
            self._message, key_bindings=keys, erase_when_done=True
        )
        self._send, self._lines = anyio.create_memory_object_stream[str](math.inf)

    async def run(self) -> None:
        self._show(HELP)
        async with anyio.create_task_group() as group, self._lines, self._send:

            def begin() -> None:  # not before the prompt is there: these print above it
                group.start_soon(self._handle_lines, group)
                group.start_soon(self._watch_end)

            with suppress(KeyboardInterrupt, EOFError):
                await self._prompt.prompt_async(pre_run=begin)
            group.cancel_scope.cancel()
        await self._engine.hang_up()
        self._end_reply()

    def _message(self) -> str:
        return f"{self._live}\nyou:   " if self._live else "you:   "

    def _on_enter(self, event: KeyPressEvent) -> None:
        text = event.current_buffer.text.strip()
        event.current_buffer.reset(append_to_history=True)
        if text == "/quit":
            self._leave()
        elif text:
            self._send.send_nowait(text)

    async def _handle_lines(self, group: TaskGroup) -> None:
        async for text in self._lines:
            if text == "/history":
                self._show_history()
            elif text.startswith("/"):
                self._show(HELP)
            else:
                await self._ask(text, group)

    async def _ask(self, text: str, group: TaskGroup) -> None:
        try:
            reply = await self._engine.ask(text)
        except ConversationOverError:
            return  # `_watch_end` leaves
        self._end_reply()
        self._show(f"you:   {text}")
        self._live, self._reply = "agent: ", reply
        group.start_soon(self._speak, reply)

    async def _speak(self, reply: Reply) -> None:
        try:
            async for piece in reply:
                self._add(piece)
        except EngineError as error:
            self._end_reply()
            self._show(f"[{error}]")
        if reply is self._reply:
            self._end_reply()

    async def _watch_end(self) -> None:
        await self._engine.wait_ended()
        self._end_reply()
        self._show("The agent has hung up.")
        self._leave()

    def _leave(self) -> None:
        app = self._prompt.app
        if not app.is_done:
            app.exit(result="")

    def _add(self, piece: str) -> None:
        """Put a piece behind the live line; what is full moves up."""
        *full, self._live = _wrap(self._live + piece, self._columns())
        self._print(full)

    def _end_reply(self) -> None:
        if self._reply is None:
            return
        line, reply = self._live, self._reply
        self._live, self._reply = "", None
        # What was shown is what was heard, so the mark alone says it.
        mark = " [interrupted]" if reply.interrupted else "" if reply.pieces else " [no words]"
        self._show(f"{line.rstrip()}{mark}")

    def _show_history(self) -> None:
        for message in self._engine.history:
            self._show(f"  {message.role}: {message.content}")
        if not self._engine.history:
            self._show("  nothing yet")

    def _show(self, text: str) -> None:
        """Print text above the prompt, broken at words."""
        self._print(_wrap(text, self._columns()))

    def _print(self, lines: list[str]) -> None:
        """Print lines above the prompt, at once, and draw the prompt again.

        prompt_toolkit's own way (`run_in_terminal`) leaves raw mode for a moment, and a key that
        is pressed in that moment is lost.
        """
        app = self._prompt.app
        if lines and app.is_running:
            app.renderer.erase()
        for line in lines:
            app.output.write(line)
            app.output.write_raw("\r\n")
        app.output.flush()
        app.invalidate()

    def _columns(self) -> int:
        return self._prompt.app.output.get_size().columns - 1


def _wrap(text: str, columns: int) -> list[str]:
    """Break a text at its line ends, and before words that pass the last column.

    Spaces at the end of the last line are kept: more words may follow.
    """
    *ended, last = text.split("\n")
    lines = [line for paragraph in ended for line in _wrap_line(paragraph, columns)]
    return [*lines, *_wrap_line(last, columns)]


def _wrap_line(line: str, columns: int) -> list[str]:
    lines: list[str] = []
    while get_cwidth(line.rstrip()) > columns:
        fits = _fitting(line, columns)
        space = line.rfind(" ", 0, fits + 1)
        cut = space if space > 0 else fits
        lines.append(line[:cut])
        line = line[cut:].lstrip(" ")
    return [*lines, line]


def _fitting(line: str, columns: int) -> int:
    """How many characters fit, at least one."""
    width = 0
    for index, character in enumerate(line):
        width += get_cwidth(character)
        if width > columns:
            return max(index, 1)
    return len(line)
