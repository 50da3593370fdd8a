"""``speech-engine demo --web``: an example agent, the local cloud and its page, in one process."""

from __future__ import annotations

import secrets
import sys
import time
import webbrowser
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from speech_engine_transports._signals import stop_event
from speech_engine_transports.server import SpeechEngineServer

from ._cloud_command import voice
from .cloud import Cloud, engines

if TYPE_CHECKING:
    from speech_engine_transports.session import SpeechEngineSession

    from .chat import Agent

__all__ = ["web_demo"]


async def web_demo(agent: Agent, *, about: str, port: int = 0, open_browser: bool = False) -> int:
    """Serve an agent, a cloud with an engine for it, and the page, until Ctrl-C or SIGTERM.

    All of it listens on this machine alone, with a key that is drawn anew each time.

    Args:
        agent: who answers.
        about: the agent in a few words, for the first line.
        port: of the cloud and its page; 0 takes any free one.
        open_browser: whether to open the address as well.

    Returns:
        The exit code: 0.

    Raises:
        OSError: the port is taken.
    """
    key = secrets.token_urlsafe(24)
    server = SpeechEngineServer(
        host="127.0.0.1",
        port=0,
        path="/ws",
        api_key=key,
        on_transcript=agent.on_transcript,
        on_error=_tell_failure,
        fallback="Sorry, I could not think of an answer.",
    )
    cloud = Cloud(api_key=key, synthesizer=voice())
    async with server, cloud.listen(port=port):
        await _make_engine(cloud, f"ws://127.0.0.1:{server.port}/ws")
        async with stop_event() as stopped:
            _invite(f"{cloud.url}/#{urlencode({'key': key})}", about, open_browser)
            await stopped.wait()
    return 0


async def _make_engine(cloud: Cloud, ws_url: str) -> None:
    body = {
        "name": "Demo agent",
        "speech_engine": {"ws_url": ws_url},
        "overrides": {"first_message": True},
        "cascade_timeout_seconds": 15,  # a cold local model needs its time
    }
    await cloud.store.add(engines.create(body, now=int(time.time())))


def _invite(address: str, about: str, open_browser: bool) -> None:
    print(f"{about}.\nOpen {address}\nCtrl-C ends it.", flush=True)
    if open_browser:
        # Some browsers return only when they are closed; nobody waits for that.
        Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def _tell_failure(error: Exception, _: SpeechEngineSession) -> None:
    print(f"speech-engine: the agent failed: {type(error).__name__}: {error}", file=sys.stderr)
