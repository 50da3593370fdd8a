"""An engine's settings: defaults, what may be in them, and how they are changed (fact sheet 4)."""

from __future__ import annotations

import copy
import secrets
import string
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import attrs

from ._settings import CREATE, DEFAULTS, DUPLICATE, UPDATE
from .problems import ValidationProblem

if TYPE_CHECKING:
    from ._checks import Check

__all__ = [
    "Engine",
    "create",
    "duplicate",
    "new_id",
    "normal_id",
    "patch",
    "response",
    "summary",
]


@attrs.frozen
class Engine:
    """A Speech Engine resource: where the agent is, and how conversations with it go.

    Args:
        engine_id: ``seng_`` and 28 lower-case letters and digits.
        settings: the body of a response, without its id, ``metadata`` and ``access_info``.
        created_at: Unix time in seconds.
        updated_at: Unix time in seconds.
    """

    engine_id: str
    settings: dict[str, Any] = attrs.field(repr=False)  # request headers may hold secrets
    created_at: int
    updated_at: int

    @property
    def name(self) -> str:
        """What people call it."""
        return cast("str", self.settings["name"])

    @property
    def ws_url(self) -> str:
        """Where the agent listens."""
        return cast("str", self.settings["speech_engine"]["ws_url"])

    @property
    def request_headers(self) -> dict[str, Any]:
        """Sent to the agent with the upgrade: strings, ``{secret_id}``, ``{variable_name}``."""
        return dict(self.settings["speech_engine"]["request_headers"])

    @property
    def cascade_timeout(self) -> float:
        """Seconds without a word before a turn is sent again."""
        return float(self.settings["cascade_timeout_seconds"])

    @property
    def first_message_allowed(self) -> bool:
        """Whether a client may set the first message."""
        return bool(self.settings["overrides"]["first_message"])

    @property
    def requires_auth(self) -> bool:
        """Whether a conversation needs a signed URL."""
        return bool(self.settings["auth"]["enable_auth"])

    @property
    def output_format(self) -> str:
        """The format of the agent's audio, such as ``pcm_16000``."""
        return cast("str", self.settings["tts"]["agent_output_audio_format"])

    @property
    def input_format(self) -> str:
        """The format of the user's audio."""
        return cast("str", self.settings["asr"]["user_input_audio_format"])

    @property
    def text_only(self) -> bool:
        """Whether there is no audio at all."""
        return bool(self.settings["conversation"]["text_only"])

    @property
    def max_duration(self) -> int:
        """Seconds after which a conversation is ended."""
        return int(self.settings["conversation"]["max_duration_seconds"])

    @property
    def speed(self) -> float:
        """How fast the agent speaks; 1 is as usual."""
        return float(self.settings["tts"]["speed"])

    @property
    def language(self) -> str:
        """The code of the language that the agent speaks, like ``en``."""
        return str(self.settings["language"])

    @property
    def concurrency_limit(self) -> int:
        """How many conversations at once; -1 is as many as come."""
        return int(self.settings["call_limits"]["agent_concurrency_limit"])

    @property
    def client_events(self) -> tuple[str, ...]:
        """The types of frames that a client is sent."""
        return tuple(self.settings["conversation"]["client_events"])


def create(body: object, *, now: int) -> Engine:
    """Make an engine of a request body; what the body leaves out gets its default.

    Raises:
        ValidationProblem: with every wrong field.
    """
    _validate(body, CREATE)
    settings = copy.deepcopy(DEFAULTS)
    _merge(settings, _given(body), DEFAULTS)
    return Engine(new_id(), settings, now, now)


def patch(engine: Engine, body: object, *, now: int) -> Engine:
    """Change what a request body names, and nothing else.

    Objects with fields are merged, field by field, at every depth. Lists and ``request_headers``
    are replaced whole: there is no other way to take an entry out. A null in an object sets that
    field back to its default; a null beside the objects says nothing.

    Raises:
        ValidationProblem: with every wrong field.
    """
    _validate(body, UPDATE)
    settings = copy.deepcopy(engine.settings)
    _merge(settings, _given(body), DEFAULTS)
    return attrs.evolve(engine, settings=settings, updated_at=now)


def duplicate(engine: Engine, body: object, *, now: int) -> Engine:
    """Make a second engine with the same settings, under the name in the body if there is one.

    Raises:
        ValidationProblem: with every wrong field.
    """
    _validate({} if body is None else body, DUPLICATE)
    settings = copy.deepcopy(engine.settings)
    if body is not None:
        settings["name"] = _given(body).get("name", engine.name)
    return Engine(new_id(), settings, now, now)


def response(engine: Engine) -> dict[str, Any]:
    """Build the body that tells all of an engine. The TypeScript SDK insists on every key."""
    return {
        "speech_engine_id": engine.engine_id,
        **copy.deepcopy(engine.settings),
        "metadata": {
            "created_at_unix_secs": engine.created_at,
            "updated_at_unix_secs": engine.updated_at,
            "created_from": "api",
            "last_updated_from": "api",
        },
        "access_info": dict(_ACCESS),
    }


def summary(engine: Engine) -> dict[str, Any]:
    """Build an entry of a list. The TypeScript SDK insists on every key."""
    return {
        "speech_engine_id": engine.engine_id,
        "name": engine.name,
        "voice_id": engine.settings["tts"]["voice_id"],
        "created_at_unix_secs": engine.created_at,
        "updated_at_unix_secs": engine.updated_at,
        "tags": list(engine.settings["tags"]),
        "access_info": dict(_ACCESS),
    }


def new_id(prefix: str = "seng_") -> str:
    """Draw an id of the shape that the service's have."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(28))


def normal_id(engine_id: str) -> str:
    """Give an id that was sent its ``seng_`` prefix: ``agent_`` names the same engine."""
    if engine_id.startswith("agent_"):
        return f"seng_{engine_id.removeprefix('agent_')}"
    return engine_id


def _given(body: object) -> dict[str, Any]:
    """Take what a body names: keys that are known, and not null."""
    given = cast("dict[str, Any]", body)
    return {key: given[key] for key in DEFAULTS if given.get(key) is not None}


def _merge(into: dict[str, Any], changes: dict[str, Any], defaults: dict[str, Any]) -> None:
    for key, value in changes.items():
        part, change = _fields_of(into.get(key)), _fields_of(value)
        if value is None:
            into[key] = copy.deepcopy(defaults.get(key))
        elif part is None or change is None or key in _MAPS:
            into[key] = copy.deepcopy(value)
        else:
            _merge(part, change, _fields_of(defaults.get(key)) or {})


def _fields_of(value: object) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _validate(body: object, check: Check) -> None:
    details = list(islice(check(body, ("body",)), _MAX_DETAILS))
    if details:
        raise ValidationProblem(details)


_ALPHABET = string.ascii_lowercase + string.digits

_MAX_DETAILS = 100
"""Mistakes that are told at once: a body of nothing else must not make a far larger answer."""

_MAPS = ("request_headers",)
"""Objects whose keys are data, not fields."""

_ACCESS: dict[str, Any] = {
    "is_creator": True,
    "creator_name": "Local developer",
    "creator_email": "developer@localhost",
    "role": "admin",
    "access_source": "creator",
}
