"""Seeded bugs: each is a change of the core's source that the tests must notice."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import speech_engine_proto

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(speech_engine_proto.__file__).parent


@dataclass(frozen=True)
class Mutant:
    """One bug.

    Args:
        name: what goes wrong.
        file: the module that holds it.
        before: a text that stands in that module once.
        after: what stands there instead.
    """

    name: str
    file: str
    before: str
    after: str

    def __str__(self) -> str:
        return self.name


@contextmanager
def planted(mutant: Mutant, directory: Path) -> Iterator[Any]:
    """Load a copy of the core with the bug in it, under a name of its own.

    Raises:
        LookupError: the text to change does not stand in the module exactly once.
    """
    package = directory / "speech_engine_mutant"
    package.mkdir()
    for module in (SOURCE / "__init__.py", *SOURCE.glob("_[a-z]*.py"), SOURCE / "wire.py"):
        shutil.copy(module, package)
    text = (package / mutant.file).read_text(encoding="utf-8")
    if text.count(mutant.before) != 1:
        raise LookupError(f"{mutant.file} has {text.count(mutant.before)} times: {mutant.before!r}")
    changed = text.replace(mutant.before, mutant.after)
    (package / mutant.file).write_text(changed, encoding="utf-8")
    try:
        yield _load(package)
    finally:
        for name in [n for n in sys.modules if n.split(".")[0] == package.name]:
            del sys.modules[name]


def _load(package: Path) -> Any:
    spec = importlib.util.spec_from_file_location(
        package.name, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[package.name] = module
    spec.loader.exec_module(module)
    return module


_GATE_TEXT = """            raise self._refusal(turn)
        if not isinstance(text, str):"""
_GATE_END = """            raise self._refusal(turn)
        frame = wire.agent_response("", True, turn.event_id)"""
_PONG_REPLY = "reply: ClassVar[str] = PONG_FRAME"

MUTANTS = (
    # Rule 1: the gate and the terminator.
    Mutant(
        "a stale piece passes the gate",
        "_agent.py",
        _GATE_TEXT,
        _GATE_TEXT.replace("raise", "pass  #"),
    ),
    Mutant(
        "a stale terminator passes the gate",
        "_agent.py",
        _GATE_END,
        _GATE_END.replace("raise", "pass  #"),
    ),
    Mutant(
        "a second terminator passes",
        "_agent.py",
        "        turn.move(Move.TERMINATOR)\n        self._retire(turn)\n",
        "        turn.state = TurnState.FINISHED\n",
    ),
    Mutant(
        "the terminator leaves the turn current",
        "_agent.py",
        "        turn.move(Move.TERMINATOR)\n        self._retire(turn)\n",
        "        turn.move(Move.TERMINATOR)\n",
    ),
    Mutant(
        "the terminator is not final",
        "_agent.py",
        'wire.agent_response("", True, turn.event_id)',
        'wire.agent_response("", False, turn.event_id)',
    ),
    Mutant(
        "a piece is final",
        "_turns.py",
        "wire.reply_end(False, self.event_id)",
        "wire.reply_end(True, self.event_id)",
    ),
    Mutant(
        "an empty piece is sent",
        "_agent.py",
        "        if not text:\n",
        "        if text is None:\n",
    ),
    Mutant(
        "a piece leaves the turn waiting",
        "_turns.py",
        "            self.move(Move.PIECE)\n",
        "            pass\n",
    ),
    Mutant(
        "every piece says the words of the first",
        "_turns.py",
        "frame = wire.reply_frame(text, self._frame_end)",
        "frame = wire.reply_frame(self._pieces[0] if speaking else text, self._frame_end)",
    ),
    Mutant(
        "a piece is not noted",
        "_turns.py",
        "        self._pieces.append(text)\n",
        "",
    ),
    Mutant(
        "a finished turn is called interrupted",
        "_agent.py",
        "if turn.state is TurnState.FINISHED:",
        "if turn.state is TurnState.SPEAKING:",
    ),
    Mutant(
        "the end of the conversation is not told from a stale turn",
        "_agent.py",
        "        if self._state in OVER:\n            return ConnectionClosedError",
        "        if self._turn is not None:\n            return ConnectionClosedError",
    ),
    Mutant(
        "replies carry the id that the turn began with",
        "_turns.py",
        "        self.event_id = event_id\n        self.attempt += 1\n",
        "        self.attempt += 1\n",
    ),
    # Rule 2: which transcript begins a turn.
    Mutant(
        "the same id counts as lower",
        "_agent.py",
        "if event_id < newest.event_id:",
        "if event_id <= newest.event_id:",
    ),
    Mutant(
        "a lower id begins a turn",
        "_agent.py",
        "if event_id < newest.event_id:",
        "if event_id < newest.event_id - 1000:",
    ),
    Mutant(
        "null ids are deduplicated",
        "_agent.py",
        "if event_id is None or newest is None:",
        "if newest is None:",
    ),
    Mutant(
        "a null id in flight is a duplicate",
        "_agent.py",
        "        if event_id is None or newest is None:\n",
        "        if event_id is None and self._turn and self._turn.event_id is None:\n"
        "            reason = events.TranscriptIgnoredReason.DUPLICATE\n"
        "            return events.TranscriptIgnored(0, reason)\n"
        "        if event_id is None or newest is None:\n",
    ),
    Mutant(
        "the same id restarts the turn in flight",
        "_agent.py",
        "        if newest.in_flight:\n",
        "        if newest.in_flight and newest.answered:\n",
    ),
    Mutant(
        "an answered turn is answered again",
        "_agent.py",
        "        if newest.answered:\n",
        "        if newest.in_flight:\n",
    ),
    Mutant(
        "an empty reply counts as an answer",
        "_agent.py",
        "self._newest.answered = self._previous is not None",
        "self._newest.answered = True",
    ),
    Mutant(
        "that a reply had text is forgotten",
        "_agent.py",
        "self._newest.answered = self._previous is not None",
        "self._newest.answered = False",
    ),
    Mutant(
        "the end of a null turn ends the newest one",
        "_agent.py",
        "if turn.event_id is not None and self._newest is not None:",
        "if self._newest is not None:",
    ),
    Mutant(
        "a turn that a null one cut stays in flight",
        "_agent.py",
        "            self._newest.in_flight = False\n",
        "            self._newest.in_flight = turn.interrupted\n",
    ),
    Mutant(
        "a null turn resets the highest id",
        "_agent.py",
        "        if event_id is not None:\n            self._newest = _Newest",
        "        self._newest = None\n"
        "        if event_id is not None:\n            self._newest = _Newest",
    ),
    Mutant(
        "a new attempt is counted as the first",
        "_agent.py",
        "attempt=newest.attempt + 1",
        "attempt=newest.attempt",
    ),
    Mutant(
        "a new turn does not interrupt",
        "_agent.py",
        "        interrupted = self._interrupt()\n        if interrupted is not None:\n",
        "        interrupted = self._turn\n        if interrupted is not None:\n",
    ),
    Mutant(
        "the interrupted turn is not named",
        "_agent.py",
        "events.TurnStarted(turn, event_id, transcript, interrupted)",
        "events.TurnStarted(turn, event_id, transcript, None)",
    ),
    # Rule 3: re-sends.
    Mutant(
        "a re-send is adopted while the agent speaks",
        "_agent.py",
        "turn.state is TurnState.WAITING",
        "turn.in_flight",
    ),
    Mutant(
        "another question is adopted",
        "_agent.py",
        "            and turn.transcript == message.user_transcript\n",
        "",
    ),
    Mutant(
        "a null turn is adopted",
        "_agent.py",
        "            and turn.event_id is not None\n",
        "",
    ),
    Mutant(
        "adoption cannot be switched off",
        "_agent.py",
        "            self._adopt_resends\n            and turn is not None",
        "            turn is not None",
    ),
    Mutant(
        "adoption leaves the highest id behind",
        "_agent.py",
        "        newest.event_id = event_id\n",
        "",
    ),
    Mutant(
        "adoption counts no attempt",
        "_agent.py",
        "        newest.attempt = turn.attempt\n",
        "",
    ),
    # What was heard of a reply.
    Mutant(
        "the settled part of a history is heard again",
        "_turns.py",
        "        known = self._settled\n",
        "        known = 0\n",
    ),
    Mutant(
        "a long history is settled one message too far",
        "_turns.py",
        "max(0, len(transcript) - COMPARED)",
        "max(0, len(transcript) - COMPARED + 1)",
    ),
    Mutant(
        "what was rewritten is taken as known",
        "_turns.py",
        "            if before != after:\n                break\n",
        "",
    ),
    Mutant(
        "the last words of the known history are heard again",
        "_turns.py",
        "following = _fingerprints(transcript[known : known + COMPARED])",
        "following = _fingerprints(transcript[known : known + COMPARED - 1])",
    ),
    # Rule 4 and 6: what changes nothing.
    Mutant(
        "a bad message interrupts",
        "_agent.py",
        "            return events.ProtocolViolation(error)\n",
        "            self._interrupt()\n            return events.ProtocolViolation(error)\n",
    ),
    Mutant(
        "a bad message ends the conversation",
        "_engine.py",
        "            return events.ProtocolViolation(error)\n",
        "            self._interrupt()\n            return events.ProtocolViolation(error)\n",
    ),
    Mutant(
        "a second init is accepted",
        "_states.py",
        "    _OPEN: {**dict",
        "    _OPEN: {Move.INIT: _OPEN, **dict",
    ),
    Mutant(
        "a second init renames the conversation",
        "_agent.py",
        "            # Rule 6: a second init is a violation that changes nothing.\n",
        "            self._conversation_id = message.conversation_id + '2'\n",
    ),
    Mutant(
        "a transcript before init is refused",
        "_agent.py",
        "        event_id, newest = message.event_id, self._newest\n",
        "        event_id, newest = message.event_id, self._newest\n"
        "        if self._state is ConversationState.OPENING:\n"
        "            return events.MessageIgnored(None, events.MessageIgnoredReason.AFTER_END)\n",
    ),
    Mutant(
        "content null is refused",
        "wire.py",
        "    content: str | None\n",
        "    content: str\n",
    ),
    # Rule 5: pings and the end.
    Mutant("a ping is not answered", "_events.py", _PONG_REPLY, 'reply: ClassVar[str] = ""'),
    Mutant(
        "a ping is not answered before init",
        "_agent.py",
        "                return _PING_RECEIVED\n",
        "                return _PING_RECEIVED if self._conversation_id else _AFTER_END\n",
    ),
    Mutant(
        "a ping is not answered in mid reply",
        "_agent.py",
        "                return _PING_RECEIVED\n",
        "                spoke = self._turn and self._turn.text_sent\n"
        "                return _AFTER_END if spoke else _PING_RECEIVED\n",
    ),
    Mutant(
        "a ping is answered after the end",
        "_agent.py",
        "        if self._state in OVER:\n            return _AFTER_END\n",
        "        if self._state in OVER:\n            return _PING_RECEIVED\n",
    ),
    Mutant(
        "a close keeps the turn current",
        "_agent.py",
        "        interrupted = self._interrupt()\n        lost =",
        "        interrupted = self._turn\n        lost =",
    ),
    Mutant(
        "close is taken for a loss",
        "_states.py",
        "_LEAVING = {Move.CLOSE: _ENDED,",
        "_LEAVING = {Move.CLOSE: _LOST,",
    ),
    Mutant(
        "the loss of the socket is taken for a close",
        "_agent.py",
        "lost = self._state is ConversationState.LOST",
        "lost = self._conversation_id is None",
    ),
    Mutant(
        "the end of the socket is told anew",
        "_agent.py",
        "        return self._end\n\n    def send_text",
        "        return events.ConnectionLost()\n\n    def send_text",
    ),
    # Rule 7 and the codec.
    Mutant(
        "lone surrogates reach the socket",
        "wire.py",
        "        content = without_lone_surrogates(content)\n",
        "        content = ascii(content)\n",
    ),
    Mutant(
        "a reply without an id gets one",
        "wire.py",
        'number = "null" if event_id is None else event_id',
        'number = "0" if event_id is None else event_id',
    ),
    Mutant(
        "a quote in a reply breaks the frame",
        "wire.py",
        "text = encode_basestring(content)",
        "text = '\"' + content + '\"'",
    ),
    Mutant(
        "half a pair in a message is refused",
        "wire.py",
        "        if mended == raw:\n",
        "        if mended:\n",
    ),
    Mutant(
        "an escaped backslash is taken for half a pair",
        "wire.py",
        '    rb"|\\\\."\n',
        "",
    ),
    Mutant(
        "a whole pair is taken apart",
        "wire.py",
        '    rb"\\\\u[dD][89abAB][0-9a-fA-F]{2}\\\\u[dD][c-fC-F][0-9a-fA-F]{2}"\n    rb"|\\\\u(',
        '    rb"\\\\u(',
    ),
    Mutant(
        "broken UTF-8 passes in unknown fields",
        "wire.py",
        "    if not raw.isascii():\n",
        "    if not raw:\n",
    ),
    Mutant(
        "deep nesting escapes",
        "wire.py",
        "    except RecursionError:\n",
        "    except ZeroDivisionError:\n",
    ),
    Mutant(
        "a message over the limit is read",
        "wire.py",
        "    if size > limits.max_frame_bytes:\n",
        "    if size > limits.max_frame_bytes + 1:\n",
    ),
    Mutant(
        "a transcript over the limit is read",
        "wire.py",
        "len(message.user_transcript) > bounds.max_messages",
        "len(message.user_transcript) > bounds.max_messages + 1",
    ),
    Mutant(
        "a transcript within the limit is refused",
        "wire.py",
        "len(message.user_transcript) > bounds.max_messages",
        "len(message.user_transcript) >= bounds.max_messages",
    ),
    Mutant(
        "ids are numbers of any kind",
        "wire.py",
        "_EventId = Annotated[int, msgspec.Meta(ge=EVENT_ID_MIN, le=EVENT_ID_MAX)]",
        "_EventId = float",
    ),
    Mutant(
        "ids of any size pass",
        "wire.py",
        "_EventId = Annotated[int, msgspec.Meta(ge=EVENT_ID_MIN, le=EVENT_ID_MAX)]",
        "_EventId = int",
    ),
    Mutant(
        "the excerpt is a part of the error's text",
        "_errors.py",
        'super().__init__(f"expected {expected}, got {got} at {where}")',
        'super().__init__(f"expected {expected}, got {got} at {where}: {excerpt}")',
    ),
    # The service's side.
    Mutant(
        "the service asks before init",
        "_engine.py",
        "following is None or (self._state, move) in TOLERATED",
        "following is None",
    ),
    Mutant(
        "the service speaks after close",
        "_engine.py",
        "            raise ConnectionClosedError",
        "            return self._state  # ",
    ),
    Mutant(
        "the service forgets to end the conversation",
        "_engine.py",
        "        self._state = self._after(Move.CLOSE)\n",
        "        self._after(Move.CLOSE)\n",
    ),
    Mutant(
        "the service repeats its last id",
        "_engine.py",
        "_checked_id(self._asked.event_id + 1)",
        "_checked_id(self._asked.event_id)",
    ),
    Mutant(
        "a late re-send takes the place of the current turn",
        "_engine.py",
        "asked is None or event_id > asked.event_id",
        "asked is None or event_id != asked.event_id",
    ),
    Mutant(
        "a re-send after an empty reply asks nothing",
        "_engine.py",
        "        if self.state is TurnState.FINISHED and self.wordless:\n",
        "        if self.state is TurnState.FINISHED and not self.wordless:\n",
    ),
    Mutant(
        "a refused terminator counts",
        "_engine.py",
        "        wordless = self.state is TurnState.WAITING and not with_text\n",
        "        wordless = self.state is TurnState.WAITING and not with_text\n"
        "        self.wordless = wordless\n",
    ),
    Mutant(
        "a stale reply is a violation",
        "_engine.py",
        "            return events.StaleReply(event_id, reply.content)\n",
        '            return _out_of_place("", "")\n',
    ),
    Mutant(
        "a stale reply is taken for the current one",
        "_engine.py",
        "        if event_id < asked.event_id:\n",
        "        if event_id < asked.event_id - 1:\n",
    ),
    Mutant(
        "a reply to a question not asked is taken",
        "_engine.py",
        "        if event_id > asked.event_id:\n",
        "        if event_id > asked.event_id + 1:\n",
    ),
    Mutant(
        "a piece after the terminator is taken",
        "_engine.py",
        "        if not asked.take(reply):\n",
        "        if not asked.take(reply) and reply.is_final:\n",
    ),
    Mutant(
        "a second terminator is taken",
        "_engine.py",
        "        if not asked.take(reply):\n",
        "        if not asked.take(reply) and not reply.is_final:\n",
    ),
    Mutant(
        "an empty piece counts as text",
        "_engine.py",
        "if reply.content or self.state not in (TurnState.WAITING, TurnState.SPEAKING):",
        "if reply is not None:",
    ),
    Mutant(
        "a piece is told as the end",
        "_engine.py",
        "        if reply.is_final:\n            return events",
        "        if not reply.is_final:\n            return events",
    ),
    Mutant(
        "the service takes the end it asked for as a loss",
        "_engine.py",
        "        self._end = events.ConversationEnded()\n",
        "        self._end = events.ConnectionLost()\n",
    ),
)
