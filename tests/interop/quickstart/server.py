"""Answers calls, by the calls that the service's quickstart makes, with the same arguments."""
# mypy: ignore-errors

import asyncio
import os

from dotenv import load_dotenv
from elevenlabs import AsyncElevenLabs
from openai import AsyncOpenAI

load_dotenv()
client = AsyncElevenLabs(api_key=os.getenv("ELEVENLABS_API_KEY"))
openai = AsyncOpenAI(api_key=os.getenv("OPENAI_API_KEY"))


def on_init(conversation_id, session):
    print(f"Session started: {conversation_id}")


async def on_transcript(transcript, session):
    prompt = [
        {"role": "assistant" if said.role == "agent" else said.role, "content": said.content}
        for said in transcript
    ]
    stream = await openai.responses.create(
        model="gpt-4o", instructions="You are on the phone. Be brief.", input=prompt, stream=True
    )
    await session.send_response(stream)


def on_close(session):
    print(f"Session ended: {session.conversation_id}")


def on_error(error, session):
    print(f"Error: {error}")


async def main() -> None:
    engine = await client.speech_engine.get("seng_0000000000000000000000000000")
    await engine.serve(
        port=3001,
        path="/ws",
        debug=True,
        on_init=on_init,
        on_transcript=on_transcript,
        on_close=on_close,
        on_error=on_error,
    )


asyncio.run(main())
