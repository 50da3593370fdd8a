"""A pizzeria's voice agent on trio: the server in a nursery, beside the kitchen that cooks for it.

README.md tells how to start it and how to call it.
"""

import argparse
import logging
import os

import trio

from speech_engine_transports import ConversationMessage as Message
from speech_engine_transports import SpeechEngineServer, SpeechEngineSession, to_messages

log = logging.getLogger("trio_agent")


class Order:
    """A dish on its way: whoever ordered it awaits `ended`, and may cancel `cooking`."""

    def __init__(self) -> None:
        self.cooking = trio.CancelScope()
        self.ended = trio.Event()


async def kitchen(orders: trio.MemoryReceiveChannel[Order], seconds: float) -> None:
    """Cook one order after the other, until no more can come."""
    async for order in orders:
        try:
            with order.cooking:
                await trio.sleep(seconds)  # Change this: the slow work that calls wait for
                log.info("cooked")
        finally:
            order.ended.set()
    log.info("the kitchen is closed")


class Waiter:
    """Answers every call."""

    def __init__(self, orders: trio.MemorySendChannel[Order]) -> None:
        self._orders = orders

    async def on_transcript(self, transcript: list[Message], session: SpeechEngineSession) -> None:
        """Take the order, say so, and speak again when it is done."""
        # Change this: an LLM takes `messages` as they are, and the kitchen as a tool.
        messages = to_messages(transcript)
        dish = next((d for d in ("pizza", "salad") if d in messages[-1]["content"].lower()), None)
        if dish is None:
            await session.send_response("Hello! A pizza or a salad?")
            return
        await session.send_response(f"One {dish}, just a moment. ", final=False)
        await self._cook()
        await session.send_response(f"Your {dish} is ready.")

    async def _cook(self) -> None:
        order = Order()
        await self._orders.send(order)
        try:
            await order.ended.wait()
        except trio.Cancelled:
            # The caller spoke up or hung up, or the server stops. Clean-up that awaits needs a
            # shield, and a shield a deadline. Then let the cancellation go its way.
            order.cooking.cancel()
            with trio.move_on_after(2, shield=True):
                await order.ended.wait()
                log.info("called off")
            raise

    def on_error(self, error: Exception, session: SpeechEngineSession) -> None:
        """Log what failed. The caller has heard the fallback, and the call goes on."""
        log.error("%s: %s", session.conversation_id, type(error).__name__)


async def run(host: str, port: int, seconds: float) -> None:
    """Run kitchen and server side by side, until a signal comes and both have ended."""
    orders, tickets = trio.open_memory_channel[Order](0)
    waiter = Waiter(orders)
    server = SpeechEngineServer(
        transport="trio",
        host=host,
        port=port,
        path="/ws",
        on_transcript=waiter.on_transcript,
        on_error=waiter.on_error,
        fallback="I am sorry, please say that again.",
        session={"serialize_turns": True},  # call off the pizza before the salad is ordered
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kitchen, tickets, seconds)
        async with orders, server:  # left in turn: the calls end, then no order can come
            print(f"Call me at ws://{host}:{server.port}/ws, Ctrl-C ends", flush=True)
            await server.wait_stopped()


def main() -> None:
    """Read the command line, and serve until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="A voice agent on trio, beside another task.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=3001, help="port (%(default)s); 0: a free one")
    parser.add_argument("--seconds", type=float, default=5, help="to cook a dish (%(default)s)")
    options = parser.parse_args()
    if not os.environ.get("ELEVENLABS_API_KEY"):
        parser.error("ELEVENLABS_API_KEY is not set: without it no caller can be verified")
    logging.basicConfig(level=logging.INFO)
    trio.run(run, options.host, options.port, options.seconds)


if __name__ == "__main__":
    main()
