"""A `call` fixture for pytest: both ends of a conversation in one test.

pytest finds this module by its entry point and loads it in every run. So it imports nothing but
what pytest has imported already; all else waits for the first test that makes a call.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import TypeGuard

    from ._pytest_call import Call
    from ._pytest_run import Conversation

__all__ = ["Call"]

MARK = "speech_engine"

OTHER_RUNNERS = frozenset({"anyio", "asyncio", "trio"})
"""Marks by which other plugins take an asynchronous test for theirs."""

_MARK_HELP = (
    f"{MARK}(backend=, socket=, allow=, time_limit=, api_key=, ...): how the `call` fixture of "
    "speech-engine-proto makes its call; more keywords are those of LocalEngine"
)
_BACKEND_HELP = "event loop of the `call` fixture: asyncio or trio"
_SOCKET_HELP = "let the `call` fixture use a real socket and real time"


def __getattr__(name: str) -> Any:
    # No `__dir__` beside it: pytest looks at every name that one tells, which would import it.
    if name == "Call":
        from ._pytest_call import Call

        return Call
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, and their defaults for the configuration file."""
    group = parser.getgroup("speech-engine", "calls to Speech Engine agents")
    group.addoption(
        "--speech-engine-backend", choices=("asyncio", "trio"), default=None, help=_BACKEND_HELP
    )
    group.addoption("--speech-engine-socket", action="store_true", default=None, help=_SOCKET_HELP)
    parser.addini("speech_engine_backend", _BACKEND_HELP, default="asyncio")
    parser.addini("speech_engine_socket", _SOCKET_HELP, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", _MARK_HELP)


@pytest.fixture
def agent() -> Any:
    """What is called: override this fixture.

    It returns an ``on_transcript`` handler, a mapping of callbacks, a `SpeechEngineServer`, or
    the ``ws://`` address of a server that runs already.
    """
    pytest.fail(
        "call: expected a fixture named `agent` that returns what to call (an on_transcript "
        "handler, a mapping of callbacks, a SpeechEngineServer, or a ws:// URL), found none",
        pytrace=False,
    )


@pytest.fixture
def speech_engine_backend(request: pytest.FixtureRequest) -> str:
    """The event loop of the call; parametrize it to run a test on both."""
    from ._pytest_options import backend_of

    return backend_of(request)


@pytest.fixture
def speech_engine_call(
    request: pytest.FixtureRequest, agent: Any, speech_engine_backend: str
) -> Call:
    """The same as `call`, under a name that collides with nobody's."""
    from ._pytest_run import prepare

    test = request.node
    if not isinstance(test, CallTest):
        pytest.fail(
            f"call: expected an `async def` test with `call` among its arguments (or a fixture "
            f"that is made from it), got {test.name}",
            pytrace=False,
        )
    conversation = test.conversation = prepare(request, agent, speech_engine_backend)
    return conversation.call


@pytest.fixture
def call(speech_engine_call: Call) -> Call:
    """A call to `agent`, which begins with the test and ends with it."""
    return speech_engine_call


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> Generator[None, Any, Any]:
    """Take over asynchronous tests that make a call.

    As the innermost wrapper: what other plugins see is a test like any other, not a coroutine
    function that they would run in a loop of theirs.
    """
    made = yield
    if not isinstance(made, list):
        return made
    items = cast("list[object]", made)
    return [CallTest.replacing(item) if _makes_call(item) else item for item in items]


def _makes_call(item: object) -> TypeGuard[pytest.Function]:
    return (
        isinstance(item, pytest.Function)
        and "speech_engine_call" in item.fixturenames
        and inspect.iscoroutinefunction(item.obj)
    )


class CallTest(pytest.Function):
    """An asynchronous test that is run in the event loop of its call."""

    conversation: Conversation | None = None
    _at_work = False

    @classmethod
    def replacing(cls, item: pytest.Function) -> CallTest:
        """Return a test that stands for this one."""
        make: Callable[..., CallTest] = cast("Any", cls).from_parent
        made = make(
            item.parent,
            name=item.name,
            callspec=getattr(item, "callspec", None),
            keywords=item.keywords,
            fixtureinfo=item._fixtureinfo,
            originalname=item.originalname,
        )
        made.own_markers = item.own_markers
        return made

    def _getobj(self) -> Callable[..., None]:
        return _as_plain(super()._getobj())  # type: ignore[no-untyped-call]

    def setup(self) -> None:
        """Set up the fixtures."""
        self._at_work = True
        super().setup()

    def runtest(self) -> None:
        """Make the call. No hook is asked: each would be another plugin's way to run it."""
        arguments = {name: self.funcargs[name] for name in self._fixtureinfo.argnames}
        function: Any = inspect.unwrap(self.obj, stop=inspect.iscoroutinefunction)
        assert self.conversation is not None
        self.conversation.run(functools.partial(function, **arguments))

    def iter_markers_with_node(self, name: str | None = None) -> Iterator[tuple[Any, pytest.Mark]]:
        """Hide the marks of other plugins while the test runs: they would run it once more."""
        for node, mark in super().iter_markers_with_node(name):
            if not (self._at_work and mark.name in OTHER_RUNNERS):
                yield node, mark


def _as_plain(function: Any) -> Callable[..., None]:
    """Return a function with the same name, arguments and marks that is not asynchronous."""

    @functools.wraps(function)
    def plain(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("it is run by CallTest.runtest")

    return plain


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the conversation to the report of the test."""
    report = yield
    if isinstance(item, CallTest) and call.when == "call" and item.conversation is not None:
        report.sections.append(("Conversation", item.conversation.told()))
    return report
