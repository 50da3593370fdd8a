"""How a test wants its call to be made: its marks, then the command line, then the ini file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ALLOWED", "Options", "backend_of", "options_of"]

BACKENDS = ("asyncio", "trio")

ALLOWED = ("errors", "streams", "tasks", "violations")
"""What would fail a test at its end, unless it allows it."""

ENGINE_OPTIONS = frozenset(
    {
        "api_key",
        "cascade_timeout",
        "conversation_id",
        "headers",
        "heard",
        "max_reply_chars",
        "ping_interval",
        "pong_timeout",
        "resend_as_new",
        "silence_timeout",
    }
)
"""Keywords of `LocalEngine` that a mark may give."""

VIRTUAL_LIMIT = 3600.0
"""Virtual seconds that a test may take by default: far beyond any call, and soon over."""

REAL_LIMIT = 60.0
"""Real seconds that a test may take by default."""


@attrs.frozen(kw_only=True)
class Options:
    """How to make one call.

    Args:
        backend: ``"asyncio"`` or ``"trio"``.
        socket: whether to use a real socket, and real time.
        allow: what does not fail the test; of `ALLOWED`.
        time_limit: seconds that the test may take, virtual ones without a socket.
        engine: keywords of `LocalEngine`.
    """

    backend: str
    socket: bool
    allow: frozenset[str] = frozenset()
    time_limit: float | None = None
    engine: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False)

    @property
    def limit(self) -> float:
        """The time limit that holds."""
        if self.time_limit is not None:
            return self.time_limit
        return REAL_LIMIT if self.socket else VIRTUAL_LIMIT


def backend_of(request: pytest.FixtureRequest) -> str:
    """Return the event loop that a test asks for.

    That is what its mark says; else what a test that is marked for another plugin says to that
    one; else the option or the ini file.
    """
    marked = _marked(request.node).get("backend")
    if marked is not None:
        return str(marked)
    if "anyio_backend" in request.fixturenames:
        chosen: Any = request.getfixturevalue("anyio_backend")
        return str(chosen if isinstance(chosen, str) else chosen[0])
    if any("trio" in (mark.name for mark in node.own_markers) for node in request.node.listchain()):
        return "trio"
    config = request.config
    return str(config.getoption("speech_engine_backend") or config.getini("speech_engine_backend"))


def options_of(request: pytest.FixtureRequest, backend: str, at_url: bool) -> Options:
    """Return all options of a test, or fail it with what is wrong with them.

    Args:
        request: of the fixture.
        backend: what `backend_of`, or a fixture in its place, returned.
        at_url: whether the agent is an address, which only a real socket leads to.
    """
    marked = _marked(request.node)
    marked.pop("backend", None)
    config = request.config
    socket = marked.pop("socket", None)
    if socket is None:
        socket = config.getoption("speech_engine_socket") or config.getini("speech_engine_socket")
        socket = socket or at_url
    if at_url and not socket:
        _fail("socket", "True, because the agent is a URL", socket)
    if backend not in BACKENDS:
        _fail("backend", "'asyncio' or 'trio'", backend)
    allow = _allowed(marked.pop("allow", ()))
    limit = marked.pop("time_limit", None)
    if not (limit is None or (isinstance(limit, int | float) and limit > 0)):
        _fail("time_limit", "seconds, more than 0", limit)
    return Options(
        backend=backend,
        socket=bool(socket),
        allow=allow,
        time_limit=limit,
        engine=_engine_options(marked),
    )


def _marked(node: pytest.Item) -> dict[str, Any]:
    """Return what the marks say; the one nearest to the test counts."""
    found: dict[str, Any] = {}
    for mark in node.iter_markers("speech_engine"):
        if mark.args:
            _fail("arguments", "keywords only", mark.args[0])
        found = {**mark.kwargs, **found}
    return found


def _allowed(allow: str | Iterable[str]) -> frozenset[str]:
    names = {allow} if isinstance(allow, str) else set(allow)
    unknown = names - set(ALLOWED)
    if unknown:
        _fail("allow", f"some of {', '.join(ALLOWED)}", min(unknown))
    return frozenset(names)


def _engine_options(marked: dict[str, Any]) -> dict[str, Any]:
    unknown = marked.keys() - ENGINE_OPTIONS
    if unknown:
        known = sorted(ENGINE_OPTIONS | {"allow", "backend", "socket", "time_limit"})
        _fail("keyword", f"one of {', '.join(known)}", min(unknown))
    headers = marked.get("headers")
    if isinstance(headers, Mapping):
        marked["headers"] = list(cast("Mapping[str, str]", headers).items())
    return marked


def _fail(name: str, expected: str, got: object) -> None:
    pytest.fail(
        f"pytest.mark.speech_engine: {name}: expected {expected}; got {got!r}", pytrace=False
    )
