"""The one writer of a client's socket: order, patience, and what can be taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from speech_engine_local.cloud import outbox as outbox_module
from speech_engine_local.cloud.outbox import BACKLOG_SECONDS, Outbox

from ..transports.clock import BACKENDS, settle, virtual
from .memory import End, pair

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.anyio


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    return virtual(request.param)


async def all_of(end: End) -> list[str | bytes]:
    end.end()
    got: list[str | bytes] = []
    while (message := await end.recv()) is not None:
        got.append(message)
    return got


def read_again(link: End) -> None:
    link.stalled = False
    link._notify()


async def test_what_needs_no_waiting_is_written_at_once() -> None:
    ours, theirs = pair()
    outbox = Outbox(ours)
    outbox.post("a")
    outbox.post("b")
    await outbox.send("c")
    assert await all_of(theirs) == ["a", "b", "c"]


async def test_what_has_to_wait_keeps_its_order() -> None:
    ours, theirs = pair(stalled=True)
    outbox = Outbox(ours)
    async with anyio.create_task_group() as group:
        group.start_soon(outbox.run)
        outbox.post("a")
        await settle()
        outbox.post("b")
        ours.stalled = False
        outbox.post("c")  # could be written now, but its turn has not come
        ours._notify()
        await outbox.send("d")
        outbox.close()
    assert await all_of(theirs) == ["a", "b", "c", "d"]


async def test_what_was_not_begun_can_be_taken_back() -> None:
    ours, theirs = pair(stalled=True)
    outbox = Outbox(ours)
    mine, yours = object(), object()
    async with anyio.create_task_group() as group:
        group.start_soon(outbox.run)
        outbox.post("begun", mine)
        await settle()
        outbox.post("taken back", mine)
        outbox.post("stays", yours)
        outbox.drop(mine)
        outbox.close()
        read_again(ours)
    assert await all_of(theirs) == ["begun", "stays"]


async def test_closing_writes_what_is_left() -> None:
    ours, theirs = pair(stalled=True)
    outbox = Outbox(ours)
    async with anyio.create_task_group() as group:
        outbox.post("a")
        outbox.close()
        group.start_soon(outbox.run)
        await settle()
        assert not outbox.ended.is_set()
        read_again(ours)
    assert outbox.ended.is_set()
    assert await all_of(theirs) == ["a"]


async def test_a_frame_that_nobody_reads_ends_it() -> None:
    ours, _ = pair(stalled=True)
    outbox = Outbox(ours)
    begun = anyio.current_time()
    outbox.post("a")
    await outbox.run()
    assert anyio.current_time() - begun == BACKLOG_SECONDS
    assert ours.aborted
    assert outbox.ended.is_set()
    outbox.post("b")  # harmless


async def test_a_client_that_is_gone_ends_it() -> None:
    ours, theirs = pair()
    theirs.end()
    outbox = Outbox(ours)
    outbox.post("a")
    await outbox.run()
    assert outbox.ended.is_set()
    assert not ours.aborted


async def test_frames_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "MAX_WAITING", 3)
    ours, _ = pair(stalled=True)
    outbox = Outbox(ours)
    for _ in range(3):
        outbox.post("a")
    assert not ours.aborted
    outbox.post("a")
    assert ours.aborted
