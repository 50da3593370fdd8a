"""The official browser clients, unchanged, in headless Chromium: `@elevenlabs/client` and its
React binding, on a signed URL, in voice and in text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from speech_engine_local.cloud import Cloud
from speech_engine_local.cloud.espeak import EspeakSynthesizer
from tests.machine import need_chromium, need_node

from .browsers import Stage, browsing, bundle_react, serving_pages
from .official import async_client_of
from .talkers import KEY, STORY, Talker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from playwright.async_api import Browser

pytestmark = pytest.mark.anyio

GREETING = "Hello!"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for the module, so that its tests share a browser."""
    return "asyncio"


@pytest.fixture(scope="module")
async def browser() -> AsyncGenerator[Browser]:
    async with browsing(need_chromium()) as running:
        yield running


@pytest.fixture(scope="module")
async def pages(bundle: Path) -> AsyncGenerator[str]:
    """The address of the pages."""
    async with serving_pages(bundle) as address:
        yield address


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The React page's script."""
    need_node()
    return bundle_react(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
async def speaking_cloud() -> AsyncGenerator[Cloud]:
    async with Cloud(api_key=KEY, synthesizer=EspeakSynthesizer()).listen() as running:
        yield running


@pytest.fixture(params=["client", "react"])
async def stage(
    request: pytest.FixtureRequest, browser: Browser, pages: str
) -> AsyncGenerator[Stage]:
    """A page with a client. Afterwards: it asked nobody but this machine for anything."""
    page = await browser.new_page()
    stage = Stage(page)
    await stage.open(f"{pages}/{request.param}")
    yield stage
    await page.close()
    assert any(url.startswith("ws://") for url in stage.requests)
    assert stage.strangers() == []


only_client = pytest.mark.parametrize("stage", ["client"], indirect=True)


async def test_a_conversation_in_voice(stage: Stage, speaking_cloud: Cloud, talker: Talker) -> None:
    url = await signed_url(speaking_cloud, talker)
    diary = stage.diary
    await stage.begin(signedUrl=url, overrides={"agent": {"firstMessage": GREETING}})
    (conversation_id,) = await diary.next("connect")
    assert await stage.message() == GREETING
    volume, loudest = await stage.heard()
    assert volume > 0.01
    assert loudest > 0
    await diary.until("mode", "speaking")
    await diary.until("mode", "listening")  # the greeting has been heard

    await stage.say("story")
    assert await stage.message() == STORY
    await stage.heard()
    for _ in range(len(diary.all("audio")) + 12):  # over a second of sound: some words of it
        await diary.next("audio")
    await stage.say("Enough")
    heard = await stage.corrected(STORY)
    assert 0 < len(heard) < len(STORY)
    assert STORY.startswith(heard)
    assert await stage.message() == "You said: Enough."
    await stage.heard()

    await stage.end()
    await ended(stage, reason="user")
    await talker.ended.wait()
    assert talker.events == [f"init {conversation_id}", "close"]
    assert talker.transcripts[1][-3:] == [("user", "story"), ("agent", heard), ("user", "Enough")]
    check_no_error(stage)
    check_audio_is_fresh(stage)
    lines = [line async for line in speaking_cloud.wires.follow(conversation_id)]
    assert any(line.frame.startswith('{"user_audio_chunk":"<') for line in lines)  # the microphone


async def test_a_conversation_in_text(stage: Stage, speaking_cloud: Cloud, talker: Talker) -> None:
    url = await signed_url(speaking_cloud, talker)
    diary = stage.diary
    overrides = {"agent": {"firstMessage": GREETING}}
    await stage.begin(signedUrl=url, textOnly=True, overrides=overrides)
    await diary.next("connect")
    assert await stage.message() == GREETING
    await stage.say("Hello")
    await stage.part("Hello.")
    assert await stage.message() == "You said: Hello."
    await stage.say("count")
    await stage.part("three, ")
    await stage.say("Stop")
    await stage.corrected("One, two, three, ")
    assert diary.all("interruption")
    assert await stage.message() == "One, two, three, "
    assert await stage.message() == "You said: Stop."
    await stage.end()
    await ended(stage, reason="user")
    await talker.ended.wait()
    assert talker.transcripts[0] == [("agent", GREETING), ("user", "Hello")]
    assert diary.all("audio") == []
    check_no_error(stage)


@only_client
async def test_the_time_is_up(stage: Stage, cloud: Cloud, talker: Talker) -> None:
    """The one end by the service that is no error of anybody: ``onError`` is not called for it."""
    url = await signed_url(cloud, talker, conversation={"max_duration_seconds": 1})
    await stage.begin(signedUrl=url, textOnly=True)
    details = await ended(stage, reason="error")
    assert "1 seconds" in details["message"]
    await talker.ended.wait()
    assert talker.events[-1] == "close"
    check_no_error(stage)


async def test_the_agent_hangs_up(stage: Stage, cloud: Cloud, talker: Talker) -> None:
    """In order, after its last word: ``onError`` is not called for it."""
    url = await signed_url(cloud, talker)
    await stage.begin(signedUrl=url, textOnly=True)
    await stage.diary.next("connect")
    await stage.say("bye")
    assert await stage.message() == "Goodbye."
    await ended(stage, reason="agent")
    check_no_error(stage)


async def test_the_agent_is_lost(stage: Stage, cloud: Cloud, talker: Talker) -> None:
    """The conversation cannot go on: this is where ``onError`` is right, once."""
    url = await signed_url(cloud, talker)
    await stage.begin(signedUrl=url, textOnly=True)
    await stage.diary.next("connect")
    await stage.say("crash")
    details = await ended(stage, reason="error")
    assert details["closeCode"] == 1011
    assert stage.diary.all("error") == [(f"Server error: {details['closeReason']}",)]
    (complaint,) = stage.console  # the client's own, beside onError
    assert complaint.startswith(f"Server error: {details['closeReason']}")


@only_client
async def test_a_signed_url_that_was_used(stage: Stage, cloud: Cloud, talker: Talker) -> None:
    """The page is told why, though a browser never shows it a refused upgrade."""
    url = await signed_url(cloud, talker)
    await stage.begin(signedUrl=url, textOnly=True)
    await stage.diary.next("connect")
    await stage.begin(signedUrl=url, textOnly=True)
    (reason,) = await stage.diary.next("rejected")
    assert "used" in reason
    check_no_error(stage)


async def signed_url(cloud: Cloud, talker: Talker, **settings: Any) -> str:
    """Make an engine with the official SDK, and a signed URL for it."""
    async with async_client_of(cloud) as client:
        wanted: dict[str, Any] = {
            "speech_engine": {"ws_url": talker.url},
            "overrides": {"first_message": True},
            "auth": {"enable_auth": True},
            **settings,
        }
        engine: Any = await client.speech_engine.create(**wanted)
        response = await client.conversational_ai.conversations.get_signed_url(
            agent_id=engine.engine_id
        )
    url: str = response.signed_url
    return url


async def ended(stage: Stage, *, reason: str) -> dict[str, Any]:
    """Wait until the page is told that the session has ended, and return the details."""
    details: dict[str, Any]
    (details,) = await stage.diary.next("disconnect")
    assert details["reason"] == reason
    return details


def check_no_error(stage: Stage) -> None:
    assert stage.diary.all("error") == []
    assert stage.console == []
    statuses = [status for (status,) in stage.diary.all("status")]
    assert statuses[:2] == ["connecting", "connected"]


def check_audio_is_fresh(stage: Stage) -> None:
    """After an interruption no sound of what was interrupted may come: it would be played."""
    frames = [frame for (frame,) in stage.diary.all("frame")]
    interruptions = [frame["id"] for frame in frames if frame["type"] == "interruption"]
    assert interruptions == [id for (id,) in stage.diary.all("interruption")]
    cut = 0
    for frame in frames:
        match frame["type"]:
            case "interruption":
                cut = frame["id"]
            case "audio":
                assert frame["id"] > cut
    assert cut
