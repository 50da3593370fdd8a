"""Test your handlers, and your own adapter.

- `ScriptedSocket`: a conversation in memory, to play to a session with your handlers.
- `AgentMachine`: fuzzes your handlers with callers who talk over it, ask twice and hang up.
- `AdapterContract`: the whole behaviour of a transport, as tests for any adapter.

Each is imported when it is first used. The last two need the extra ``testing``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
