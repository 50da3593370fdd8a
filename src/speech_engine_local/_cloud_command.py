"""What ``speech-engine cloud`` does and says."""

from __future__ import annotations

import ipaddress
import sys
from typing import TYPE_CHECKING

from .cloud import serve

if TYPE_CHECKING:
    from .cloud import Cloud
    from .cloud.speech import Synthesizer

__all__ = ["run", "voice", "welcome"]


async def run(
    *,
    host: str,
    port: int,
    api_key: str | None,
    db: str | None,
    public_url: str | None,
    audio: bool,
) -> int:
    """Run a cloud until a signal stops it, and tell people how to use it.

    Args:
        host: the interface.
        port: the port; 0 takes a free one.
        api_key: the user's own key, which is not shown; None makes a random one, which is.
        db: the SQLite file for engines; None keeps them in memory.
        public_url: how clients reach the cloud; None where that is what their requests say.
        audio: whether replies are spoken.

    Returns:
        The exit code.

    Raises:
        OSError: the address cannot be taken.
        ValueError: what the user gave cannot be used.
    """
    synthesizer = voice() if audio else None

    def on_start(cloud: Cloud) -> None:
        if not _is_loopback(host):
            _warn(
                f"--host {host}: other machines can reach this cloud, and its traffic, the key in "
                "it too, is not encrypted"
            )
        print(welcome(cloud, own_key=api_key is not None, db=db), flush=True)

    await serve(
        host=host,
        port=port,
        api_key=api_key,
        db=db,
        synthesizer=synthesizer,
        public_url=public_url,
        on_start=on_start,
    )
    return 0


def welcome(cloud: Cloud, *, own_key: bool, db: str | None) -> str:
    """Tell where the cloud is, and how to point a client at it; the user's own key is not told."""
    key = "the one you gave" if own_key else f"{cloud.api_key} (random, made for this run)"
    engines = "in memory, gone when this ends (--db FILE keeps them)" if db is None else f"in {db}"
    page = f"{cloud.url}/" if own_key else f"{cloud.url}/#key={cloud.api_key}"
    audio = "none, replies are text" if cloud.synthesizer is None else "replies are spoken"
    return f"""\
Speech Engine cloud at {cloud.url}
  page:    {page}
  key:     {key}
  engines: {engines}
  audio:   {audio}

Point a client at it:
  export ELEVENLABS_BASE_URL={cloud.url}   (clients of speech_engine_transports.httpx read it)
  AsyncElevenLabs(api_key=KEY, base_url="{cloud.url}")   (official Python SDK)
  new ElevenLabsClient({{ apiKey: KEY, baseUrl: "{cloud.url}" }})   (official TypeScript SDK)

Ctrl-C ends it."""


def voice() -> Synthesizer | None:
    """Make the voice; where it cannot be had, replies are text, and a line says why."""
    try:
        from .cloud.espeak import EspeakSynthesizer

        return EspeakSynthesizer()
    except (ImportError, OSError) as error:
        _warn(f"no audio: {error}")
        return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _warn(text: str) -> None:
    print(f"speech-engine: {text}", file=sys.stderr, flush=True)
