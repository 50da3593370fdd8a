"""The official TypeScript SDK, unchanged: management, and a conversation with its server.

One run of ``node/sdk.mjs`` goes through everything in order; here is what it must have told. That
a call returned at all says that the SDK accepted the body: it insists on every key, as the step
"incomplete body" shows.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.machine import NODE_FOLDER, need_node

from .callers import QUIET, calling
from .programs import Program, running
from .talkers import KEY

if TYPE_CHECKING:
    from speech_engine_local.cloud import Cloud

pytestmark = pytest.mark.anyio


async def test_the_sdk_from_create_to_delete(cloud: Cloud) -> None:
    env = {"ELEVENLABS_API_KEY": KEY, "ELEVENLABS_BASE_URL": cloud.url}
    async with running(need_node(), NODE_FOLDER / "sdk.mjs", cwd=NODE_FOLDER, env=env) as script:
        await script.line('"serving"')
        conversation_id, heard = await converse(cloud, told(script, "serving")["id"])
        assert await script.end() == 0, script.output

    check_management(script)
    check_admission(script, cloud)
    check_errors(script)
    check_conversation(script, conversation_id, heard)
    assert told(script, "list after delete") == {"step": "list after delete", "pages": [[]]}
    assert told(script, "done")


async def converse(cloud: Cloud, engine_id: str) -> tuple[str, str]:
    """Talk with the SDK's server; return the conversation's name and what was heard of a reply."""
    url = f"{cloud.url}/v1/convai/conversation?agent_id={engine_id}".replace("http", "ws", 1)
    async with calling(url) as caller:
        name = await caller.begin(**QUIET)
        await caller.say("Hello")
        assert await caller.reply() == "You said: Hello."
        await caller.say("count")
        await caller.part("three, ")
        await caller.say("Stop")
        assert await caller.reply() == "One, two, three, "
        (correction,) = await caller.diary.next("agent_response_correction")
        assert await caller.reply() == "You said: Stop."
        assert caller.diary.all("error") == []
    return name, correction["corrected_agent_response"]


def check_management(script: Program) -> None:
    created, got = told(script, "create"), told(script, "get")
    config = created["config"]
    assert created["id"].startswith("seng_")
    assert config["name"] == "From TypeScript"
    assert config["tags"] == ["one", "two"]
    assert config["cascadeTimeoutSeconds"] == 5
    assert config["overrides"]["firstMessage"] is False
    assert config["speechEngine"]["requestHeaders"] == {"X-From": "typescript"}
    assert config["tts"]["voiceId"] == "cjVigY5qzO86Huf0OWal"
    assert (got["id"], got["config"]) == (created["id"], config)

    updated = told(script, "update")
    assert updated["id"] == created["id"]
    assert updated["config"]["overrides"]["firstMessage"] is True
    assert updated["config"]["turn"] == {**config["turn"], "turnTimeout": 9}
    assert updated["config"]["speechEngine"] == config["speechEngine"]

    renamed, plain = told(script, "duplicate"), told(script, "duplicate plainly")
    assert len({created["id"], renamed["id"], plain["id"]}) == 3
    assert (renamed["config"]["name"], plain["config"]["name"]) == ("A copy", "From TypeScript")
    assert renamed["config"]["turn"] == updated["config"]["turn"]

    pages = told(script, "list")["pages"]
    assert [[each["name"] for each in page] for page in pages] == [
        ["A copy", "From TypeScript"],
        ["From TypeScript"],
    ]
    assert {each["speechEngineId"] for page in pages for each in page} == {
        created["id"], renamed["id"], plain["id"],
    }  # fmt: skip


def check_admission(script: Program, cloud: Cloud) -> None:
    token = told(script, "token")
    assert token["token"]
    assert token["conversationId"].startswith("conv_")
    here = cloud.url.replace("http", "ws", 1)
    plain = told(script, "signed url")["signedUrl"]
    assert plain.startswith(f"{here}/v1/convai/conversation?agent_id=seng_")
    assert "conversation_id" not in plain
    assert "&conversation_id=conv_" in told(script, "signed url with id")["signedUrl"]


def check_errors(script: Program) -> None:
    wrong, unknown = told(script, "wrong key"), told(script, "unknown")
    assert (wrong["name"], wrong["statusCode"]) == ("ElevenLabsError", 401)
    assert wrong["body"]["detail"]["code"] == "invalid_api_key"
    assert (unknown["name"], unknown["statusCode"]) == ("ElevenLabsError", 404)
    assert unknown["body"]["detail"]["type"] == "not_found"
    invalid = told(script, "invalid")
    assert (invalid["name"], invalid["statusCode"]) == ("UnprocessableEntityError", 422)
    (detail,) = invalid["body"]["detail"]
    assert detail["loc"] == ["body", "cascade_timeout_seconds"]
    assert told(script, "incomplete body")["name"] is not None
    assert "Missing required key" in told(script, "incomplete body")["message"]


def check_conversation(script: Program, conversation_id: str, heard: str) -> None:
    assert told(script, "init")["conversationId"] == conversation_id
    assert told(script, "close")["conversationId"] == conversation_id
    assert [each["transcript"] for each in lines(script) if each["step"] == "transcript"] == [
        [said("user", "Hello")],
        [said("user", "Hello"), said("agent", "You said: Hello."), said("user", "count")],
        [
            said("user", "Hello"), said("agent", "You said: Hello."),
            said("user", "count"), *([said("agent", heard)] if heard else []),
            said("user", "Stop"),
        ],
    ]  # fmt: skip
    assert told(script, "aborted")  # the signal fired in the reply that was interrupted
    assert not [each for each in lines(script) if each["step"] == "error"]


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def told(script: Program, step: str) -> dict[str, Any]:
    """Return what the script printed for a step that it takes once."""
    (line,) = [each for each in lines(script) if each["step"] == step]
    return line


def lines(script: Program) -> list[dict[str, Any]]:
    return [json.loads(line) for line in script.lines]
