"""Someone who visits the cloud's page in headless Chromium, and sees all that goes wrong there."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from playwright.async_api import Browser, ConsoleMessage, Page, Request, WebSocket

PATIENCE_MS = 30_000
"""For what must come. A guard for a machine that is busy with other things, not a figure."""

# A second meter beside the page's own: it looks at what reaches the sound card, whatever the page
# says of itself. `loud` counts how often it found sound, `quiet` how often in a row it found none;
# `pieces` tells when each piece of sound begins, and how long it is, in seconds; `said` how many
# pieces had been stopped when each message of the user was sent.
_EARS = """
window.ears = {peak: 0, loud: 0, quiet: 0, contexts: 0, pieces: [], stopped: 0, said: []};
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (when) {
  ears.pieces.push([when, this.buffer.duration]);
  return start.call(this, when);
};
const stop = AudioScheduledSourceNode.prototype.stop;
AudioScheduledSourceNode.prototype.stop = function (when) {
  ears.stopped += 1;
  return stop.call(this, when);
};
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (text) {
  if (JSON.parse(text).type === "user_message") ears.said.push(ears.stopped);
  return send.call(this, text);
};
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target instanceof AudioDestinationNode) {
    const meter = target.context.createAnalyser();
    const wave = new Float32Array(meter.fftSize);
    connect.call(this, meter);
    ears.contexts += 1;
    setInterval(() => {
      meter.getFloatTimeDomainData(wave);
      // A context that is closed keeps its last wave, and plays nothing.
      const plays = target.context.state === "running";
      const loudest = plays ? Math.max(...wave.map(Math.abs)) : 0;
      ears.peak = Math.max(ears.peak, loudest);
      ears.loud += loudest > 0.02;
      ears.quiet = loudest > 0.0005 ? 0 : ears.quiet + 1;
    }, 20);
  }
  return connect.call(this, target, ...rest);
};
"""


class Visitor:
    """A page of the browser, and what it did that nobody asked for."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.addresses: list[str] = []
        self.complaints: list[str] = []
        self._origin = origin
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("request", self._note_request)
        page.on("websocket", self._note_socket)

    async def enter(self, key: str) -> None:
        """Open the page as the command prints its address, and wait for the engines."""
        await self.page.goto(f"{self._origin}/#key={key}")
        await self.page.locator("#desk").wait_for()

    async def start(self) -> None:
        """Begin a conversation with the engine that is chosen."""
        await self.page.locator("#start:enabled").click()
        await self.state("listening", "speaking")

    async def say(self, text: str) -> None:
        """Type it, and press Enter."""
        await self.page.get_by_label("What you say").fill(text)
        await self.page.get_by_label("What you say").press("Enter")

    async def state(self, *names: str) -> None:
        """Wait until the conversation is in one of these states."""
        states = ", ".join(f"#state[data-state={name}]" for name in names)
        await self.page.locator(states).wait_for()

    async def hears_something(self) -> None:
        """Wait until sound was rendered for a second, words of it, and more of it is."""
        await self.until("ears.loud > 50 && ears.quiet === 0")

    async def hears_nothing(self) -> None:
        """Wait until for half a second no sound was rendered."""
        await self.until("ears.quiet > 25")

    async def until(self, condition: str) -> None:
        """Wait until an expression of JavaScript is true.

        Playwright's own `wait_for_function` evaluates texts in the page, whose policy forbids it.
        """
        look = f"const look = () => ({condition}) ? done() : setTimeout(look, 20)"
        with anyio.fail_after(PATIENCE_MS / 1000):
            await self.page.evaluate(f"() => new Promise(done => {{ {look}; look(); }})")

    async def overflowing(self) -> list[str]:
        """Tell what is wider than the room it has: the page, or one of its panels."""
        found: list[str] = await self.page.evaluate(
            """[document.documentElement, ...document.querySelectorAll(".panel, .log, .lines")]
               .filter(e => e.scrollWidth > e.clientWidth)
               .map(e => e.className || e.tagName)"""
        )
        return found

    def check(self, tolerated: str | None) -> None:
        """Nothing was complained about but what the test provoked, and no other host asked."""
        untold = [c for c in self.complaints if tolerated is None or tolerated not in c]
        assert untold == []
        hosts = {urlsplit(address).netloc for address in self.addresses}
        assert hosts <= {urlsplit(self._origin).netloc, ""}, self.addresses

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _note_request(self, request: Request) -> None:
        self.addresses.append(request.url)

    def _note_socket(self, socket: WebSocket) -> None:
        self.addresses.append(socket.url)


@asynccontextmanager
async def visit(
    chromium: Browser, origin: str, *, tolerated: str | None = None, **options: Any
) -> AsyncGenerator[Visitor]:
    """Visit an origin without a past; at the end nothing may have gone wrong unseen.

    Args:
        chromium: the browser.
        origin: such as ``http://127.0.0.1:1234``.
        tolerated: a part of the complaints that the test provokes.
        options: of the browser's context, such as ``viewport``.
    """
    context = await chromium.new_context(**options)
    try:
        context.set_default_timeout(PATIENCE_MS)
        await context.add_init_script(_EARS)
        visitor = Visitor(await context.new_page(), origin)
        yield visitor
        visitor.check(tolerated)
    finally:
        await context.close()
