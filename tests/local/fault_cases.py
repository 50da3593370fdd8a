"""What the checks must say of each fault."""

from __future__ import annotations

import json
from functools import partial
from http import HTTPStatus

import attrs
from websockets.frames import Opcode

from speech_engine_local.check import CHECKS

from .broken import Fault, converse, hand_made
from .faults import (
    Eager,
    Leaving,
    Noisy,
    Shared,
    Stays,
    admit_all,
    answering,
    at_the_end,
    decoded,
    every_second_pong,
    final,
    first_only,
    fragile,
    incoming,
    last_only,
    mute_at_half,
    outgoing,
    remembering,
    repaired,
    strict,
    swap,
    with_content,
    without_init_done,
    without_null_id,
)


@attrs.frozen
class Case:
    """A fault, and the checks that must not pass because of it."""

    name: str
    fault: Fault
    fails: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        return (*self.fails, *self.differs)


def names(group: str, *left_out: str) -> tuple[str, ...]:
    return tuple(c.id for c in CHECKS if c.group == group and c.id not in left_out)


REFUSALS = tuple(
    f"handshake.{name}"
    for name in (
        "no-token",
        "rubbish",
        "wrong-key",
        "api-key",
        "expired",
        "future",
        "issuer",
        "subject",
        "no-expiry",
        "unsigned",
        "repeated",
    )
)

STRICT = (
    "lifecycle.second-init",
    "lifecycle.error",
    "lifecycle.unknown-type",
    "lifecycle.own-messages",
    "lifecycle.unknown-keys",
    "lifecycle.role",
    "turns.no-id",
    "turns.null-id",
    "turns.null-ids",
    "turns.gaps",
    "turns.surrogate",
    "re-sends.answered",
    "re-sends.older",
    "keep-alive.before-init",
    *names("malformed", "malformed.reported", "malformed.utf-8-text"),
)

CASES = (
    Case("admits everybody", Fault(admit_all), REFUSALS, ("handshake.path",)),
    Case(
        "admits nobody",
        Fault(answering(HTTPStatus.UNAUTHORIZED)),
        ("handshake.token", "handshake.subprotocol"),
        ("handshake.bearer", "handshake.query", "handshake.path"),
    ),
    Case(
        "fails at the upgrade",
        Fault(answering(HTTPStatus.INTERNAL_SERVER_ERROR)),
        (*REFUSALS, *(f"handshake.{n}" for n in ("bearer", "query", "path", "subprotocol"))),
    ),
    Case("finds nobody", Fault(answering(HTTPStatus.NOT_FOUND)), (), REFUSALS),
    Case("breaks at a path", Fault(fragile), ("handshake.odd-target", "handshake.reset")),
    Case(
        "chooses any subprotocol",
        Fault(extra={"select_subprotocol": lambda _, offered: (offered or [None])[0]}),
        (),
        ("handshake.subprotocol",),
    ),
    Case(
        "is strict",
        Fault(incoming=lambda: strict(1002)()),
        STRICT,
        ("lifecycle.no-init", "lifecycle.binary", "lifecycle.long-history"),
    ),
    Case(
        "fails at what is odd",
        Fault(incoming=lambda: strict(1011)()),
        ("lifecycle.no-init", "lifecycle.binary", "lifecycle.long-history"),
    ),
    Case(
        "fails at bytes", Fault(as_bytes=True, incoming=lambda: decoded), ("malformed.utf-8-text",)
    ),
    Case(
        "reads no init",
        incoming(lambda m: None if m.get("type") == "init" else m),
        ("lifecycle.conversation-id",),
    ),
    Case("renames", Fault(converse=hand_made()), (), ("lifecycle.second-init",)),
    Case("reads a first fragment", Fault(first_fragments=True), ("lifecycle.fragments",)),
    Case("mixes calls up", Fault(agent=Shared), ("lifecycle.two-calls",)),
    Case("does not wait for init", Fault(agent=Eager), (), ("lifecycle.slow-init",)),
    Case("is mute", outgoing(lambda frame: []), ("lifecycle.init",)),
    Case("misses a question", incoming(without_init_done), ("lifecycle.slow-init",)),
    Case("writes ids as text", swap(event_id="1"), ("turns.shape", "turns.event-id")),
    Case(
        "writes bytes",
        outgoing(lambda frame: [json.dumps(frame).encode()]),
        ("turns.shape",),
    ),
    Case(
        "answers once",
        Fault(incoming=first_only),
        (
            "turns.one-after-another",
            "interruption.answered",
            "interruption.at-once",
            "interruption.once-more",
            "interruption.old-terminator",
        ),
    ),
    Case("leaves null out", outgoing(without_null_id), (), ("turns.null-id",)),
    Case("forgets", incoming(last_only), ("turns.history",)),
    Case("trims", with_content(str.strip), ("turns.words", "turns.stream")),
    Case("cuts", with_content(lambda text: text[:1000]), ("turns.long-reply",)),
    Case("falls silent", Fault(outgoing=mute_at_half), ("turns.surrogate-reply",)),
    Case("waits for the end", Fault(outgoing=at_the_end), ("turns.no-waiting",)),
    Case(
        "tells no turn from another",
        Fault(converse=hand_made()),
        (
            "interruption.stops",
            "interruption.stream-closed",
            "interruption.background",
            "interruption.burst",
            "interruption.before-a-word",
            "terminators.nothing",
            "terminators.raise",
            "terminators.stream-error",
            "terminators.abort-error",
            "terminators.twice",
            "re-sends.in-flight",
            "re-sends.new-id",
            "re-sends.older-in-flight",
            "re-sends.many",
            "malformed.reported",
            "close.nothing-after",
            "close.mid-reply",
        ),
        ("re-sends.answered", "re-sends.older", "close.1000"),
    ),
    Case(
        "never stops",
        Fault(converse=hand_made(captures=True)),
        ("interruption.stops",),
        ("interruption.old-terminator", "interruption.burst", "interruption.before-a-word"),
    ),
    Case(
        "does one thing at a time",
        Fault(converse=hand_made(parallel=False)),
        (
            "interruption.swallowed",
            "terminators.after-raise",
            "keep-alive.busy",
            "keep-alive.streaming",
            "keep-alive.slow-init",
            "keep-alive.swallowed",
            "keep-alive.after-raise",
        ),
    ),
    Case(
        "starts anew",
        Fault(converse=partial(converse, adopt_resends=False)),
        (),
        ("re-sends.new-id",),
    ),
    Case("remembers failures", Fault(incoming=remembering), ("re-sends.failed",)),
    Case(
        "ends twice",
        final(lambda frame: [frame, frame]),
        ("terminators.one", "terminators.no-words"),
    ),
    Case(
        "ends with words",
        final(lambda frame: [{**frame, "content": "bye"}]),
        ("terminators.empty",),
    ),
    Case(
        "names its pongs",
        outgoing(lambda f: [{**f, "event_id": 1} if f["type"] == "pong" else f]),
        ("keep-alive.pong",),
    ),
    Case("loses pongs", Fault(outgoing=every_second_pong), ("keep-alive.each",)),
    Case(
        "knows no control frames",
        Fault(silent=(Opcode.PONG, Opcode.CLOSE)),
        ("keep-alive.websocket", "close.handshake"),
    ),
    Case(
        "answers to anything",
        incoming(repaired),
        ("malformed.no-transcript", "malformed.keeps-reply"),
    ),
    Case(
        "does not hear the end",
        incoming(lambda m: None if m.get("type") == "close" else m),
        ("close.events", "close.nothing-after", "close.mid-reply"),
        ("close.1000",),
    ),
    Case(
        "fails at the end",
        Fault(close_code=1011),
        ("close.1000",),
        ("close.hang-up",),
    ),
    Case("does not hang up", Fault(agent=Stays), ("close.hang-up",)),
    Case("tells twice", Fault(agent=Noisy), ("close.dropped", "close.silent-end")),
    Case("drops all calls with one", Fault(agent=Leaving), ("close.others",)),
)
