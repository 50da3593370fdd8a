"""The service's side of Speech Engine, for a developer's own machine.

`LocalEngine` calls your server as the service does; ``speech-engine demo`` and ``speech-engine
chat URL`` do so from a terminal. Unofficial, not affiliated.
"""

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
