"""The bounds on what a peer may send (rule 7)."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from speech_engine_proto import Limits


def test_defaults() -> None:
    assert Limits() == Limits(max_frame_bytes=16 * 1024 * 1024, max_messages=10_000)


def test_frozen() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Limits().max_messages = 1  # type: ignore[misc]


def test_one_is_enough() -> None:
    assert Limits(max_frame_bytes=1, max_messages=1).max_messages == 1


@pytest.mark.parametrize("name", ["max_frame_bytes", "max_messages"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "9", None])
def test_anything_but_a_positive_int_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"Limits\.{name}: expected a positive int, got "):
        Limits(**{name: value})
