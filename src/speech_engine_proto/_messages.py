"""One entry of a conversation, and the names of what can happen in it."""

from __future__ import annotations

import attrs

# The names of a session's events, as in the official SDK (seed, "Events").
INIT = "init"
USER_TRANSCRIPT = "user_transcript"
CLOSE = "close"
DISCONNECTED = "disconnected"
ERROR = "error"


def length_only(text: str) -> str:
    """Show how long a text is instead of the text, for reprs."""
    return f"<{len(text)} characters>"


@attrs.frozen
class ConversationMessage:
    """Something that the caller or the agent said.

    Its repr shows the length of the content and never the content: reprs end up in logs.

    Args:
        role: ``"user"`` or ``"agent"``; whatever else a service may send is kept as it came.
        content: the text, possibly empty.
    """

    role: str
    content: str = attrs.field(repr=length_only)

    def model_dump(self) -> dict[str, str]:
        """Return the message as a dict, as the official SDK's class does."""
        return {"role": self.role, "content": self.content}
