"""What is said in the measured conversations: frames of the service, pieces of the agent."""

from __future__ import annotations

import json

__all__ = ["CLOSE", "INIT", "PIECES", "PING", "PONG", "PONG_MARK", "reply_frame", "transcript"]

_CALLER = "Could you tell me whether number {} is still open on Friday, please?"
_AGENT = (
    "Certainly. Number {} is open from nine in the morning until half past five, and on Fridays "
    "a little longer. Would you like me to book something for you?"
)

PIECES = tuple(f"{word} " for word in _AGENT.split())
"""Pieces as an LLM streams them: a word and a blank, some five characters."""

INIT = json.dumps({"type": "init", "conversation_id": "conv_benchmark"})
PING = json.dumps({"type": "ping"})
PONG = json.dumps({"type": "pong"})
CLOSE = json.dumps({"type": "close"})
PONG_MARK = b'"pong"'
"""What only a pong holds, however its server writes JSON."""


def transcript(messages: int, event_id: int, last: str | None = None) -> str:
    """Return a ``user_transcript`` with that many messages of history, some 100 bytes each.

    Args:
        messages: how many; an odd number ends with the caller.
        event_id: the id of the turn.
        last: what the last message says, where the server is told something by it.
    """
    history = [
        {
            "role": "agent" if number % 2 else "user",
            "content": (_AGENT if number % 2 else _CALLER).format(number),
        }
        for number in range(messages)
    ]
    if last is not None:
        history[-1] = {"role": "user", "content": last}
    frame = {"type": "user_transcript", "user_transcript": history, "event_id": event_id}
    return json.dumps(frame)


def reply_frame(text: str, is_final: bool, event_id: int) -> str:
    """Return an ``agent_response``, for the servers that know no protocol."""
    body = {"type": "agent_response", "content": text, "is_final": is_final, "event_id": event_id}
    return json.dumps(body)
