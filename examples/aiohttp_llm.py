"""A voice agent in an aiohttp application; a language model finds the words.

The model is any that speaks OpenAI's chat completions: OpenAI, vLLM, Ollama, llama.cpp.
README.md tells how to start it and how to call it.
"""

import argparse
import logging
import os
from typing import Any

from aiohttp import web
from openai import AsyncOpenAI

from speech_engine_transports import ConversationMessage, SpeechEngineSession, to_messages
from speech_engine_transports.aiohttp import attach

log = logging.getLogger("aiohttp_llm")

# Change this: who the agent is. What it writes is spoken, so no lists and no markup.
SYSTEM_PROMPT = (
    "You are the receptionist of a small hotel, on the phone. Answer in one to three short spoken "
    "sentences. Earlier replies of yours that break off were interrupted by the caller."
)

# Change this: what the caller hears when the model fails.
FALLBACK = "I am sorry, I lost my train of thought. Could you say that again?"


class Agent:
    """Answers every call; what differs from call to call is in its session."""

    def __init__(self, llm: AsyncOpenAI, model: str) -> None:
        self._llm = llm
        self._model = model

    async def on_transcript(
        self, transcript: list[ConversationMessage], session: SpeechEngineSession
    ) -> None:
        """Hand the conversation to the model, and its stream to the caller.

        When the caller speaks up, this is cancelled and the HTTP stream closed: the model stops
        writing. Of a reply that was cut, the next transcript holds only what was heard.
        """
        messages: Any = [{"role": "system", "content": SYSTEM_PROMPT}, *to_messages(transcript)]
        stream = await self._llm.chat.completions.create(
            model=self._model, messages=messages, stream=True
        )
        await session.send_response(stream)

    def on_error(self, error: Exception, session: SpeechEngineSession) -> None:
        """Log what failed. The caller has heard the fallback, and the call goes on.

        Not `str(error)`: providers quote the conversation and parts of keys in their messages.
        """
        name, request_id = type(error).__name__, getattr(error, "request_id", None)
        log.error("%s: %s (request %s)", session.conversation_id, name, request_id)


def make_app(agent: Agent, llm: AsyncOpenAI) -> web.Application:
    """Make the application: your own routes, and the one that answers calls."""

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def close_llm(_: web.Application) -> None:
        await llm.close()

    app = web.Application()
    app.router.add_get("/health", health)  # Change this: the routes that you have already
    app.on_cleanup.append(close_llm)
    handlers: dict[str, Any] = {"on_transcript": agent.on_transcript, "on_error": agent.on_error}
    attach(app, "/ws", fallback=FALLBACK, **handlers)
    return app


def main() -> None:
    """Read the command line, and serve until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="A voice agent on aiohttp with a language model.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=3001, help="port (%(default)s); 0: a free one")
    parser.add_argument("--base-url", help="the model's endpoint (OPENAI_BASE_URL, else OpenAI)")
    parser.add_argument("--model", default="gpt-4o-mini", help="its name there (%(default)s)")
    # The service asks three times, by default 4 s apart, and then ends the call: a try and a second
    # one of 5 s fit in there. A model that has to be loaded first needs more.
    parser.add_argument("--timeout", type=float, default=5, help="seconds per try (%(default)s)")
    options = parser.parse_args()
    if not os.environ.get("ELEVENLABS_API_KEY"):
        parser.error("ELEVENLABS_API_KEY is not set: without it no caller can be verified")
    url = options.base_url or os.environ.get("OPENAI_BASE_URL") or None
    key = os.environ.get("OPENAI_API_KEY") or (url and "none")  # one of your own may want no key
    if not key:
        parser.error("OPENAI_API_KEY is not set; or name an endpoint of yours with --base-url")

    logging.basicConfig(level=logging.INFO)
    llm = AsyncOpenAI(base_url=url, api_key=key, timeout=options.timeout, max_retries=1)
    web.run_app(make_app(Agent(llm, options.model), llm), host=options.host, port=options.port)


if __name__ == "__main__":
    main()
