"""What `speech_engine_proto.rest` gives, and what it does not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

from speech_engine_proto import rest


def test_every_name_is_explained() -> None:
    for name in rest.__all__:
        value = getattr(rest, name)
        assert value.__doc__, name


def test_names_are_sorted_and_whole() -> None:
    public = {
        name
        for name, value in vars(rest).items()
        if getattr(value, "__module__", "").startswith("speech_engine_proto._rest")
    }
    assert set(rest.__all__) - {"SettingsObject"} == public
    assert len(set(rest.__all__)) == len(rest.__all__)


def test_it_loads_neither_a_framework_nor_an_http_client() -> None:
    program = (
        "import sys; from speech_engine_proto import rest;"
        "print(*[name for name in ('asyncio', 'anyio', 'trio', 'ssl', 'logging', 'httpx',"
        " 'http.client', 'jwt', 'hypothesis', 'pydantic', 'elevenlabs') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == []


def test_the_package_does_not_load_it() -> None:
    program = (
        "import sys; import speech_engine_proto;"
        "print(*[name for name in sys.modules"
        " if name.startswith(('speech_engine_proto._rest', 'speech_engine_proto.rest', 'email',"
        " 'urllib', 'http'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == []


def test_all_errors_are_api_errors() -> None:
    errors = [name for name in rest.__all__ if name.endswith("Error")]
    assert len(errors) == 11
    for name in errors:
        assert issubclass(getattr(rest, name), rest.ApiError)
        with pytest.raises(rest.ApiError):
            raise getattr(rest, name)("words")
