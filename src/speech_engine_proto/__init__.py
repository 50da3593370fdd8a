"""The Speech Engine protocol, sans I/O: bytes in, events and frames out.

`AgentConnection` is the developer's side of a conversation, `EngineConnection` the service's.
Neither owns a socket, a clock or an event loop: put them into any. Unofficial, not affiliated.

Submodules: `wire` (the messages), `auth` (the token of the upgrade request), `llm` (text out of
LLM streams), `testing` (Hypothesis strategies and machines).
"""

from ._agent import AgentConnection
from ._engine import EngineConnection
from ._errors import (
    ConnectionClosedError,
    LocalProtocolError,
    ProtocolError,
    RemoteProtocolError,
    StaleTurnError,
    TurnFinishedError,
)
from ._events import (
    AgentEvent,
    ConnectionLost,
    ConversationEnded,
    ConversationStarted,
    EngineEvent,
    ErrorReceived,
    MessageIgnored,
    MessageIgnoredReason,
    PingReceived,
    PongReceived,
    ProtocolViolation,
    ReplyFinished,
    ReplyText,
    StaleReply,
    TranscriptIgnored,
    TranscriptIgnoredReason,
    TurnResent,
    TurnStarted,
)
from ._limits import Limits
from ._messages import CLOSE, DISCONNECTED, ERROR, INIT, USER_TRANSCRIPT, ConversationMessage
from ._states import ConversationState, Role, TurnState
from ._turns import HeardReply, Turn

__all__ = [
    "CLOSE",
    "DISCONNECTED",
    "ERROR",
    "INIT",
    "USER_TRANSCRIPT",
    "AgentConnection",
    "AgentEvent",
    "ConnectionClosedError",
    "ConnectionLost",
    "ConversationEnded",
    "ConversationMessage",
    "ConversationStarted",
    "ConversationState",
    "EngineConnection",
    "EngineEvent",
    "ErrorReceived",
    "HeardReply",
    "Limits",
    "LocalProtocolError",
    "MessageIgnored",
    "MessageIgnoredReason",
    "PingReceived",
    "PongReceived",
    "ProtocolError",
    "ProtocolViolation",
    "RemoteProtocolError",
    "ReplyFinished",
    "ReplyText",
    "Role",
    "StaleReply",
    "StaleTurnError",
    "TranscriptIgnored",
    "TranscriptIgnoredReason",
    "Turn",
    "TurnFinishedError",
    "TurnResent",
    "TurnStarted",
    "TurnState",
]
