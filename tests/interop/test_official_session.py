"""The same call, held with the official session and with ours, by the same handlers.

`SAME` is what both do alike. `DIFFERENT` is every difference that a peer or a handler can see,
each with its reason; what the official session does in them is pinned too, so that a release that
changes it is noticed.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import attrs
import elevenlabs.speech_engine as official
import pytest

import speech_engine_transports as ours
from tests.transports.clock import VirtualLoop, settle
from tests.transports.peer import CLOSE, PING, cut, init, said, transcript

pytestmark = pytest.mark.anyio

Log = list[str]
Setup = Callable[[Any, Log], None]
"""Registers handlers on a session; they write what they see into the log."""


@pytest.fixture
def anyio_backend() -> Any:
    """Return the loop of both: the official session runs on asyncio only."""
    return "asyncio", {"loop_factory": VirtualLoop}


class Line:
    """A scripted socket: messages, and numbers, which are seconds to wait before the next one."""

    def __init__(self, *script: str | bytes | float, burst: bool = False) -> None:
        self.script = list(script)
        self.burst = burst
        self.sent: list[Any] = []
        self.dead = False

    async def recv(self) -> str | bytes:
        if not self.burst:
            await settle()
        while self.script and isinstance(self.script[0], float):
            await asyncio.sleep(self.script.pop(0))  # type: ignore[arg-type]
            await settle()
        if not self.script:
            raise EOFError
        message = self.script.pop(0)
        assert isinstance(message, str | bytes)
        return message

    async def send(self, data: str) -> None:
        if self.dead:
            raise OSError("broken pipe")
        frame = json.loads(data)
        if frame["type"] == "agent_response":
            self.sent.append((frame["event_id"], frame["content"], frame["is_final"]))
        else:
            self.sent.append(frame["type"])

    async def close(self) -> None: ...


@attrs.frozen
class Outcome:
    """What was sent, and what handlers saw."""

    sent: list[Any]
    log: Log = attrs.field(factory=list[str])


@attrs.frozen
class Scenario:
    name: str
    script: list[str | bytes | float]
    setup: Setup
    official: Outcome
    ours: Outcome | None = None
    why: str = ""
    burst: bool = False


async def play(make: Callable[[Any], Any], scenario: Scenario) -> Outcome:
    line, log = Line(*scenario.script, burst=scenario.burst), Log()
    session = make(line)
    session.on("error", lambda error: log.append("error"))
    session.on("close", lambda: log.append("close"))
    session.on("disconnected", lambda: log.append("disconnected"))
    scenario.setup(session, log)
    await session.run()
    await settle()
    return Outcome(line.sent, log)


# --- handlers, the same ones for both


def replying(*responses: Any) -> Setup:
    """Answer each transcript with what the callables give, one after the other."""

    def setup(session: Any, log: Log) -> None:
        rest = iter(responses)

        async def answer(messages: list[Any]) -> None:
            await session.send_response(next(rest)())

        session.on("user_transcript", answer)

    return setup


def handling(handler: Callable[[Any, Log, list[Any]], Awaitable[None] | None]) -> Setup:
    def setup(session: Any, log: Log) -> None:
        session.on("user_transcript", lambda messages: handler(session, log, messages))

    return setup


async def words(*pieces: Any) -> AsyncGenerator[Any]:
    for piece in pieces:
        yield piece


async def slowly(*pieces: str) -> AsyncGenerator[str]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(1)


def text(reply: str) -> Callable[[], str]:
    return lambda: reply


def openai_chat(piece: str) -> Any:
    return {"choices": [{"delta": {"content": piece}}]}


def anthropic(piece: str) -> Any:
    return {"type": "content_block_delta", "delta": {"type": "text_delta", "text": piece}}


def gemini(*parts: dict[str, Any]) -> Any:
    return {"candidates": [{"content": {"parts": list(parts)}}]}


async def echo_ids(session: Any, log: Log, messages: list[Any]) -> None:
    log.append(f"heard {messages[-1].content}")
    await session.send_response("x")


async def slow(session: Any, log: Log, messages: list[Any]) -> None:
    log.append(f"start {messages[-1].content}")
    try:
        await asyncio.sleep(10)
        await session.send_response("done")
    except asyncio.CancelledError:
        log.append(f"cancelled {messages[-1].content}")
        raise


async def fails(session: Any, log: Log, messages: list[Any]) -> None:
    raise ValueError("no")


async def fails_halfway(session: Any, log: Log, messages: list[Any]) -> None:
    async def broken() -> AsyncGenerator[str]:
        yield "half"
        raise ValueError("no")

    try:
        await session.send_response(broken())
        log.append("returned")
    except ValueError:
        log.append("raised")


async def says_twice(session: Any, log: Log, messages: list[Any]) -> None:
    await session.send_response("a")
    await session.send_response("b")


async def swallows(session: Any, log: Log, messages: list[Any]) -> None:
    if len(messages) > 1:
        await session.send_response("new")
        return
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        await asyncio.sleep(5)
        log.append("old one ends")


async def speaks_late(session: Any, log: Log, messages: list[Any]) -> None:
    async def late() -> None:
        await asyncio.sleep(2)
        try:
            await session.send_response("OLD")
        except RuntimeError:
            log.append("refused")

    if len(messages) == 1:
        log.append("background")
        tasks.add(asyncio.ensure_future(late()))
        await asyncio.sleep(1000)
    await asyncio.sleep(5)
    await session.send_response("new")


tasks: set[asyncio.Future[None]] = set()


async def in_background(session: Any, log: Log, messages: list[Any]) -> None:
    async def reply() -> None:
        try:
            await session.send_response("x")
        except RuntimeError:
            log.append("refused")

    tasks.add(asyncio.ensure_future(reply()))


async def closable(session: Any, log: Log, messages: list[Any]) -> None:
    class Stream:
        def __aiter__(self) -> AsyncGenerator[str]:
            return slowly("a", "b", "c")

        async def aclose(self) -> None:
            log.append("closed")

    await session.send_response(Stream() if len(messages) == 1 else "new")


async def after_close(session: Any, log: Log, messages: list[Any]) -> None:
    await session.send_response("bye")
    session.close()
    with pytest.raises(RuntimeError, match="session is closed"):
        await session.send_response("more")
    log.append(f"open: {session.is_open}")


def several(session: Any, log: Log) -> None:
    def removed(messages: list[Any]) -> None:
        log.append("removed")

    session.on("user_transcript", removed).on("user_transcript", lambda m: log.append("always"))
    session.off("user_transcript", removed).off("user_transcript", print)
    session.on("user_transcript", lambda m: session_says(session))
    session.once("user_transcript", lambda m: log.append("once"))


def once_before_on(session: Any, log: Log) -> None:
    session.once("user_transcript", lambda m: log.append("first"))
    session.on("user_transcript", lambda m: log.append("second"))
    session.on("user_transcript", lambda m: session_says(session))


def session_says(session: Any) -> Any:
    return session.send_response("x")


def slow_init(session: Any, log: Log) -> None:
    async def on_init(conversation_id: str) -> None:
        await asyncio.sleep(1)
        log.append(f"{conversation_id} ready")

    session.on("init", on_init)
    handling(echo_ids)(session, log)


def inits(session: Any, log: Log) -> None:
    session.on("init", log.append)
    session.on("user_transcript", lambda messages: None)
    session.on("close", lambda: log.append(f"{session.conversation_id} ends"))


def slow_on_error(session: Any, log: Log) -> None:
    async def on_error(error: Exception) -> None:
        await asyncio.sleep(1)

    session.on("error", on_error)
    session.on("user_transcript", lambda messages: None)


def once_and_off(session: Any, log: Log) -> None:
    def once(messages: list[Any]) -> None:
        log.append("once")

    session.once("user_transcript", once).off("user_transcript", once)
    handling(echo_ids)(session, log)


def future_returned(session: Any, log: Log) -> None:
    def answer(messages: list[Any]) -> asyncio.Future[None]:
        reply: asyncio.Future[None] = asyncio.ensure_future(session.send_response("x"))
        return reply

    session.on("user_transcript", answer)


def outside(session: Any, log: Log) -> None:
    async def on_init(conversation_id: str) -> None:
        await session.send_response("Hello?")

    session.on("init", on_init)
    handling(echo_ids)(session, log)


HI = transcript("hi", id=1)
ANEW = transcript("hi", "", "stop", id=2)
DOWN = ["disconnected"]

SAME = [
    Scenario("a text", [HI], replying(text("hello")), Outcome(said(1, "hello"), DOWN)),
    Scenario(
        "a text, and the socket ends at once",
        [HI],
        replying(text("hello")),
        Outcome(said(1, "hello"), DOWN),
        burst=True,
    ),
    Scenario(
        "a stream of texts",
        [HI],
        replying(lambda: words("a", "", "b")),
        Outcome(said(1, "a", "b"), DOWN),
    ),
    Scenario(
        "a stream, and the socket ends at once",
        [HI],
        replying(lambda: words("a", "b")),
        Outcome(said(1, "a", "b"), DOWN),
        burst=True,
    ),
    Scenario("an empty stream", [HI], replying(words), Outcome(said(1), DOWN)),
    Scenario(
        "chunks of LLMs",
        [HI],
        replying(
            lambda: words(
                {"type": "response.output_text.delta", "delta": "a"},
                {"type": "response.completed"},
                openai_chat("b"),
                anthropic("c"),
                gemini({"text": "hm", "thought": True}, {"text": "d"}, {"text": "e"}),
                None,
            )
        ),
        Outcome(said(1, "a", "b", "c", "de"), DOWN),
    ),
    Scenario(
        "a reply without an id carries null",
        [transcript("hi"), transcript("hi")],
        replying(text("a"), text("b")),
        Outcome(said(None, "a") + said(None, "b"), DOWN),
    ),
    Scenario(
        "turn after turn",
        [HI, transcript("hi", "a", "more", id=2)],
        replying(text("a"), text("b")),
        Outcome(said(1, "a") + said(2, "b"), DOWN),
    ),
    Scenario(
        "an interruption stops the old reply without a terminator",
        [HI, 1.5, ANEW],
        replying(lambda: slowly("a", "b", "c"), text("new")),
        Outcome(cut(1, "a", "b") + said(2, "new"), DOWN),
    ),
    Scenario(
        "an interruption cancels the handler",
        [HI, ANEW, 20.0],
        handling(slow),
        Outcome(said(2, "done"), ["start hi", "cancelled hi", "start stop", *DOWN]),
    ),
    Scenario(
        "of a burst the last one is answered",
        [*(transcript(f"{id}", id=id) for id in range(50)), 20.0],
        handling(slow),
        Outcome(
            said(49, "done"),
            [
                *(line for id in range(49) for line in (f"start {id}", f"cancelled {id}")),
                "start 49",
                *DOWN,
            ],
        ),
    ),
    Scenario(
        "the same id in flight is ignored",
        [HI, transcript("hi there", id=1), 20.0],
        handling(slow),
        Outcome(said(1, "done"), ["start hi", *DOWN]),
    ),
    Scenario("a ping", [PING, init(), PING], replying(), Outcome(["pong", "pong"], DOWN)),
    Scenario(
        "a close message",
        [init(), CLOSE, PING],
        inits,
        Outcome([], ["conv_1", "close", "conv_1 ends"]),
    ),
    Scenario(
        "a close message in mid reply",
        [HI, 1.5, CLOSE],
        replying(lambda: slowly("a", "b", "c")),
        Outcome(cut(1, "a", "b"), ["close"]),
    ),
    Scenario(
        "a lost socket in mid reply",
        [HI, 1.5],
        replying(lambda: slowly("a", "b", "c")),
        Outcome(cut(1, "a", "b"), DOWN),
    ),
    Scenario(
        "an error message",
        ['{"type":"error","message":"x"}', HI],
        replying(text("a")),
        Outcome(said(1, "a"), ["error", *DOWN]),
    ),
    Scenario(
        "broken JSON, and JSON that is no object",
        ["{", "[1]", b"\xff", HI],
        replying(text("a")),
        Outcome(said(1, "a"), ["error"] * 3 + DOWN),
    ),
    Scenario(
        "unknown types are ignored",
        ['{"type":"later"}', HI],
        replying(text("a")),
        Outcome(said(1, "a"), DOWN),
    ),
    Scenario(
        "binary frames are read",
        [HI.encode()],
        replying(text("a")),
        Outcome(said(1, "a"), DOWN),
    ),
    Scenario(
        "unknown roles, and a reply in another script",
        ['{"type":"user_transcript","user_transcript":[{"role":"tool","content":"x"}]}'],
        replying(text('你好 \\ "\u2028 👋')),
        Outcome(said(None, '你好 \\ "\u2028 👋'), DOWN),
    ),
    Scenario(
        "several handlers, once and off",
        [HI, transcript("again", id=2)],
        several,
        Outcome(said(1, "x") + said(2, "x"), ["always", "once", "always", *DOWN]),
    ),
    Scenario("outside a handler nothing is sent", [init()], outside, Outcome([], DOWN)),
    Scenario(
        "close() in a handler",
        [HI, PING],
        handling(after_close),
        Outcome(said(1, "bye"), ["open: False"]),
    ),
]

MALFORMED = '{"type":"user_transcript","user_transcript":[{"role":"user"}],"event_id":2}'
NULL = '{"type":"user_transcript","user_transcript":[{"role":"agent","content":null}],"event_id":1}'

DIFFERENT = [
    Scenario(
        "an empty text",
        [HI],
        replying(text("")),
        Outcome([(1, "", False), (1, "", True)], DOWN),
        Outcome(said(1), DOWN),
        why="a piece without text says nothing",
    ),
    Scenario(
        "a handler that raises",
        [HI],
        handling(fails),
        Outcome([], ["error", *DOWN]),
        Outcome(said(1), ["error", *DOWN]),
        why="without a terminator the service waits until its timeout",
    ),
    Scenario(
        "a handler that never replies",
        [HI],
        handling(lambda session, log, messages: None),
        Outcome([], DOWN),
        Outcome(said(1), DOWN),
        why="without a terminator the service waits until its timeout",
    ),
    Scenario(
        "a stream that raises",
        [HI],
        handling(fails_halfway),
        Outcome(said(1, "half"), ["error", "returned", *DOWN]),
        Outcome(said(1, "half"), ["raised", *DOWN]),
        why="a handler can say something else; unhandled, the error reaches on_error",
    ),
    Scenario(
        "a provider's error inside a stream",
        [HI],
        replying(lambda: words("half", {"type": "error", "error": {"message": "overloaded"}})),
        Outcome(said(1, "half"), DOWN),
        Outcome(said(1, "half"), ["error", *DOWN]),
        why="a failed reply is not a finished one",
    ),
    Scenario(
        "the text of a refusal",
        [HI],
        replying(lambda: words({"type": "response.refusal.delta", "delta": "I cannot."})),
        Outcome(said(1), DOWN),
        Outcome(said(1, "I cannot."), DOWN),
        why="it is what the model answers",
    ),
    Scenario(
        "a list of texts",
        [HI],
        replying(lambda: ["a", "b"]),
        Outcome(said(1), ["error", *DOWN]),
        Outcome(said(1, "a", "b"), DOWN),
        why="sync iterables are read as well",
    ),
    Scenario(
        "two replies in one turn",
        [HI],
        handling(says_twice),
        Outcome(said(1, "a") + said(1, "b"), DOWN),
        Outcome(said(1, "a"), ["error", *DOWN]),
        why="one terminator per turn; final=False leaves the reply open",
    ),
    Scenario(
        "the same id after the answer",
        [HI, HI],
        handling(echo_ids),
        Outcome(said(1, "x") * 2, ["heard hi"] * 2 + DOWN),
        Outcome(said(1, "x"), ["heard hi", *DOWN]),
        why="the answer was given",
    ),
    Scenario(
        "a lower id",
        [transcript("two", id=2), HI],
        handling(echo_ids),
        Outcome(said(2, "x") + said(1, "x"), ["heard two", "heard hi", *DOWN]),
        Outcome(said(2, "x"), ["heard two", *DOWN]),
        why="the service discards replies with an old id",
    ),
    Scenario(
        "the same question under a new id, before the first word",
        [HI, 4.0, transcript("hi", id=2), 20.0],
        handling(slow),
        Outcome(said(2, "done"), ["start hi", "cancelled hi", "start hi", *DOWN]),
        Outcome(said(2, "done"), ["start hi", *DOWN]),
        why="a re-send that restarts a slow reply never gets one",
    ),
    Scenario(
        "a malformed transcript in mid reply",
        [HI, 1.5, MALFORMED, 5.0],
        replying(lambda: slowly("a", "b", "c")),
        Outcome(cut(1, "a", "b"), ["error", *DOWN]),
        Outcome(said(1, "a", "b", "c"), ["error", *DOWN]),
        why="a bad message never touches the turn in flight",
    ),
    Scenario(
        "a second init",
        [init("one"), init("two"), CLOSE],
        inits,
        Outcome([], ["one", "two", "close", "two ends"]),
        Outcome([], ["one", "error", "close", "one ends"]),
        why="a conversation has one name",
    ),
    Scenario(
        "a ping while on_init works",
        [init("one"), PING, HI, 5.0],
        slow_init,
        Outcome(["pong", *said(1, "x")], ["one ready", "heard hi", *DOWN]),
        why="the frames are alike, but see test_a_pong_waits_for_nothing",
    ),
    Scenario(
        "a swallowed cancellation",
        [HI, ANEW, PING, 10.0],
        handling(swallows),
        Outcome([*said(2, "new"), "pong"], ["old one ends", *DOWN]),
        why="the frames are alike, but see test_a_pong_waits_for_nothing",
    ),
    Scenario(
        "a background task of an interrupted turn",
        [HI, ANEW, 10.0],
        handling(speaks_late),
        Outcome(said(2, "OLD") + said(2, "new"), ["background", *DOWN]),
        Outcome(said(2, "new"), ["background", "refused", *DOWN]),
        why="a word of the old turn under the new id passes the service's filter",
    ),
    Scenario(
        "a reply that nobody awaits",
        [HI],
        handling(in_background),
        Outcome([], DOWN),
        Outcome(said(1), ["refused", *DOWN]),
        why="the turn is over when its handlers are; that is told, not dropped in silence",
    ),
    Scenario(
        "the stream of an interrupted turn",
        [HI, 1.5, ANEW],
        handling(closable),
        Outcome(cut(1, "a", "b") + said(2, "new"), DOWN),
        Outcome(cut(1, "a", "b") + said(2, "new"), ["closed", *DOWN]),
        why="an LLM's stream that is not closed goes on and is paid for",
    ),
    Scenario(
        "off() of a handler that once() registered",
        [HI],
        once_and_off,
        Outcome(said(1, "x"), ["heard hi", "once", *DOWN]),
        Outcome(said(1, "x"), ["heard hi", *DOWN]),
        why="off() takes out what was registered",
    ),
    Scenario(
        "a handler that once() registered before others",
        [HI],
        once_before_on,
        Outcome(said(1, "x"), ["second", "first", *DOWN]),
        Outcome(said(1, "x"), ["first", "second", *DOWN]),
        why="handlers are called in the order of their registration",
    ),
    Scenario(
        "a future that a handler returns",
        [HI],
        future_returned,
        Outcome([], DOWN),
        Outcome(said(1, "x"), DOWN),
        why="what a handler returns is awaited if it can be",
    ),
]


def by_name(scenario: Scenario) -> str:
    return scenario.name


@pytest.mark.parametrize("scenario", SAME, ids=by_name)
@pytest.mark.parametrize(
    "make", [official.SpeechEngineSession, ours.SpeechEngineSession], ids=["official", "ours"]
)
async def test_both_do_the_same(make: Callable[[Any], Any], scenario: Scenario) -> None:
    assert await play(make, scenario) == scenario.official


@pytest.mark.parametrize("scenario", DIFFERENT, ids=by_name)
async def test_the_differences_are_those_that_are_listed(scenario: Scenario) -> None:
    assert scenario.why
    assert await play(official.SpeechEngineSession, scenario) == scenario.official
    assert await play(ours.SpeechEngineSession, scenario) == (scenario.ours or scenario.official)


@pytest.mark.parametrize(
    ("script", "setup", "seconds"),
    [
        ([init(), PING], slow_init, 1),
        (["{", PING], slow_on_error, 1),
        ([HI, ANEW, PING], handling(swallows), 5),
    ],
    ids=["on_init", "on_error", "a swallowed cancellation"],
)
async def test_a_pong_waits_for_nothing(
    script: list[str | bytes | float], setup: Setup, seconds: float
) -> None:
    """The official session answers a ping when its handlers leave the receive loop alone."""

    class Timed(Line):
        ponged = -1.0

        async def send(self, data: str) -> None:
            await super().send(data)
            if self.sent[-1] == "pong":
                self.ponged = asyncio.get_running_loop().time()

    waited: list[float] = []
    for make in (official.SpeechEngineSession, ours.SpeechEngineSession):
        line, began = Timed(*script, 10.0), asyncio.get_running_loop().time()
        session: Any = make(line)
        session.on("error", lambda error: None)
        setup(session, [])
        await session.run()
        waited.append(line.ponged - began)
    assert waited == [pytest.approx(seconds), pytest.approx(0)]


async def test_null_content_ends_the_official_session_and_not_ours() -> None:
    """The service cuts an interrupted reply down to what was heard, which may be nothing."""
    errors: list[Exception] = []
    theirs = official.SpeechEngineSession(Line(NULL))
    theirs.on("user_transcript", lambda messages: None).on("error", errors.append)
    with pytest.raises(ValueError, match="content"):
        await theirs.run()
    assert errors == []
    line = Line(NULL)
    session = ours.SpeechEngineSession(line)
    heard: list[str] = []

    async def answer(messages: list[ours.ConversationMessage]) -> None:
        heard.append(messages[-1].content)
        await session.send_response("x")

    session.on("user_transcript", answer)
    await session.run()
    assert heard == [""]
    assert line.sent == said(1, "x")


async def test_a_reply_to_a_dead_socket_is_no_success() -> None:
    logs: list[Log] = []
    for make in (official.SpeechEngineSession, ours.SpeechEngineSession):
        line, log = Line(HI), Log()
        session: Any = make(line)

        async def answer(
            messages: list[Any], session: Any = session, line: Line = line, log: Log = log
        ) -> None:
            line.dead = True
            try:
                await session.send_response("x")
                log.append("success")
            except RuntimeError as error:
                log.append(str(error).partition(":")[0])

        session.on("user_transcript", answer)
        await session.run()
        logs.append(log)
    assert logs == [["success"], ["session is closed"]]


async def test_outer_cancellation_while_a_handler_cleans_up_is_not_swallowed() -> None:
    """Cancel run() while it waits for an interrupted handler: the official one runs on."""

    async def stubborn(messages: list[Any]) -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            await asyncio.sleep(3)

    ended: list[bool] = []
    for make in (official.SpeechEngineSession, ours.SpeechEngineSession):
        session: Any = make(Line(HI, ANEW, 1000.0))
        session.on("user_transcript", stubborn)
        task = asyncio.create_task(session.run())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.sleep(20)
        ended.append(task.cancelled())
        task.cancel()
        await asyncio.wait([task])
    assert ended == [False, True]


# --- the official surface

SURFACE: list[tuple[Any, Any]] = [
    (official.SpeechEngineSession, ours.SpeechEngineSession),
    (official.SpeechEngineServer, ours.SpeechEngineServer),
    (official.SpeechEngineResource, ours.SpeechEngineResource),
]

ELSEWHERE = {
    ("SpeechEngineResource", "__init__", "client_wrapper"): "api_key",
    ("SpeechEngineResource", "__init__", "response"): "config",
}
"""Parameters that carry Fern's own objects, and what carries their contents here."""


def public(kind: type) -> list[str]:
    return [n for n in vars(kind) if not n.startswith("_") or n == "__init__"]


@pytest.mark.parametrize(("theirs", "mine"), SURFACE)
def test_every_official_method_and_parameter_is_here(theirs: type, mine: type) -> None:
    for name in public(theirs):
        member = inspect.getattr_static(theirs, name)
        assert hasattr(mine, name), name
        if not inspect.isfunction(member):
            continue
        here = inspect.signature(getattr(mine, name)).parameters
        for parameter in inspect.signature(member).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                assert any(p.kind is p.VAR_KEYWORD for p in here.values())
                continue
            moved = ELSEWHERE.get((theirs.__name__, name, parameter.name))
            ours_now = here[moved or parameter.name]
            if not moved and parameter.default is not parameter.empty:
                assert ours_now.default == parameter.default, (name, parameter.name)
        assert inspect.iscoroutinefunction(member) == inspect.iscoroutinefunction(
            getattr(mine, name)
        )


def test_constants_and_messages_are_alike() -> None:
    for name in ("INIT", "USER_TRANSCRIPT", "CLOSE", "DISCONNECTED", "ERROR"):
        assert getattr(ours, name) == getattr(official, name)
    theirs = official.ConversationMessage(role="user", content="hi")
    mine = ours.ConversationMessage(role="user", content="hi")
    assert mine.model_dump() == theirs.model_dump()
    assert (mine.role, mine.content) == (theirs.role, theirs.content)


def test_a_misspelt_callback_is_an_error_here() -> None:
    callbacks: dict[str, Any] = {"on_transcripts": print}
    official.SpeechEngineServer(**callbacks)
    with pytest.raises(TypeError, match="on_transcripts"):
        ours.SpeechEngineServer(**callbacks)


def test_every_official_name_is_here() -> None:
    assert set(official.__all__) <= set(ours.__all__)
