"""The quickstart's Python programs, whole and offline: with the official SDK, and with ours.

The programs in ``quickstart/`` make the calls of the quickstart, with its names, arguments and
order; only their words are our own, and ``import os`` is not forgotten. What is changed in them is
in `FILLED_IN`, which the quickstart tells its readers to fill in, in `OFFICIAL`, because the
official SDK reads no address from the environment, and in `OURS`, the one import line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import pytest
from elevenlabs import ElevenLabs

from speech_engine_transports.httpx import AsyncElevenLabs

from . import official
from .callers import QUIET, calling
from .diary import Diary
from .programs import Program, answers, free_port, running_python
from .talkers import KEY

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from speech_engine_local.cloud import Cloud

    from .llm import Model

pytestmark = pytest.mark.anyio

PROGRAMS = Path(__file__).parent / "quickstart"

FILLED_IN = ("wss://agent.example/ws", "seng_0000000000000000000000000000", "=3001", "=3002")
"""Addresses, the id that create_engine.py prints, and ports."""

OFFICIAL = {
    '(api_key=os.getenv("ELEVENLABS_API_KEY"))': (
        '(api_key=os.getenv("ELEVENLABS_API_KEY"), base_url=os.getenv("ELEVENLABS_BASE_URL"))'
    )
}

OURS = {"from elevenlabs import": "from speech_engine_transports.httpx import"}

GREETING = "Good morning, how may I help?"

INSTRUCTIONS = "You are on the phone. Be brief."
"""What the quickstart's server tells the model."""


class Reader(NamedTuple):
    """Somebody who follows the quickstart."""

    folder: Path
    cloud: Cloud
    model: Model
    changes: dict[str, str]

    def start(self, name: str, **filled_in: str) -> AbstractAsyncContextManager[Program]:
        """Run a program of the quickstart, with exactly these places filled in."""
        code = (PROGRAMS / name).read_text()
        assert all(old in code for old in self.changes)
        places = [place for place in FILLED_IN if place in code]
        assert len(places) == len(filled_in)
        for old, new in [*self.changes.items(), *zip(places, filled_in.values(), strict=True)]:
            code = code.replace(old, new)
        script = self.folder / name
        script.write_text(code)
        env = {
            "ELEVENLABS_API_KEY": KEY,
            "ELEVENLABS_BASE_URL": self.cloud.url,
            "OPENAI_API_KEY": "sk_openai_interop",
            "OPENAI_BASE_URL": self.model.url,
        }
        return running_python(script, env=env)

    async def create_engine(self, ws_url: str) -> str:
        """Run create_engine.py, and copy the id that it prints."""
        async with self.start("create_engine.py", ws_url=ws_url) as program:
            assert await program.end() == 0, program.output
            (line,) = program.lines
        return line.removeprefix("Speech Engine ID: ")

    def serve(self, engine_id: str, port: int) -> AbstractAsyncContextManager[Program]:
        return self.start("server.py", engine_id=engine_id, port=f"={port}")

    def serve_tokens(self, engine_id: str, port: int) -> AbstractAsyncContextManager[Program]:
        return self.start("token_server.py", engine_id=engine_id, port=f"={port}")


@pytest.fixture(params=[OFFICIAL, OURS], ids=["official", "ours"])
def reader(request: pytest.FixtureRequest, tmp_path: Path, cloud: Cloud, model: Model) -> Reader:
    return Reader(tmp_path, cloud, model, request.param)


async def test_the_quickstart_from_the_engine_to_the_last_word(reader: Reader) -> None:
    port = free_port()
    engine_id = await reader.create_engine(f"ws://127.0.0.1:{port}/ws")
    assert engine_id.startswith("seng_")

    async with (
        reader.serve(engine_id, port) as server,
        reader.serve_tokens(engine_id, token_port := free_port()) as token_server,
    ):
        assert await answers(server, f"http://127.0.0.1:{port}/ws") == 401  # not the service
        await allow_a_first_message(reader, engine_id)
        await hold_a_conversation(reader, engine_id, server)
        await interrupt(reader, engine_id, server)
        await token_server.line("Running on")
        await fetch_a_token(f"http://127.0.0.1:{token_port}/api/token")
    assert "Traceback" not in server.output
    assert "Error:" not in server.output


async def allow_a_first_message(reader: Reader, engine_id: str) -> None:
    """Do what the quickstart does: with the official SDK it raises, here and anywhere."""
    overrides: Any = {"first_message": True}
    if reader.changes is OURS:
        async with AsyncElevenLabs(api_key=KEY, base_url=reader.cloud.url) as ours:
            engine = await ours.speech_engine.update(engine_id, overrides=overrides)
        assert engine.engine_id == engine_id
        return
    async with official.async_client_of(reader.cloud) as client:
        with pytest.raises(TypeError, match="overrides"):
            await client.speech_engine.update(engine_id, overrides=overrides)  # type: ignore[call-arg]
    async with httpx.AsyncClient(trust_env=False) as http:
        response = await http.patch(
            f"{reader.cloud.url}/v1/speech-engine/{engine_id}",
            headers={"xi-api-key": KEY},
            json={"overrides": overrides},
        )
    assert response.is_success


async def hold_a_conversation(reader: Reader, engine_id: str, server: Program) -> None:
    """Two turns with the official Python client, through the cloud, to the model and back."""
    diary = Diary()
    conversation: Any = official.Conversation(
        ElevenLabs(api_key=KEY, base_url=reader.cloud.url),
        engine_id,
        requires_auth=False,
        config=official.ConversationInitiationData(
            conversation_config_override={"agent": {"first_message": GREETING}}
        ),
        callback_agent_response=lambda text: diary.note("agent", text),
        callback_disconnect=lambda details: diary.note("over", details),
        callback_agent_chat_response_part=lambda text, kind: diary.note("part", text, kind.value),
    )
    conversation.start_session()
    found = await server.line(r"Session started: (conv_\w+)")
    assert await diary.next("agent") == (GREETING,)
    conversation.send_user_message("Hello there")
    assert await diary.next("agent") == ("You said: Hello there.",)
    conversation.send_user_message("And again")
    assert await diary.next("agent") == ("You said: And again.",)
    conversation.end_session()
    (details,) = await diary.next("over")
    assert details.reason == "user"
    await server.line(f"Session ended: {found[1]}")

    assert "".join(text for text, _ in diary.all("part")) == (
        "You said: Hello there.You said: And again."
    )
    assert [each["input"] for each in reader.model.requests] == [
        [assistant(GREETING), user("Hello there")],
        [
            assistant(GREETING), user("Hello there"),
            assistant("You said: Hello there."), user("And again"),
        ],
    ]  # fmt: skip
    assert {each["instructions"] for each in reader.model.requests} == {INSTRUCTIONS}
    assert set(reader.model.keys) == {"Bearer sk_openai_interop"}


async def interrupt(reader: Reader, engine_id: str, server: Program) -> None:
    """Speak into a reply of which the model has only begun to stream."""
    url = f"{reader.cloud.url}/v1/convai/conversation?agent_id={engine_id}".replace("http", "ws", 1)
    async with calling(url) as caller:
        conversation_id = await caller.begin(**QUIET)
        await caller.say("count")
        await caller.part("three, ")
        await caller.say("Stop")
        assert await caller.reply() == "One, two, three, "
        (correction,) = await caller.diary.next("agent_response_correction")
        assert correction["original_agent_response"] == "One, two, three, "
        heard = correction["corrected_agent_response"]
        assert await caller.reply() == "You said: Stop."
    await server.line(f"Session ended: {conversation_id}")
    assert reader.model.requests[-1]["input"] == [
        user("count"), *([assistant(heard)] if heard else []), user("Stop"),
    ]  # fmt: skip
    if reader.changes is OURS:  # the official session leaves the model's stream open
        await reader.model.hung_up.wait()


async def fetch_a_token(url: str) -> None:
    """Do what the quickstart's page does first."""
    async with httpx.AsyncClient(trust_env=False) as http:
        response = await http.get(url)
    assert response.status_code == 200
    body = json.loads(response.text)
    assert set(body) == {"token"}
    assert body["token"]


async def test_a_wrong_key_ends_the_program_with_the_documented_error(reader: Reader) -> None:
    reader.cloud.api_key = "sk_another"
    async with reader.start("create_engine.py", ws_url="ws://127.0.0.1:1/ws") as program:
        assert await program.end() == 1
    assert "invalid_api_key" in program.output
    assert KEY not in program.output


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}
