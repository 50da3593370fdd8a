"""The agent's side against the independent model, on random histories.

`test_exhaustive` covers all short histories; here they are long, ids jump, turns of long ago speak
up, and what ends the conversation comes late.
"""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.proto.model import Model
from tests.proto.subject import Action, Subject, step


class AgentMachine(RuleBasedStateMachine):
    """One conversation, on both."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.subject = Subject()
        self.steps = 0

    @initialize(adopts=st.booleans())
    def start(self, adopts: bool) -> None:
        self.model = Model(adopts)
        self.subject = Subject(adopts=adopts)

    @rule(
        distance=st.one_of(st.integers(-3, 3), st.sampled_from([-1000, 1000, 2**40])),
        fresh=st.booleans(),
    )
    def transcript(self, distance: int, fresh: bool) -> None:
        self.step("transcript", (self.model.highest or 0) + distance, self.question(fresh))

    @rule(fresh=st.booleans())
    def transcript_without_id(self, fresh: bool) -> None:
        self.step("transcript", None, self.question(fresh))

    @rule(name=st.sampled_from(["ping", "init", "broken", "unknown", "wrong", "error"]))
    def message(self, name: str) -> None:
        self.step(name)

    @precondition(lambda self: self.model.asked)
    @rule(verb=st.sampled_from(["piece", "piece", "terminator"]))
    def reply(self, verb: str) -> None:
        self.step(verb, len(self.model.asked))

    @precondition(lambda self: len(self.model.asked) > 1)
    @rule(verb=st.sampled_from(["piece", "terminator"]), data=st.data())
    def late_reply(self, verb: str, data: st.DataObject) -> None:
        self.step(verb, data.draw(st.integers(1, len(self.model.asked) - 1), label="turn"))

    @precondition(lambda self: self.steps > 10)
    @rule(name=st.sampled_from(["close", "eof", "leave"]))
    def end(self, name: str) -> None:
        self.step(name)

    def question(self, fresh: bool) -> int:
        """Return words that were asked last, or new ones."""
        last = self.model.asked[-1].question if self.model.asked else 0
        return last + 1 if fresh else last

    def step(self, name: str, *arguments: int | None) -> None:
        """Do one thing on both sides."""
        self.steps += 1
        action: Action = (name, arguments)
        step(self.model, self.subject, action)


TestModel = AgentMachine.TestCase
