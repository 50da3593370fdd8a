"""Every history of up to 3 turns and 8 events, step by step against the independent model.

At each point may come: ``init``, ``ping``, a bad message, ``close``, the end of the socket, our own
leaving; a transcript with a new id and new words, with a new id and the same words, with the same
id, a lower one, none; and for every turn so far a piece or a terminator. That makes 720,468,354
histories. They pass through 64,704 different states, and in each of them every event is tried
once: what follows depends on the state alone, hidden fields and old turns' handles included.
"""

from __future__ import annotations

import pytest

from tests.proto.walk import walk

pytestmark = pytest.mark.slow


@pytest.mark.timeout(300)
def test_every_history_of_three_turns_and_eight_events() -> None:
    assert walk(turns=3, events=8) == (720_468_354, 64_704)


def test_every_short_history_without_adoption() -> None:
    """With ``adopt_resends=False`` each new id interrupts."""
    histories, states = walk(turns=3, events=5, adopts=False)
    assert histories > 200_000
    assert states > 1_000
