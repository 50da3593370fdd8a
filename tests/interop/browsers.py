"""Pages with the official browser clients, in a headless Chromium that reaches loopback only."""

from __future__ import annotations

import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiohttp import web
from playwright.async_api import async_playwright

from tests.machine import NODE_FOLDER

from .diary import Diary

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from playwright.async_api import Browser, ConsoleMessage, Page

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    # The TypeScript client would fetch a resampler from a CDN in browsers that cannot resample
    # (fact sheet 5.4): here no name but this machine's is ever resolved.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

CLIENT = NODE_FOLDER / "node_modules" / "@elevenlabs" / "client" / "dist" / "lib.iife.js"

HTML = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><link rel="icon" href="data:,">
</head><body><div id="root"></div>{scripts}</body></html>"""

PAGES = {
    "client": '<script src="/lib.iife.js"></script>'
    '<script type="module" src="/browser_client.js"></script>',
    "react": '<script src="/react_app.js"></script>',
}
"""What a page loads, by the client that it shows."""


class Stage:
    """A page with a client, driven by the test; what its callbacks told is in ``diary``."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.diary = Diary()
        self.console: list[str] = []
        self.requests: list[str] = []

    async def open(self, url: str) -> None:
        """Load the page, and wait until its client can be used."""
        await self.page.expose_function("note", self.diary.note)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.console.append(f"uncaught: {error}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))
        await self.page.goto(url)
        await self.diary.next("ready")

    async def begin(self, **options: Any) -> None:
        """Start a session; how that went is in the diary."""
        await self.page.evaluate("options => void window.stage.begin(options)", options)

    async def say(self, text: str) -> None:
        await self.page.evaluate("text => window.stage.say(text)", text)

    async def heard(self) -> tuple[float, int]:
        """Wait until something is heard; return its volume, and its loudest frequency's level."""
        await self.page.evaluate("window.stage.listen()")
        (sound,) = await self.diary.next("heard")
        return sound["volume"], sound["loudest"]

    async def message(self) -> str:
        """Return the next whole message of the agent."""
        (message,) = await self.diary.next("message")
        assert message["source"] == "ai"
        text: str = message["message"]
        return text

    async def part(self, text: str) -> None:
        """Return when a piece of a reply has come with exactly this text."""
        await self.diary.until("part", {"type": "delta", "text": text})

    async def corrected(self, original: str) -> str:
        """Wait until a reply has been cut to what was heard of it, and return that."""
        while (await self.diary.next("correction"))[0]["original_agent_response"] != original:
            pass
        correction: dict[str, Any] = self.diary.all("correction")[-1][0]
        text: str = correction["corrected_agent_response"]
        return text

    async def end(self) -> None:
        await self.page.evaluate("window.stage.end()")

    def strangers(self) -> list[str]:
        """Return what was asked of anybody but this machine."""
        asked = [urlsplit(url.removeprefix("blob:")) for url in self.requests]
        return [
            url.geturl() for url in asked if url.scheme != "data" and url.hostname != "127.0.0.1"
        ]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.console.append(message.text)


@asynccontextmanager
async def browsing(chromium: str) -> AsyncGenerator[Browser]:
    """Run a headless Chromium while the block runs."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def serving_pages(bundle: Path) -> AsyncGenerator[str]:
    """Serve the pages of `PAGES` while the block runs, and yield their address.

    Args:
        bundle: what `bundle_react` has made.
    """

    async def page(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        html = HTML.format(title=name, scripts=PAGES[name])
        return web.Response(text=html, content_type="text/html")

    files = {
        "/lib.iife.js": CLIENT,
        "/stage.js": NODE_FOLDER / "stage.js",
        "/browser_client.js": NODE_FOLDER / "browser_client.js",
        "/react_app.js": bundle,
    }

    async def script(request: web.Request) -> web.Response:
        return web.Response(body=files[request.path].read_bytes(), content_type="text/javascript")

    app = web.Application()
    app.router.add_get("/pages/{name}", page)
    for path in files:
        app.router.add_get(path, script)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/pages"
    finally:
        await runner.cleanup()


def bundle_react(into: Path) -> Path:
    """Bundle the React page with the unmodified packages, and return the script."""
    bundle = into / "react_app.js"
    subprocess.run(
        [
            NODE_FOLDER / "node_modules" / ".bin" / "esbuild",
            "react_app.jsx",
            "--bundle",
            "--jsx=automatic",
            "--log-level=warning",
            '--define:process.env.NODE_ENV="production"',
            f"--outfile={bundle}",
        ],
        cwd=NODE_FOLDER,
        check=True,
    )
    return bundle
