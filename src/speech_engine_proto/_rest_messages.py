"""A request to the management API and what came back, as plain values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast
from urllib.parse import urlencode

import attrs

from ._rest_settings import plain, query_text


def _headers(value: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    pairs = cast("Mapping[str, str]", value).items() if isinstance(value, Mapping) else value
    return {name.lower(): text for name, text in pairs}


def _size(body: bytes | None) -> str:
    return "None" if body is None else f"<{len(body)} bytes>"


@attrs.frozen
class ApiRequest:
    """One request to the management API, without the key and without a host.

    Args:
        method: ``"GET"``, ``"POST"``, ``"PATCH"`` or ``"DELETE"``.
        path: percent-encoded, beginning with ``/v1/``.
        query: pairs of names and values, not yet encoded.
        body: JSON as UTF-8, or None; the repr shows its size.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: bytes | None = attrs.field(default=None, repr=_size)

    @property
    def headers(self) -> dict[str, str]:
        """The headers that describe the body; the carrier adds the key."""
        return {"accept": "application/json"} | (
            {} if self.body is None else {"content-type": "application/json"}
        )

    def url(self, base_url: str) -> str:
        """Return the whole URL.

        Args:
            base_url: as `resolve_base_url` returns it; a path in it is kept.
        """
        url = base_url.rstrip("/") + self.path
        return f"{url}?{urlencode(self.query)}" if self.query else url

    def extended(
        self, *, query: Mapping[str, Any] | None = None, body: Mapping[str, Any] | None = None
    ) -> ApiRequest:
        """Return the request with more in it, for what this package does not know of yet.

        Args:
            query: further parameters; one that is there already is replaced.
            body: further keys of the JSON object; one that is there already is replaced.

        Raises:
            ValueError: a value that JSON or a query cannot hold; names the field.
        """
        pairs = dict(self.query)
        for name, value in (query or {}).items():
            if value is not None:
                pairs[name] = query_text(name, value)
        content = self.body
        if body:
            old: Any = json.loads(content) if content is not None else {}
            content = encode({**old, **cast("dict[str, Any]", plain("body", body))})
        return attrs.evolve(self, query=tuple(pairs.items()), body=content)


@attrs.frozen
class ApiResponse:
    """What the management API answered.

    Its repr shows the status and sizes only: bodies hold tokens and signed URLs.

    Args:
        status: the HTTP status.
        headers: a mapping or pairs; names become lower-case.
        body: the bytes of the body.
    """

    status: int
    headers: Mapping[str, str] = attrs.field(
        factory=dict[str, str], converter=_headers, repr=lambda headers: f"<{len(headers)}>"
    )
    body: bytes = attrs.field(default=b"", repr=_size)

    @property
    def is_success(self) -> bool:
        """Whether the status is 200 to 299."""
        return 200 <= self.status < 300


def encode(value: Any) -> bytes:
    """Write JSON as UTF-8; the value has been through `plain`."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
