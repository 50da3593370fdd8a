"""The cloud's page in a real browser: what is seen, heard, typed and told when something fails."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from playwright.async_api import expect

from speech_engine_local.agent import ExampleAgent
from speech_engine_local.cloud import Cloud, engines
from speech_engine_local.cloud.espeak import EspeakSynthesizer
from speech_engine_transports import SpeechEngineServer
from tests.interop.browsers import browsing
from tests.interop.talkers import KEY, STORY, Talker, talking
from tests.interop.visitor import visit
from tests.machine import need_chromium

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from playwright.async_api import Browser

    from speech_engine_local.cloud import Engine

pytestmark = pytest.mark.anyio

REFUSED = "Failed to load resource"
"""What Chromium itself writes on the console where an answer is 401 or 422."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for all tests here: the browser belongs to it."""
    return "asyncio"


@pytest.fixture(scope="module")
async def chromium() -> AsyncGenerator[Browser]:
    async with browsing(need_chromium()) as running:
        yield running


@pytest.fixture
async def cloud() -> AsyncGenerator[Cloud]:
    """A cloud with a voice."""
    async with Cloud(api_key=KEY, synthesizer=EspeakSynthesizer()).listen() as running:
        yield running


async def add_engine(cloud: Cloud, ws_url: str, **settings: Any) -> Engine:
    body = {"name": "Tester", "speech_engine": {"ws_url": ws_url}, **settings}
    engine = engines.create(body, now=1_700_000_000)
    await cloud.store.add(engine)
    return engine


@asynccontextmanager
async def example_agent() -> AsyncGenerator[str]:
    """Run the agent of ``speech-engine demo``, fast, and yield where it listens."""
    agent = ExampleAgent(words_per_second=100)
    server = SpeechEngineServer(
        host="127.0.0.1", port=0, path="/ws", api_key=KEY, on_transcript=agent.on_transcript
    )
    async with server:
        yield f"ws://127.0.0.1:{server.port}/ws"


async def test_an_engine_is_made_and_the_demo_agent_is_read_heard_and_interrupted(
    chromium: Browser,
    cloud: Cloud,
) -> None:
    async with example_agent() as ws_url, visit(chromium, cloud.url, tolerated=REFUSED) as visitor:
        page = visitor.page
        await visitor.enter(KEY)
        address = page.get_by_label("Address of your agent")
        await address.fill("http://127.0.0.1:3001/ws")
        await page.get_by_label("Patience").fill("1")
        await page.get_by_role("button", name="Make engine").click()
        await expect(page.locator("#engine-url-problem")).to_contain_text("did you mean ws://?")
        await expect(page.locator("#engine-patience-problem")).to_contain_text("at least 2")
        await expect(address).to_have_attribute("aria-invalid", "true")
        await expect(address).to_be_focused()

        await address.fill(ws_url)
        await page.get_by_label("Patience").fill("5")
        await page.get_by_label("Name").fill("Mine")
        await page.get_by_role("button", name="Make engine").click()
        await expect(page.locator("#engine-form")).to_be_hidden()
        await expect(page.locator("#start")).to_be_focused()
        await expect(page.get_by_role("radio")).to_be_checked()
        await expect(page.locator("#fact-url")).to_have_text(ws_url)

        await visitor.start()
        await visitor.say("Please count to twenty")
        reply = page.locator("#log .agent").first
        await expect(reply).to_contain_text("One, two, three")
        await expect(reply).to_contain_text("first word after")
        await visitor.hears_something()
        await visitor.until(
            "parseFloat(document.getElementById('level').style.getPropertyValue('--level')) > 0"
        )
        await page.keyboard.press("Escape")
        unheard = reply.locator("s")
        await unheard.wait_for()
        assert "twenty" in await unheard.inner_text()
        newest = page.locator("#log .agent").last
        await expect(newest).to_contain_text("I am listening.")
        await visitor.state("listening")


@pytest.mark.parametrize("way", ["Enter", "Escape", "button", "words in the button"])
async def test_interrupting_is_silence_at_once_and_the_history_is_cut(
    chromium: Browser, cloud: Cloud, talker: Talker, way: str
) -> None:
    await add_engine(cloud, talker.url)
    async with visit(chromium, cloud.url) as visitor:
        page = visitor.page
        await visitor.enter(KEY)
        await visitor.start()
        await visitor.say("story")
        await visitor.hears_something()
        # The answer to "count" is given up in mid sentence, so that it is never spoken.
        words = "count" if way in ("Enter", "words in the button") else "Stop."
        if words == "count":
            await page.get_by_label("What you say").fill(words)
        if "button" in way:
            await page.get_by_role("button", name="Interrupt").click()
        else:
            await page.keyboard.press(way)
        story = page.locator("#log .agent").first
        await story.locator("s").wait_for()
        # It was silent before the cloud had been told.
        before, after = await page.evaluate("ears.said")
        assert (before, after > 0) == (0, True)
        if words == "count":
            await visitor.hears_nothing()
        await expect(page.locator("#log .user").last).to_contain_text(words)
        await expect(page.locator("#log .agent")).to_have_count(2)
        await expect(page.get_by_label("What you say")).to_be_focused()
    said, heard, asked = talker.transcripts[-1]
    assert (said[0], asked) == ("user", ("user", words))
    assert heard[0] == "agent"
    assert STORY.startswith(heard[1])
    assert 0 < len(heard[1]) < len(STORY) / 2


async def test_both_wires_are_shown_with_times_and_can_be_filtered_folded_and_saved(
    chromium: Browser, cloud: Cloud, talker: Talker
) -> None:
    await add_engine(cloud, talker.url)
    async with visit(chromium, cloud.url) as visitor:
        page = visitor.page
        await visitor.enter(KEY)
        await page.get_by_label("Text only").check()
        await visitor.start()
        await visitor.say("hello")
        await expect(page.locator("#log .agent")).to_contain_text("You said: hello.")
        rows = page.locator("#wires > li")
        for wire, kind in (
            ("client", "conversation_initiation_client_data"),
            ("client", "conversation_initiation_metadata"),
            ("agent", "init"),
            ("client", "user_message"),
            ("agent", "user_transcript"),
            ("agent", "agent_response \u00d7 2"),
            ("client", "agent_response"),
        ):
            await page.locator(f"#wires > li.{wire} b", has_text=kind).first.wait_for()
        times = [
            float(text) for text in await page.locator("#wires summary time").all_inner_texts()
        ]
        assert times == sorted(times)
        order = await page.locator("#wires b").all_inner_texts()
        assert order.index("user_message") < order.index("user_transcript")

        await page.get_by_label("Agent", exact=True).uncheck()
        await expect(page.locator("#wires > li.agent")).to_have_count(0)
        await page.get_by_label("Agent", exact=True).check()
        await page.get_by_label("Fold pieces").uncheck()
        pieces = page.locator("#wires > li.agent", has_text="agent_response")
        await expect(pieces).to_have_count(3)
        await page.get_by_label("Show frames that contain").fill("user_transcript")
        await expect(rows).to_have_count(1)
        await expect(page.locator("#wires-count")).to_contain_text("1 of ")
        await rows.locator("summary").focus()
        await page.keyboard.press("Enter")
        await expect(rows.locator("pre")).to_contain_text('"content": "hello"')

        async with page.expect_download() as coming:
            await page.get_by_role("button", name="Save").click()
        download = await coming.value
        assert download.suggested_filename.startswith("conv_")
        lines = [json.loads(line) for line in (await download.path()).read_text().splitlines()]
    assert {(line["link"], line["dir"]) for line in lines} == {
        (link, direction) for link in ("client", "agent") for direction in ("in", "out")
    }
    assert [line["t"] for line in lines] == sorted(line["t"] for line in lines)
    assert json.loads(lines[0]["frame"])["type"] == "conversation_initiation_client_data"


async def test_all_of_it_goes_by_keyboard_alone(
    chromium: Browser, cloud: Cloud, talker: Talker
) -> None:
    await add_engine(cloud, talker.url, overrides={"first_message": True})
    async with visit(chromium, cloud.url) as visitor:
        page = visitor.page
        await visitor.enter(KEY)
        await page.locator("#start:enabled").wait_for()
        seen = []
        for _ in range(30):
            await page.keyboard.press("Tab")
            focused = page.locator(":focus")
            seen.append(await focused.evaluate("e => e.id || e.name || e.className"))
            assert await focused.evaluate("e => getComputedStyle(e).outlineStyle") != "none", seen
            if seen[-1] == "start":
                break
            if seen[-1] == "first-message":
                await page.keyboard.type("Good day.")
        assert seen[:4] == ["skip", "change-key", "new-engine", "engine"]
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("What you say")).to_be_focused()
        await expect(page.locator("#log .agent")).to_contain_text("Good day.")
        await page.keyboard.type("story")
        await page.keyboard.press("Enter")
        await visitor.state("speaking")
        await page.keyboard.type("count")
        await page.keyboard.press("Enter")
        await expect(page.locator("#log .agent").last).to_contain_text("One, two, three,")
        await expect(page.locator("#aloud")).to_contain_text("Interrupted. Heard:")
        await page.keyboard.press("Escape")
        await expect(page.locator("#log .agent").last).to_contain_text("You said: Stop..")
        await visitor.state("listening")
        await page.keyboard.press("Escape")
        await visitor.state("ended")
        await expect(page.locator("#start")).to_be_focused()


async def test_every_control_has_a_name(
    chromium: Browser,
    cloud: Cloud,
) -> None:
    async with visit(chromium, cloud.url) as visitor:
        await visitor.enter(KEY)
        nameless = await visitor.page.evaluate(
            """[...document.querySelectorAll("input, select, button, [tabindex='0']")]
               .filter(e => !(e.labels?.length || e.ariaLabel || e.textContent.trim()))
               .map(e => e.outerHTML)"""
        )
        assert nameless == []


async def test_a_wrong_key_is_told_and_a_right_one_is_kept_for_the_tab(
    chromium: Browser,
    cloud: Cloud,
) -> None:
    async with visit(chromium, cloud.url, tolerated=REFUSED) as visitor:
        page = visitor.page
        await page.goto(f"{cloud.url}/#key=wrong")
        problem = page.get_by_role("alert").filter(has_text="This is not the cloud's key.")
        await problem.wait_for()
        assert page.url == f"{cloud.url}/"
        key = page.get_by_label("API key")
        await expect(key).to_be_focused()
        for wrong in ("nonsense", "schlüssel", "with space"):
            await key.fill("")
            await key.fill(wrong)
            await key.press("Enter")
            await expect(problem).to_be_visible()
        await expect(key).to_have_attribute("type", "password")
        await key.fill(KEY)
        await key.press("Enter")
        await page.locator("#desk").wait_for()
        await page.reload()
        await page.locator("#desk").wait_for()
        assert KEY not in page.url
        await page.get_by_role("button", name="Change key").click()
        await expect(key).to_be_focused()
        await expect(key).to_have_value("")
        await page.reload()
        await page.locator("#door").wait_for()


async def test_an_agent_that_is_down_is_told_in_words_and_can_be_tried_again(
    chromium: Browser,
    cloud: Cloud,
) -> None:
    async with AsyncExitStack() as stack:
        talker = await stack.enter_async_context(talking())
        await add_engine(cloud, talker.url)
        visitor = await stack.enter_async_context(visit(chromium, cloud.url))
        await visitor.enter(KEY)
        await add_engine(cloud, "ws://127.0.0.1:9/ws", name="Nobody")
        await visitor.page.reload()
        await visitor.page.get_by_role("radio", name="Nobody").check()
        await visitor.page.locator("#start:enabled").click()
        await visitor.state("failed")
        problem = visitor.page.locator("#talk-problem")
        await expect(problem).to_contain_text("nobody listens there")
        await visitor.page.get_by_role("radio", name="Tester").check()
        await visitor.start()
        await expect(problem).to_be_hidden()
        await visitor.say("crash")
        await visitor.state("failed")
        await expect(problem).to_contain_text("agent")


async def test_a_cloud_that_is_gone_is_told_in_words(chromium: Browser) -> None:
    async with AsyncExitStack() as stack:
        talker = await stack.enter_async_context(talking())
        running = AsyncExitStack()
        cloud = await running.enter_async_context(Cloud(api_key=KEY).listen())
        await add_engine(cloud, talker.url)
        visitor = await stack.enter_async_context(visit(chromium, cloud.url, tolerated=REFUSED))
        await visitor.enter(KEY)
        await visitor.start()
        await running.aclose()
        await visitor.state("failed")
        problem = visitor.page.locator("#talk-problem")
        await expect(problem).to_have_text("The cloud was stopped.")
        await visitor.page.locator("#start").click()
        await expect(problem).to_contain_text("does not answer. Is it still running?")


async def test_an_end_that_is_no_failure_says_why(
    chromium: Browser, cloud: Cloud, talker: Talker
) -> None:
    await add_engine(cloud, talker.url, conversation={"max_duration_seconds": 1})
    async with visit(chromium, cloud.url) as visitor:
        await visitor.enter(KEY)
        await visitor.start()
        await visitor.state("ended")
        await expect(visitor.page.locator("#log .note").last).to_contain_text("1 seconds")
        await visitor.start()
        await visitor.page.get_by_role("button", name="End", exact=True).click()
        await visitor.state("ended")
        await expect(visitor.page.locator("#log .note").last).to_have_text(
            "You ended the conversation."
        )
        await expect(visitor.page.locator("#start")).to_be_focused()


async def test_what_others_write_is_text_and_never_markup(
    chromium: Browser, cloud: Cloud, talker: Talker
) -> None:
    markup = "<img src=x onerror=alert(1)><b>bold</b>"
    await add_engine(cloud, talker.url, name=markup)
    async with visit(chromium, cloud.url) as visitor:
        page = visitor.page
        await visitor.enter(KEY)
        await expect(page.locator("#engines")).to_contain_text(markup)
        await visitor.start()
        await visitor.say(markup)
        await expect(page.locator("#log .user")).to_contain_text(markup)
        await expect(page.locator("#log .agent")).to_contain_text(f"You said: {markup}.")
        row = page.locator("#wires > li", has_text="user_message")
        await row.locator("summary").click()
        await expect(row.locator("pre")).to_contain_text(markup)
        assert await page.locator("img").count() == 0


@pytest.mark.parametrize("sound", ["pcm_8000", "pcm_44100", "ulaw_8000"])
async def test_every_kind_of_format_is_heard_without_a_seam(
    chromium: Browser, cloud: Cloud, talker: Talker, sound: str
) -> None:
    await add_engine(cloud, talker.url, tts={"agent_output_audio_format": sound})
    async with visit(chromium, cloud.url) as visitor:
        await visitor.enter(KEY)
        await visitor.start()
        await visitor.say("story")
        await visitor.hears_something()
        pieces: list[list[float]] = await visitor.page.evaluate("ears.pieces")
    gaps = [after[0] - sum(before) for before, after in pairwise(pieces)]
    # None overlaps. A busy machine may be late with one, which is then a pause.
    assert min(gaps) > -1e-6
    assert sum(abs(gap) < 1e-6 for gap in gaps) > len(gaps) / 2


async def test_mute_and_text_only_are_silent(
    chromium: Browser, cloud: Cloud, talker: Talker
) -> None:
    await add_engine(cloud, talker.url)
    async with visit(chromium, cloud.url) as visitor:
        page = visitor.page
        await visitor.enter(KEY)
        await page.get_by_role("button", name="Mute").click()
        await visitor.start()
        await visitor.say("story")
        await expect(page.locator("#log .agent")).to_contain_text("first sound after")
        await visitor.hears_nothing()
        assert await page.evaluate("ears.peak") == 0
        await page.get_by_role("button", name="Mute").click()
        await visitor.hears_something()
        await page.get_by_role("button", name="End", exact=True).click()
        await visitor.state("ended")
        await visitor.hears_nothing()
        contexts = await page.evaluate("ears.contexts")
        await page.get_by_label("Text only").check()
        await visitor.start()
        await visitor.say("hello")
        await expect(page.locator("#log .agent")).to_contain_text("You said: hello.")
        await visitor.state("listening")
        assert await page.evaluate("ears.contexts") == contexts


async def test_a_cloud_without_a_voice_is_read(chromium: Browser, talker: Talker) -> None:
    async with Cloud(api_key=KEY).listen() as cloud, visit(chromium, cloud.url) as visitor:
        await add_engine(cloud, talker.url)
        await visitor.enter(KEY)
        await visitor.start()
        for number in (1, 2):
            await visitor.say(f"number {number}")
            reply = visitor.page.locator("#log .agent").last
            await expect(reply).to_contain_text(f"You said: number {number}.")
            await visitor.state("listening")
        assert await visitor.page.evaluate("ears.contexts") == 0


async def test_an_engine_is_deleted_only_after_a_question(
    chromium: Browser, cloud: Cloud, talker: Talker
) -> None:
    engine = await add_engine(cloud, talker.url)
    async with visit(chromium, cloud.url) as visitor:
        page = visitor.page
        await visitor.enter(KEY)
        delete = page.get_by_role("button", name="Delete this engine")
        await delete.click()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("radio")).to_have_count(1)
        await delete.click()
        await expect(page.get_by_role("dialog")).to_contain_text(engine.engine_id)
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await expect(page.get_by_role("radio")).to_have_count(0)
        await expect(page.locator("#engines-empty")).to_be_visible()
        await expect(page.locator("#start")).to_be_disabled()
    assert await cloud.store.get(engine.engine_id) is None


@pytest.mark.parametrize("width", [320, 390, 760, 1220, 1440])
async def test_nothing_is_wider_than_the_window(
    chromium: Browser, cloud: Cloud, talker: Talker, width: int
) -> None:
    await add_engine(cloud, talker.url, name="x" * 90)
    options: dict[str, Any] = {"viewport": {"width": width, "height": 800}}
    async with visit(chromium, cloud.url, **options) as visitor:
        page: Any = visitor.page
        await page.goto(cloud.url)
        await page.locator("#door").wait_for()
        assert await visitor.overflowing() == []
        await visitor.enter(KEY)
        await page.get_by_role("button", name="New engine").click()
        assert await visitor.overflowing() == []
        await visitor.start()
        await visitor.say("w" * 300)
        await expect(page.locator("#log .agent")).to_contain_text("You said:")
        for row in await page.locator("#wires summary").all():
            await row.click()
        assert await visitor.overflowing() == []


async def test_dark_and_light_follow_the_system(
    chromium: Browser,
    cloud: Cloud,
) -> None:
    grounds = set()
    async with visit(chromium, cloud.url) as visitor:
        await visitor.page.goto(cloud.url)
        for scheme in ("light", "dark"):
            await visitor.page.emulate_media(color_scheme=scheme)
            grounds.add(
                await visitor.page.evaluate(
                    "getComputedStyle(document.documentElement).backgroundColor"
                )
            )
    assert len(grounds) == 2
