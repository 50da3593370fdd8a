"""What `import speech_engine_transports` gives and does not load; what its modules ask for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import speech_engine_transports


def python(code: str) -> str:
    """Run code in a fresh interpreter and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_name_can_be_imported() -> None:
    for name in speech_engine_transports.__all__:
        assert getattr(speech_engine_transports, name) is not None
    assert dir(speech_engine_transports) == sorted(speech_engine_transports.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'SpeechEngine'"):
        _ = speech_engine_transports.SpeechEngine


def test_the_package_alone_loads_nothing() -> None:
    loaded = python(
        "import sys; before = set(sys.modules); import speech_engine_transports;"
        "print(*sorted(m.partition('.')[0] for m in set(sys.modules) - before))"
    )
    names = set(loaded.split()) - {"speech_engine_transports"}
    assert names <= sys.stdlib_module_names
    assert names.isdisjoint({"asyncio", "logging", "socket", "ssl", "threading"})


def test_the_session_loads_no_websocket_library_nor_trio() -> None:
    code = (
        "import sys; from speech_engine_transports import SpeechEngineSession, SpeechEngineServer;"
        "print([m for m in ('websockets', 'trio', 'starlette', 'aiohttp', 'elevenlabs', 'httpx',"
        " 'opentelemetry')"
        " if m in sys.modules])"
    )
    assert python(code) == "[]"


@pytest.mark.parametrize(
    ("library", "module", "extra"),
    [("websockets", "asyncio", "asyncio"), ("opentelemetry", "otel", "otel")],
)
def test_a_missing_library_is_named_with_its_extra(library: str, module: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules['{library}'] = None\n"
        f"try:\n    import speech_engine_transports.{module}\n"
        "except ImportError as error:\n    print(error)"
    )
    assert f"pip install 'speech-engine-proto[{extra}]'" in python(code)


def test_a_session_on_a_plain_socket_needs_no_extra() -> None:
    code = """
import sys, asyncio
sys.modules["websockets"] = sys.modules["trio"] = sys.modules["starlette"] = None
from speech_engine_transports import create_session

class Socket:
    messages = ['{"type":"ping"}']
    async def recv(self): return self.messages.pop()
    async def send(self, data): print(data)
    async def close(self): pass

session = create_session(Socket()).on("user_transcript", print)
asyncio.run(session.run())
"""
    assert python(code) == '{"type":"pong"}'
