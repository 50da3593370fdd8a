"""The service's side of Speech Engine, for a developer's own machine.

`LocalEngine` calls your server as the service does; ``speech-engine demo`` and ``speech-engine
chat URL`` do so from a terminal, the `call` fixture of `pytest_plugin` in tests. Each name is
imported when it is first used: pytest loads this package in every run. Unofficial, not affiliated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from speech_engine_transports._lazy import lazy_names

if TYPE_CHECKING:
    from ._errors import (
        AgentLostError,
        ConnectError,
        ConversationOverError,
        EngineError,
        NoPongError,
        NoReplyError,
        NoTerminatorError,
        ReplyTooLongError,
        Rule,
        Violation,
    )
    from ._reply import Reply, read_so_far
    from .engine import LocalEngine

__all__ = [
    "AgentLostError",
    "ConnectError",
    "ConversationOverError",
    "EngineError",
    "LocalEngine",
    "NoPongError",
    "NoReplyError",
    "NoTerminatorError",
    "Reply",
    "ReplyTooLongError",
    "Rule",
    "Violation",
    "read_so_far",
]

_HOMES = {
    "AgentLostError": "speech_engine_local._errors",
    "ConnectError": "speech_engine_local._errors",
    "ConversationOverError": "speech_engine_local._errors",
    "EngineError": "speech_engine_local._errors",
    "LocalEngine": "speech_engine_local.engine",
    "NoPongError": "speech_engine_local._errors",
    "NoReplyError": "speech_engine_local._errors",
    "NoTerminatorError": "speech_engine_local._errors",
    "Reply": "speech_engine_local._reply",
    "ReplyTooLongError": "speech_engine_local._errors",
    "Rule": "speech_engine_local._errors",
    "Violation": "speech_engine_local._errors",
    "read_so_far": "speech_engine_local._reply",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
