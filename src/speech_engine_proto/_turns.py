"""A turn: one transcript of the caller and the agent's reply to it."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import attrs

from . import wire
from ._messages import ConversationMessage, length_only
from ._states import TURN_MOVES, Move, TurnState

if TYPE_CHECKING:
    from collections.abc import Iterable

COMPARED = 32
"""Messages at the end of a history in which what was heard of a reply is looked for.

A service corrects the newest words: those of the caller, and the reply that was cut. What stands
further back is taken as known without looking at it, so that neither the time nor the memory that
this takes grows with the call.
"""

_SPEAKING = TurnState.SPEAKING  # asked for each piece, and slow to look up on Python 3.11


@attrs.frozen
class HeardReply:
    """What the service's history says of the previous reply.

    Inferred, never reported: the service has no message that says what was spoken. It is for
    people and prompts; no rule of the protocol depends on it.

    Args:
        sent: the text that was sent as that reply.
        heard: what the history holds in its place; ``""`` where it holds nothing.
        interrupted: whether the reply was cut before its terminator, or the two differ, white
            space aside. Both count: all that was sent may have been heard of a reply that was cut.
    """

    sent: str = attrs.field(repr=length_only)
    heard: str = attrs.field(repr=length_only)
    interrupted: bool


class SentReply:
    """What must be kept of a reply to tell later what was heard of it.

    The transcript itself is not kept: at rest, a call would hold its whole history a second time.
    A number for each of its last messages is enough to find where the next history leaves it.
    """

    __slots__ = ("_cut", "_fingerprints", "_settled", "_text")

    def __init__(
        self, text: str, transcript: tuple[ConversationMessage, ...], *, cut: bool = False
    ) -> None:
        self._text = text
        self._cut = cut
        self._settled = max(0, len(transcript) - COMPARED)
        self._fingerprints = _fingerprints(transcript[self._settled :])

    def heard_in(self, transcript: tuple[ConversationMessage, ...]) -> HeardReply:
        """Compare with a later history: what the agent said after the longest common prefix."""
        known = self._settled
        following = _fingerprints(transcript[known : known + COMPARED])
        for before, after in zip(self._fingerprints, following, strict=False):
            if before != after:
                break
            known += 1
        heard = " ".join(m.content for m in transcript[known:] if m.role == "agent")
        differ = heard.split() != self._text.split()
        return HeardReply(self._text, heard, self._cut or differ)


def _fingerprints(messages: Iterable[ConversationMessage]) -> array[int]:
    return array("q", [hash(message) for message in messages])


class Turn:
    """The live handle of one turn; what every verb of the agent's side is checked against.

    An id cannot do that: two turns without one could not be told apart. A turn is one object for
    its whole life; only the connection that made it changes it.
    """

    __slots__ = (
        "_frame_end",
        "_heard",
        "_pieces",
        "_previous",
        "attempt",
        "event_id",
        "state",
        "transcript",
    )

    def __init__(
        self,
        event_id: int | None,
        transcript: tuple[ConversationMessage, ...],
        *,
        attempt: int = 1,
        previous: SentReply | None = None,
    ) -> None:
        self.event_id: int | None = event_id
        """The id that the replies carry; a re-send under a new id changes it."""
        self.transcript: tuple[ConversationMessage, ...] = transcript
        """The conversation as the service told it, the caller's newest words last."""
        self.state: TurnState = TurnState.WAITING
        """How far the reply has come."""
        self.attempt: int = attempt
        """How often the service has asked this: 1, and one more for each re-send taken up."""
        self._pieces: list[str] = []
        self._frame_end = ""
        self._previous = previous
        self._heard: HeardReply | None = None

    @property
    def interrupted(self) -> bool:
        """Whether something ended this turn before its terminator."""
        return self.state is TurnState.INTERRUPTED

    @property
    def in_flight(self) -> bool:
        """Whether the turn is current and its terminator is still owed."""
        return self.state is TurnState.WAITING or self.state is TurnState.SPEAKING

    @property
    def text_sent(self) -> str:
        """All text of the reply that has become frames, joined."""
        return "".join(self._pieces)

    @property
    def pieces_sent(self) -> int:
        """How many frames of text the reply has had so far."""
        return len(self._pieces)

    @property
    def heard(self) -> HeardReply | None:
        """What the history says of the previous reply; None where that reply had no text."""
        if self._heard is None and self._previous is not None:
            self._heard = self._previous.heard_in(self.transcript)
        return self._heard

    def __repr__(self) -> str:
        return (
            f"<Turn {self.event_id} {self.state.value}: attempt {self.attempt}, "
            f"{len(self.transcript)} messages, {len(self.text_sent)} characters sent>"
        )

    # For the connection only.

    def move(self, move: Move) -> None:
        """Make a move of the table; KeyError where it is not legal."""
        self.state = TURN_MOVES[self.state][move]

    def add_piece(self, text: str) -> str:
        """Return the frame of a piece, and note that it was made."""
        speaking = self.state is _SPEAKING
        if not speaking:
            # The id is settled by the first piece: what has been said is not asked again (Rule 3).
            self._frame_end = wire.reply_end(False, self.event_id)
        frame = wire.reply_frame(text, self._frame_end)
        self._pieces.append(text)
        if not speaking:
            self.move(Move.PIECE)
        return frame

    def resend_as(self, event_id: int) -> None:
        """Go on under a new id (Rule 3)."""
        self.move(Move.RESEND)
        self.event_id = event_id
        self.attempt += 1

    def sent_reply(self) -> SentReply | None:
        """What to keep of this turn once it is over; None where no text was sent."""
        if not self._pieces:
            return None
        return SentReply(self.text_sent, self.transcript, cut=self.interrupted)
