"""The `call` fixture, in runs of pytest of its own: tests as users write them, good and bad."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING

import aiotools
import anyio.to_thread
import pytest
import trio.testing
import trio_websocket
import websockets.asyncio.server

import speech_engine_transports.asyncio
import speech_engine_transports.trio
from speech_engine_local import _pytest_run

from .servers import answering, raw_server

if TYPE_CHECKING:
    from collections.abc import Sequence

pytest_plugins = "pytester"
pytestmark = pytest.mark.slow

# Imported here, so that no run of pytest within this process imports them anew.
HEAVY = (aiotools, trio.testing, trio_websocket, websockets.asyncio.server, anyio.to_thread)
OURS = (speech_engine_transports.asyncio, speech_engine_transports.trio, _pytest_run)

BACKENDS = ["asyncio", "trio"]

AGENT = """
import asyncio
import time

import anyio
import pytest
import trio


async def count(last):
    for number in range(1, last + 1):
        yield f"{number} "
        await anyio.sleep(0.25)


async def on_transcript(transcript, session):
    match transcript[-1].content.split():
        case ["count", last]:
            await anyio.sleep(0.5)
            await session.send_response(count(int(last)))
        case ["numbers"]:
            await session.send_response(f"{number} " for number in range(5))
        case ["block"]:
            await anyio.to_thread.run_sync(time.sleep, 0.01)
            await session.send_response("done")
        case ["native"]:
            thread = trio.to_thread.run_sync if trio.lowlevel.in_trio_run() else asyncio.to_thread
            await thread(time.sleep, 0.01)
            await session.send_response("done")
        case ["fail"]:
            raise ValueError("out of cheese")
        case ["think"]:
            await anyio.sleep(3600)
        case ["hang", "up"]:
            await session.send_response("bye")
            session.close()
        case ["id"]:
            room = session.request.headers["x-room"]
            await session.send_response(f"{session.conversation_id} {room}")
        case words:
            await session.send_response(f"Hello, {words[-1]}!")
"""

FIXTURE = """
@pytest.fixture
def agent():
    return on_transcript

"""


class Users:
    """A project of a user, and its runs."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.modes = ["-p", "no:cacheprovider", "-W", "error"]

    def run(self, test: str, *options: str, agent: str = FIXTURE) -> pytest.RunResult:
        """Run a test file that begins with the agent."""
        self.pytester.makepyfile(test_user=f"{AGENT}{agent}{test}")
        return self.pytester.runpytest_inprocess(*self.modes, *options)


@pytest.fixture
def users(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Users:
    monkeypatch.delenv("ELEVENLABS_API_KEY", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    monkeypatch.setenv("COLUMNS", "140")
    pytester.makeini("[pytest]\n")
    made = Users(pytester)
    if importlib.util.find_spec("pytest_asyncio"):
        made.modes += ["-o", "asyncio_default_fixture_loop_scope=function"]
    return made


def told(result: pytest.RunResult) -> list[str]:
    """The lines of the only report of a conversation, white space made one."""
    lines = [" ".join(line.split()) for line in result.outlines]
    (begin,) = (n for n, line in enumerate(lines) if line.strip("- ") == "Conversation")
    found = lines[begin + 1 :]
    end = next(n for n, line in enumerate(found) if line[:3] in ("---", "___", "==="))
    return found[:end]


CONVERSATION = """
async def test_conversation(call):
    reply = await call.say("my name is Ada")
    assert reply.text == "Hello, Ada!"
    long_reply = await call.ask("count 1000")
    await call.listen(pieces=3)
    reply = await call.interrupt("stop")
    assert reply.text == "Hello, stop!"
    assert long_reply.interrupted
    assert [message.content for message in call.history[2:]] == [
        "count 1000", "1 2 3 ", "stop", "Hello, stop!",
    ]
    assert await call.ping() >= 0
    assert call.is_open
    assert call.close_code is None
    assert call.violations == ()
    assert call.errors == []
    await call.hang_up()
    await call.hang_up()
    assert not call.is_open
    assert call.close_code in (1000, None)  # trio-websocket does not tell
"""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("socket", [False, True])
def test_a_conversation_in_memory_and_over_a_socket(
    users: Users, backend: str, socket: bool
) -> None:
    options = [f"--speech-engine-backend={backend}", *["--speech-engine-socket"] * socket]
    users.run(CONVERSATION, *options).assert_outcomes(passed=1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_time_is_virtual_in_memory(users: Users, backend: str) -> None:
    test = """
async def test_time(call):
    reply = await call.ask("count 2400")
    await call.listen(seconds=1.1)
    assert reply.text == "1 2 3 "
    assert reply.first_word_after == pytest.approx(0.5, abs=0.01)
    await call.listen()
    assert reply.took == pytest.approx(0.5 + 2400 / 4, abs=3)
    await call.pause(1000)
"""
    users.run(test, f"--speech-engine-backend={backend}").assert_outcomes(passed=1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_time_waits_for_threads(users: Users, backend: str) -> None:
    test = """
@pytest.mark.parametrize("words", ["numbers", "block", "native"])
async def test_threads(call, words):
    reply = await call.say(words)
    assert reply.text in ("0 1 2 3 4 ", "done")
    assert reply.attempts == 1
    await call.pause(1000)
"""
    users.run(test, f"--speech-engine-backend={backend}").assert_outcomes(passed=3)


def test_a_failure_shows_the_conversation_as_it_went(users: Users) -> None:
    result = users.run("""
async def test_wrong(call):
    await call.greet("Good day")
    await call.ask("count 5")
    await call.listen(seconds=1)
    reply = await call.interrupt("my name is Ada")
    assert reply.text == "Hello, Bob!"
""")
    result.assert_outcomes(failed=1)
    assert told(result) == [
        "on asyncio, in memory, in virtual time",
        "0.00 s call begins",
        "0.00 s agent 'Good day'",
        "0.00 s you 'count 5'",
        "0.50 s agent '1 2 '",
        "1.00 s agent (interrupted; heard: '1 2 ')",
        "1.00 s you 'my name is Ada' (interrupts)",
        "1.00 s agent 'Hello, Ada!'",
        "1.00 s call ends",
    ]
    result.stdout.fnmatch_lines([">       assert reply.text == *", "*test_user.py:*AssertionError"])


def test_a_handlers_error_fails_the_test_and_shows_where(users: Users) -> None:
    result = users.run("""
async def test_error(call):
    await call.say("fail")

@pytest.mark.speech_engine(allow="errors")
async def test_allowed(call):
    await call.say("fail")
    assert [str(error) for error in call.errors] == ["out of cheese"]
""")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "a handler raised ValueError: out of cheese",
            "*test_user.py*, line *, in on_transcript",
            '    raise ValueError("out of cheese")',
            "FAILED *::test_error - Failed: a handler raised ValueError: out of cheese",
        ]
    )
    assert "0.00 s error ValueError: out of cheese" in told(result)
    result.stdout.no_fnmatch_line("*speech_engine_transports*.py*in _*")


@pytest.mark.parametrize("socket", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_an_error_at_the_end_of_the_call_counts(users: Users, backend: str, socket: bool) -> None:
    result = users.run(
        f"""
@pytest.mark.speech_engine(backend={backend!r}, socket={socket})
async def test_end(call):
    assert (await call.say("Ada")).text == "Hello, Ada!"
""",
        agent="""
async def on_close(session):
    await anyio.sleep(0.01)
    raise LookupError("no such room")

@pytest.fixture
def agent():
    return {"on_transcript": on_transcript, "on_close": on_close}
""",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAILED * - Failed: a handler raised LookupError: no such room"])


def test_an_error_that_the_test_caught_is_no_violation_any_more(users: Users) -> None:
    test = """
from speech_engine_local import NoReplyError

@pytest.mark.speech_engine(cascade_timeout=2.0)
async def test_caught(call):
    with pytest.raises(NoReplyError):
        await call.say("think")
    assert call.reply.attempts == 3
    assert len(call.violations) == 1

async def test_not_looked_at(call):
    await call.ask("think")
    await call.wait_ended()

@pytest.mark.speech_engine(allow=["violations"])
async def test_allowed(call):
    await call.ask("think")
    await call.wait_ended()
"""
    result = users.run(test)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["FAILED *::test_not_looked_at - Failed: broken rule: the first word *"]
    )
    lines = told(result)
    assert "0.00 s call the question was sent 3 times" in lines
    assert lines[-1].startswith("in virtual time nobody waits for the network")


LEFT = """
import asyncio

async def numbers():
    yield "1"
    yield "2"

async def forever():
    while True:
        await asyncio.sleep(1)

kept = []

async def on_transcript(transcript, session):
    match transcript[-1].content:
        case "stream":
            kept.append(numbers())
            async for number in kept[-1]:
                return await session.send_response(number)
        case "task":
            kept.append(asyncio.get_running_loop().create_task(forever()))
            await session.send_response("a task")
        case "swallow":
            while True:
                try:
                    await asyncio.sleep(1)
                except asyncio.CancelledError:
                    pass
"""


@pytest.mark.parametrize(
    ("word", "kind", "found"),
    [
        ("stream", "streams", "a stream was left open (see contextlib.aclosing): numbers"),
        ("task", "tasks", "still running 6 s after the end of the call: forever"),
        ("swallow", "tasks", "still running 6 s after the end of the call: a handler of the agent"),
    ],
)
def test_what_is_left_open_fails_the_test(users: Users, word: str, kind: str, found: str) -> None:
    result = users.run(
        f"""
async def test_left(call):
    await call.ask({word!r})
    await call.pause(1)

@pytest.mark.speech_engine(allow={kind!r})
async def test_allowed(call):
    await call.ask({word!r})
    await call.pause(1)
""",
        agent=LEFT + FIXTURE,
    )
    result.assert_outcomes(failed=1, passed=1)
    assert any(line.startswith(found) for line in result.outlines)
    assert any(f"found {found}" in line for line in told(result))


def test_a_stream_left_open_is_found_on_trio(users: Users) -> None:
    result = users.run(
        """
async def test_left(call):
    await call.say("stream")
""",
        "--speech-engine-backend=trio",
        agent=LEFT + FIXTURE,
    )
    result.assert_outcomes(failed=1)
    assert told(result)[-1].endswith("a stream was left open (see contextlib.aclosing): numbers")


def test_a_test_that_waits_for_ever_ends(users: Users) -> None:
    result = users.run("""
async def test_waits(call):
    assert (await call.say("Ada")).text == "Hello, Ada!"
    await anyio.Event().wait()  # HERE

@pytest.mark.speech_engine(time_limit=0.01, socket=True)
async def test_waits_in_real_time(call):
    await anyio.Event().wait()
""")
    result.assert_outcomes(failed=2)
    lines = (users.pytester.path / "test_user.py").read_text().splitlines()
    here = next(n for n, line in enumerate(lines, 1) if line.endswith("# HERE"))
    result.stdout.fnmatch_lines(
        [
            f"the test had not ended after 3600 virtual seconds: it waits at line {here}",
            "the test had not ended after 0.01 seconds: it waits at line *",
            "FAILED *::test_waits - Failed: the test had not ended after 3600 virtual seconds: *",
            "FAILED *::test_waits_in_real_time - Failed: the test had not ended after 0.01 *",
        ]
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            'await call.hang_up(); await call.say("more")',
            "*ConversationOverError: call.say: expected an open call, but you hung up",
        ),
        (
            'await call.say("hang up"); await call.wait_ended(); await call.ask("more")',
            "*ConversationOverError: call.ask: expected an open call, but the other end, *",
        ),
        (
            'await call.say("hello"); await call.interrupt("stop")',
            "*ValueError: call.interrupt: expected a reply that is being heard, got none; *",
        ),
        ("await call.listen()", "*ValueError: call.listen: expected a reply to listen to; *"),
        (
            'await call.say("hello"); await call.greet("late")',
            "*ValueError: greet: expected to come first, got a conversation that has begun",
        ),
    ],
)
def test_misuse_is_told_at_the_line_of_the_test(users: Users, body: str, message: str) -> None:
    result = users.run(f"async def test_misuse(call):\n    {body}\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f">       {body}", f"E       {message}"])
    assert "0.00 s call begins" in told(result)


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        ("", "call: expected a fixture named `agent` that returns what to call *, found none"),
        ("return 5", "call: agent: expected an on_transcript handler, *; got int"),
        ("return {}", "call: agent: expected an on_transcript callback, got []"),
        (
            'return {"on_transcript": on_transcript, "on_clse": print}',
            "call: on_clse: no such callback; expected one of *",
        ),
        ("return lambda: None", "call: on_transcript: expected a callable that takes *"),
    ],
)
def test_no_agent_or_a_wrong_one(users: Users, agent: str, message: str) -> None:
    fixture = f"@pytest.fixture\ndef agent():\n    {agent}\n" if agent else ""
    result = users.run("async def test_none(call):\n    pass\n", agent=fixture)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("backend='curio'", "backend: expected 'asyncio' or 'trio'; got 'curio'"),
        ("allow='everything'", "allow: expected some of errors, *; got 'everything'"),
        ("time_limit=0", "time_limit: expected seconds, more than 0; got 0"),
        ("sockets=True", "keyword: expected one of allow, api_key, *; got 'sockets'"),
        ("'trio'", "arguments: expected keywords only; got 'trio'"),
    ],
)
def test_a_wrong_mark(users: Users, mark: str, message: str) -> None:
    test = f"@pytest.mark.speech_engine({mark})\nasync def test_mark(call):\n    pass\n"
    result = users.run(test)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"pytest.mark.speech_engine: {message}"])


def test_a_test_that_is_not_asynchronous(users: Users) -> None:
    result = users.run("def test_plain(call):\n    pass\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["call: expected an `async def` test *, got test_plain"])


def test_a_fixture_that_uses_the_call_before_it_begins(users: Users) -> None:
    result = users.run("""
@pytest.fixture
def early(call):
    with pytest.raises(RuntimeError, match="expected to be used in the test"):
        call.ask("hello").send(None)
    assert (call.history, call.violations, call.reply) == ((), (), None)
    assert not call.is_open
    return call

async def test_later(early):
    assert (await early.say("Ada")).text == "Hello, Ada!"
""")
    result.assert_outcomes(passed=1)


def test_marks_of_class_and_module_and_options_of_the_engine(users: Users) -> None:
    result = users.run("""
pytestmark = pytest.mark.speech_engine(conversation_id="conv_module", headers={"X-Room": "7"})

class TestIn:
    pytestmark = pytest.mark.speech_engine(backend="trio")

    @pytest.mark.speech_engine(conversation_id="conv_test")
    async def test_id(self, call, tmp_path):
        assert isinstance(self, TestIn)
        assert (await call.say("id")).text == call.conversation_id + " 7" == "conv_test 7"
        import trio
        trio.current_time()

    @pytest.mark.speech_engine(backend="asyncio", socket=True)
    async def test_socket(self, call):
        assert (await call.say("id")).text == "conv_module 7"
        import asyncio
        asyncio.get_running_loop()
""")
    result.assert_outcomes(passed=2)


def test_ini_and_parametrized_backend_and_agent(users: Users) -> None:
    users.pytester.makeini("[pytest]\nspeech_engine_backend = trio\nspeech_engine_socket = yes\n")
    result = users.run(
        """
async def test_ini(call):
    import trio
    trio.current_time()
    assert (await call.say("Ada")).text in ("Hello, Ada!", "two")

@pytest.mark.speech_engine(socket=False)
@pytest.mark.parametrize("speech_engine_backend", ["asyncio", "trio"])
async def test_both(call, speech_engine_backend):
    import sniffio
    assert sniffio.current_async_library() == speech_engine_backend
    await call.pause(1000)
""",
        agent="""
async def two(transcript, session):
    await session.send_response("two")

@pytest.fixture(params=[on_transcript, {"on_transcript": two}])
def agent(request):
    return request.param
""",
    )
    result.assert_outcomes(passed=6)


def test_outcomes_of_pytest_and_other_fixtures_named_call(users: Users) -> None:
    result = users.run("""
async def test_skip(call):
    pytest.skip("because")

@pytest.mark.xfail(strict=True)
async def test_xfail(call):
    await call.say("fail")

class TestOwn:
    @pytest.fixture
    def call(self):
        return 5

    def test_own(self, call):
        assert call == 5

    async def test_ours(self, call, speech_engine_call):
        assert (await speech_engine_call.say("Ada")).text == "Hello, Ada!"
        assert call == 5
""")
    result.assert_outcomes(skipped=1, xfailed=1, passed=2)


SERVER = """
from speech_engine_transports import SpeechEngineServer

@pytest.fixture
def agent():
    return SpeechEngineServer(
        port=0, path="/ws", api_key="k", transport={transport!r}, fallback="Pardon?",
        on_transcript=on_transcript, on_error=lambda error, session: None,
    )
"""


@pytest.mark.parametrize("socket", [False, True])
@pytest.mark.parametrize("transport", BACKENDS)
def test_a_server_with_all_its_settings(users: Users, transport: str, socket: bool) -> None:
    result = users.run(
        f"""
@pytest.mark.speech_engine(backend={transport!r}, socket={socket}, allow="errors")
async def test_server(call, agent):
    assert (await call.say("fail")).text == "Pardon?"
    assert len(call.errors) == 1
    assert "handle_connection" in vars(agent)
""",
        agent=SERVER.format(transport=transport),
    )
    result.assert_outcomes(passed=1)


def test_a_server_for_another_loop(users: Users) -> None:
    result = users.run(
        "@pytest.mark.speech_engine(socket=True)\nasync def test_server(call):\n    pass\n",
        agent=SERVER.format(transport="trio"),
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["call: agent: expected a server that listens on asyncio, got transport='trio'"]
    )


def test_a_server_with_tls_has_to_be_named_by_its_url(users: Users) -> None:
    result = users.run(
        "@pytest.mark.speech_engine(socket=True)\nasync def test_server(call):\n    pass\n",
        agent="""
import ssl
from speech_engine_transports import SpeechEngineServer

@pytest.fixture
def agent():
    return SpeechEngineServer(ssl=ssl.create_default_context(), on_transcript=on_transcript)
""",
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["call: agent: expected a server without TLS, or the URL of *"])


def test_a_url_leads_to_no_agent_in_memory(users: Users) -> None:
    result = users.run(
        "@pytest.mark.speech_engine(socket=False)\nasync def test_url(call):\n    pass\n",
        agent='@pytest.fixture\ndef agent():\n    return "ws://127.0.0.1:1/ws"\n',
    )
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*: socket: expected True, because the agent is a URL; got False"])


@pytest.mark.anyio
async def test_a_ping_without_pong_is_raised_and_told_once(users: Users) -> None:
    async def silent(call: object, message: object) -> None:
        pass

    async with raw_server(silent) as server:
        test = """
from speech_engine_local import NoPongError

@pytest.mark.speech_engine(pong_timeout=0.01)
async def test_ping(call):
    with pytest.raises(NoPongError):
        await call.ping()
    assert len(call.violations) == 1
"""
        agent = f"@pytest.fixture\ndef agent():\n    return {server.url!r}\n"
        result = await anyio.to_thread.run_sync(lambda: users.run(test, agent=agent))
    result.assert_outcomes(passed=1)


@pytest.mark.anyio
@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_server_at_a_url(users: Users, backend: str) -> None:
    """It breaks a rule, which is seen through the real socket."""

    async def text_in_terminator(call: object, event_id: int) -> None:
        await call.piece("Hello", event_id)  # type: ignore[attr-defined]
        await call.end(event_id, "more")  # type: ignore[attr-defined]

    async with raw_server(answering(text_in_terminator)) as server:
        test = 'async def test_url(call):\n    assert (await call.say("Ada")).text == "Hello"\n'
        agent = f"@pytest.fixture\ndef agent():\n    return {server.url!r}\n"
        mark = f"@pytest.mark.speech_engine(backend={backend!r})\n"
        result = await anyio.to_thread.run_sync(lambda: users.run(mark + test, agent=agent))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["broken rule: the terminator carries no text: *"])
    assert told(result)[0] == f"on {backend}, over a socket, in real time"


@pytest.mark.parametrize("backend", BACKENDS)
def test_nobody_at_a_url(users: Users, backend: str) -> None:
    result = users.run(
        f"@pytest.mark.speech_engine(backend={backend!r})\nasync def test_url(call):\n    pass\n",
        agent='@pytest.fixture\ndef agent():\n    return "ws://127.0.0.1:1/ws"\n',
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["call: 127.0.0.1:1: nobody listens there: *"])


OTHERS = """
import sniffio

@pytest.mark.asyncio
async def test_marked_asyncio(call):
    assert (await call.say("Ada")).text == "Hello, Ada!"

@pytest.mark.trio
async def test_marked_trio(call):
    assert sniffio.current_async_library() == "trio"
    assert (await call.say("Ada")).text == "Hello, Ada!"

async def test_not_marked(call):
    assert (await call.say("Ada")).text == "Hello, Ada!"

@pytest.mark.anyio
async def test_marked_anyio(call, anyio_backend):
    assert sniffio.current_async_library() == anyio_backend
    assert (await call.say("Ada")).text == "Hello, Ada!"

@pytest.fixture
def derived(call):
    return call

async def test_derived(derived):
    await derived.pause(1000)
"""


def has(*names: str) -> pytest.MarkDecorator:
    """Run a test where plugins are there."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {missing}")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), marks=has("pytest_asyncio", "pytest_trio")),
        pytest.param(("-o", "asyncio_mode=auto"), marks=has("pytest_asyncio", "pytest_trio")),
        pytest.param(("-o", "trio_mode=true"), marks=has("pytest_asyncio", "pytest_trio")),
    ],
)
def test_beside_other_plugins_for_asynchronous_tests(users: Users, options: Sequence[str]) -> None:
    users.run(OTHERS, *options).assert_outcomes(passed=6)


def test_with_no_other_plugin(users: Users) -> None:
    """Also the marks of the others that are not there do no harm."""
    users.modes = ["-p", "no:cacheprovider", "-W", "error", "-p", "no:anyio"]
    users.modes += ["-p", "no:asyncio", "-p", "no:trio"]
    users.pytester.makeini("[pytest]\nmarkers =\n    anyio\n    asyncio\n    trio\n")
    fixture = '@pytest.fixture\ndef anyio_backend():\n    return "trio", {}\n'
    users.run(OTHERS.replace("== anyio_backend", "== anyio_backend[0]") + fixture).assert_outcomes(
        passed=5
    )


def test_tests_without_a_call_are_left_alone(users: Users) -> None:
    result = users.run(
        """
@pytest.mark.anyio
async def test_other(anyio_backend):
    await anyio.sleep(0)

def test_plain(tmp_path):
    pass
"""
    )
    result.assert_outcomes(passed=3)


def test_the_conversation_is_reported_by_workers_too(users: Users) -> None:
    result = users.run(
        'async def test_wrong(call):\n    assert (await call.say("Ada")).text == ""\n', "-n1"
    )
    result.assert_outcomes(failed=1)
    assert "0.00 s agent 'Hello, Ada!'" in told(result)


PROBE = """
import sys

import pytest

before = set(sys.modules)
import speech_engine_local.pytest_plugin
print(sorted(set(sys.modules) - before))
"""


def test_nothing_is_imported_for_runs_that_make_no_call() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split("\n")[0] == str(
        [
            "speech_engine_local",
            "speech_engine_local.pytest_plugin",
            "speech_engine_transports",
            "speech_engine_transports._lazy",
        ]
    )


def test_pytest_finds_it_by_its_entry_point(pytester: pytest.Pytester) -> None:
    """And having loaded it, it has imported nothing more."""
    pytester.makepyfile("""
import sys

def test_loaded(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("speech_engine")
    assert "speech_engine_local.pytest_plugin" in sys.modules
    heavy = {"speech_engine_proto", "speech_engine_local.engine", "trio", "msgspec", "jwt"}
    assert not heavy & set(sys.modules)
""")
    others = ["asyncio", "trio", "anyio", "xdist", "hypothesispytest"]
    result = pytester.runpytest_subprocess(*(f"-pno:{name}" for name in others))
    result.assert_outcomes(passed=1)


def test_the_class_is_there_for_annotations() -> None:
    from speech_engine_local import pytest_plugin

    assert pytest_plugin.Call.__name__ == "Call"
    with pytest.raises(AttributeError, match="no attribute 'Cal'"):
        _ = pytest_plugin.Cal
