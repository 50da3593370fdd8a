"""The reference lists exactly what is public, and its tables hold what the code holds."""

from __future__ import annotations

import importlib
import re
from typing import get_args

import pytest

from speech_engine_proto import AgentEvent, EngineEvent
from speech_engine_transports._handlers import ARGUMENTS, CALLBACKS
from tests.docs.pages import DOCS

REFERENCE = DOCS / "reference"

# Documented with the package that they come from; `transports.md` says so.
TAKEN_OVER = {
    "CLOSE",
    "DISCONNECTED",
    "ERROR",
    "INIT",
    "USER_TRANSCRIPT",
    "ConversationMessage",
    "to_messages",
    "verify_speech_engine_jwt",
}


def documented() -> dict[str, list[str]]:
    """All names with a directive of their own, by module."""
    found: dict[str, list[str]] = {}
    for page in REFERENCE.glob("*.md"):
        names: list[str] = []
        pattern = r"^\.\. (?:py:(module)|auto\w+):: ([\w.]+)"
        for is_module, name in re.findall(pattern, page.read_text(encoding="utf-8"), re.MULTILINE):
            if is_module:
                names = found.setdefault(name, [])
            else:
                names.append(name)
    return found


@pytest.mark.parametrize("module", sorted(documented()))
def test_a_page_lists_exactly_the_public_names(module: str) -> None:
    names = documented()[module]
    public = set(importlib.import_module(module).__all__)
    if module == "speech_engine_transports":
        public -= TAKEN_OVER
    assert len(names) == len(set(names))
    assert set(names) == public


def test_what_is_taken_over_is_documented_where_it_comes_from() -> None:
    transports = importlib.import_module("speech_engine_transports")
    elsewhere = {
        name for module, names in documented().items() if "proto" in module for name in names
    }
    assert elsewhere >= TAKEN_OVER
    assert set(transports.__all__) >= TAKEN_OVER


def test_the_packages_and_their_public_submodules_have_pages() -> None:
    assert set(documented()) == {
        "speech_engine_proto",
        "speech_engine_proto.auth",
        "speech_engine_proto.llm",
        "speech_engine_proto.rest",
        "speech_engine_proto.testing",
        "speech_engine_proto.wire",
        "speech_engine_transports",
        "speech_engine_transports.aiohttp",
        "speech_engine_transports.asgi",
        "speech_engine_transports.asyncio",
        "speech_engine_transports.httpx",
        "speech_engine_transports.otel",
        "speech_engine_transports.picows",
        "speech_engine_transports.testing",
        "speech_engine_transports.trio",
        "speech_engine_local",
        "speech_engine_local.check",
        "speech_engine_local.check.targets",
        "speech_engine_local.cloud",
        "speech_engine_local.cloud.espeak",
        "speech_engine_local.cloud.playback",
        "speech_engine_local.cloud.speech",
        "speech_engine_local.journal",
        "speech_engine_local.load",
        "speech_engine_local.pytest_plugin",
    }


def table_of_names(column: str) -> set[str]:
    """All code words in one column of the tables of names."""
    words: set[str] = set()
    index = -1
    for line in (REFERENCE / "names.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            index = -1
        elif column in cells:
            index = cells.index(column)
        elif index >= 0:
            words.update(re.findall(r"`(\w+)", cells[index]))
    return words


def test_the_table_has_every_event_of_the_agents_side() -> None:
    events = {event.__name__ for event in get_args(AgentEvent)}
    assert table_of_names("core event") == events | {"reply"}


def test_the_table_has_every_event_of_a_reply() -> None:
    events = {event.__name__ for event in get_args(EngineEvent)}
    at_the_engine = table_of_names("event at the engine")
    assert at_the_engine <= events
    assert events - at_the_engine <= table_of_names("core event")


def test_the_table_has_every_event_of_a_session() -> None:
    constants = {name.upper() for name in ARGUMENTS}
    errors = {"ServiceError", "RemoteProtocolError"}
    assert table_of_names("session event") - errors == set(ARGUMENTS) | constants


def test_the_table_has_every_callback() -> None:
    assert table_of_names("callback") == set(CALLBACKS)
