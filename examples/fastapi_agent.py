"""A restaurant's voice agent in a FastAPI application, with a booking API beside it.

Both use the same tables: a guest who waits on the phone gets the table that somebody gives back
over HTTP. README.md tells how to start it and how to call it.
"""

import argparse
import asyncio
import logging
import os
from collections.abc import AsyncIterator
from functools import partial
from itertools import count

import uvicorn
from fastapi import FastAPI, HTTPException, Response, WebSocket

from speech_engine_transports import ConversationMessage as Message
from speech_engine_transports import SpeechEngineResource, SpeechEngineSession, to_messages

log = logging.getLogger("fastapi_agent")
engine = SpeechEngineResource("seng_...")  # Change this: the id of your engine
app = FastAPI()
calls: set[SpeechEngineSession] = set()

# Change this: with a database in place of these, several workers may share it.
free_tables = asyncio.Semaphore(2)
bookings: dict[int, str] = {}
numbers = count(1)


async def take_table(name: str) -> int:
    """Book a table; wait for one if need be. A wait that is cancelled takes none."""
    await free_tables.acquire()
    number = next(numbers)
    bookings[number] = name
    return number


@app.websocket("/ws")
async def talk(websocket: WebSocket) -> None:
    """Answer a call of the service, and of nobody else."""
    if not engine.verify_request(websocket.headers.items()):
        await websocket.send_denial_response(Response(status_code=401))
        return
    await websocket.accept()
    session = engine.create_session(websocket, fallback="I am sorry, please say that again.")
    session.on("user_transcript", partial(on_transcript, session))
    session.on("error", partial(on_error, session))
    calls.add(session)
    try:
        await session.run()
    finally:
        calls.discard(session)


async def on_transcript(session: SpeechEngineSession, transcript: list[Message]) -> None:
    """Reply; when the guest speaks up, this is cancelled and the stream of the reply closed."""
    await session.send_response(reply(to_messages(transcript), f"call {session.conversation_id}"))


async def reply(messages: list[dict[str, str]], guest: str) -> AsyncIterator[str]:
    # Change this: an LLM takes `messages` as they are, and `take_table` as a tool.
    if "table" not in messages[-1]["content"].lower():
        yield "Good evening! Would you like a table?"
        return
    if free_tables.locked():
        yield "We are full. Stay on the line, and you get the next free table. "
    yield f"You have a table, booking number {await take_table(guest)}."


def on_error(session: SpeechEngineSession, error: Exception) -> None:
    """Log what failed. The guest has heard the fallback, and the call goes on."""
    log.error("%s: %s", session.conversation_id, type(error).__name__)


# Change this: whoever reaches the port can use these routes. Put your own login before them.
@app.get("/status")
async def status() -> dict[str, object]:
    return {"calls": [call.conversation_id for call in calls], "bookings": bookings}


@app.post("/bookings", status_code=201)
async def book(name: str) -> dict[str, int]:
    if free_tables.locked():
        raise HTTPException(409, "no table is free")
    return {"number": await take_table(name)}


@app.delete("/bookings/{number}", status_code=204)
async def give_back(number: int) -> None:
    if bookings.pop(number, None) is None:
        raise HTTPException(404, "no such booking")
    free_tables.release()


def main() -> None:
    """Read the command line, and serve until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="A voice agent and a booking API on FastAPI.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=3001, help="port (%(default)s); 0: a free one")
    options = parser.parse_args()
    if not os.environ.get("ELEVENLABS_API_KEY"):
        parser.error("ELEVENLABS_API_KEY is not set: without it no caller can be verified")
    logging.basicConfig(level=logging.INFO)
    uvicorn.run(app, host=options.host, port=options.port, ws_per_message_deflate=False)


if __name__ == "__main__":
    main()
