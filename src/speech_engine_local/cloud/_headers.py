"""The engine's request headers, with the client's dynamic variables filled in (fact sheet 4)."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["filled"]

logger = logging.getLogger("speech_engine_local")

_VALUE = re.compile(r"[^\x00-\x1f\x7f]*")
"""What a header's value may be made of: no line break, which would begin another header."""


def filled(
    wanted: Mapping[str, Any], variables: Mapping[str, str], conversation_id: str
) -> Iterator[tuple[str, str]]:
    """Yield the headers to send; what cannot be filled is left out, and the log says so.

    Args:
        wanted: by name: a string, ``{"variable_name": ...}`` or ``{"secret_id": ...}``.
        variables: what the client sent.
        conversation_id: for the log.
    """
    for name, value in wanted.items():
        if isinstance(value, str):
            yield name, value
            continue
        variable = value.get("variable_name")
        text = None if variable is None else variables.get(variable)
        if variable is None:
            why = "this cloud keeps no secrets"
        elif text is None:
            why = f"the client sent no dynamic variable {variable!r}"
        elif not _VALUE.fullmatch(text):
            why = f"the dynamic variable {variable!r} holds a control character"
        else:
            yield name, text
            continue
        logger.warning("%s: header %s is left out: %s", conversation_id, name, why)
