"""Record a conversation's wire, and replay it.

A `Recorder` writes each call of a server into a journal, ``speech-engine record`` does so from
outside. `read_journal` reads one up to its end or its first damage; `replay` drives the pure core
with it, `replay_live` a live server.
"""

from ._journal import Damage, Direction, Journal, JournalLine, JournalWriter, read_journal
from ._recorder import Recorder
from ._redact import redact
from ._replay import Divergence, Replay, replay
from ._replay_live import replay_live

__all__ = [
    "Damage",
    "Direction",
    "Divergence",
    "Journal",
    "JournalLine",
    "JournalWriter",
    "Recorder",
    "Replay",
    "read_journal",
    "redact",
    "replay",
    "replay_live",
]
