"""The tables of `AgentMachine` list what a subclass can use, and messages that there are."""

from __future__ import annotations

import inspect
import re

from hypothesis.stateful import RuleBasedStateMachine

from speech_engine_transports import _agent_call
from speech_engine_transports.testing import AgentMachine
from tests.docs.pages import DOCS


def first_column(heading: str) -> list[str]:
    """The code words in the first column of the table below a heading."""
    text = (DOCS / "reference" / "testing.md").read_text(encoding="utf-8")
    section = text.partition(f"### {heading}\n")[2].partition("\n### ")[0]
    cells = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    return [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]


def test_every_member_is_listed_once() -> None:
    members = {name for name in vars(AgentMachine) if not name.startswith("_")}
    members |= set(AgentMachine.__annotations__) | {"has_spoken"}
    members -= set(vars(RuleBasedStateMachine)) - {"teardown"}
    rules = {
        name
        for name in members
        if hasattr(getattr(AgentMachine, name, None), "hypothesis_stateful_rule")
    }
    given = [word.partition("(")[0] for word in first_column("What you give it")]
    played = [word.partition("(")[0] for word in first_column("What each rule plays")]
    assert sorted(played) == sorted(rules)
    assert sorted(given) == sorted(members - rules)


# What the machine puts in: turns, names, times.
VARIABLE = re.compile(r"turn \d+:? |on_transcript |came |had not come |\d+ s|\.\.\.|: ")


def test_messages_are_those_of_the_machine() -> None:
    source = re.sub(r"\{[^{}]*\}", "", inspect.getsource(_agent_call))
    messages = first_column("What a failure says")
    assert len(messages) == 12
    for message in messages:
        parts = [part.strip(" ;:") for part in VARIABLE.split(message)]
        assert [part for part in parts if part not in source] == []
