"""One entry of a conversation, and the names of what can happen in it."""

from __future__ import annotations

import msgspec

# The names of a session's events, as in the official SDK (seed, "Events").
INIT = "init"
USER_TRANSCRIPT = "user_transcript"
CLOSE = "close"
DISCONNECTED = "disconnected"
ERROR = "error"


def length_only(text: str) -> str:
    """Show how long a text is instead of the text, for reprs."""
    return f"<{len(text)} characters>"


class ConversationMessage(msgspec.Struct, frozen=True, gc=False):
    """Something that the caller or the agent said.

    Its repr shows the length of the content and never the content: reprs end up in logs.

    A Struct because each turn makes hundreds of them, which msgspec does fastest for its own kind.
    Two texts make no cycle, so the garbage collector has nothing to look for in it.

    Args:
        role: ``"user"`` or ``"agent"``; whatever else a service may send is kept as it came.
        content: the text, possibly empty.
    """

    role: str
    content: str

    def __repr__(self) -> str:
        return f"ConversationMessage(role={self.role!r}, content={length_only(self.content)})"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        """Show the same to rich's tracebacks, for which a Struct would list its contents."""
        return [("role", self.role), ("content", length_only(self.content))]

    def model_dump(self) -> dict[str, str]:
        """Return the message as a dict, as the official SDK's class does."""
        return {"role": self.role, "content": self.content}
