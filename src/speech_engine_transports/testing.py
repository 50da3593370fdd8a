"""Test your handlers, and your own adapter.

- `ScriptedSocket`: a conversation in memory, to play to a session with your handlers.
- `AgentMachine`: fuzzes your handlers with callers who talk over it, ask twice and hang up.
- `AdapterContract`: the whole behaviour of a transport, as tests for any adapter.

Each is imported when it is first used. The last two need the extra ``testing``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._agent_machine import AgentMachine
    from ._contract import AdapterContract
    from ._scripted import ScriptedSocket

__all__ = ["AdapterContract", "AgentMachine", "ScriptedSocket"]

_HOMES = {
    "AgentMachine": "speech_engine_transports._agent_machine",
    "AdapterContract": "speech_engine_transports._contract",
    "ScriptedSocket": "speech_engine_transports._scripted",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
