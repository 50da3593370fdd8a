"""Makes an engine, by the calls that the service's quickstart makes, with the same arguments."""
# mypy: ignore-errors

import asyncio
import os

from dotenv import load_dotenv
from elevenlabs import AsyncElevenLabs

load_dotenv()
client = AsyncElevenLabs(api_key=os.getenv("ELEVENLABS_API_KEY"))


async def main() -> None:
    engine = await client.speech_engine.create(
        name="Quickstart", speech_engine={"ws_url": "wss://agent.example/ws"}
    )
    print(f"Speech Engine ID: {engine.engine_id}")


asyncio.run(main())
