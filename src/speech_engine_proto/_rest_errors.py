"""What can go wrong with a management request, each kind as a class of its own."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
import msgspec

from ._rest_retry import retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._rest_messages import ApiResponse


class ApiError(Exception):
    """A management request failed. The subclasses tell how.

    ``str`` holds the status, the service's message, its code and the request's id, never a body.

    Args:
        message: what went wrong, in the service's words where it gave some.
        status_code: the HTTP status, or None where there was no answer.
        code: the service's name for it, such as ``"invalid_api_key"``.
        type: the service's name for its kind, such as ``"authentication_error"``.
        param: the field that the service complains about.
        request_id: the service's id of the request, for its support.
        body: the body: JSON values, or text where it was no JSON.
        headers: the response's headers, names in lower case.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status_code: int | None = None,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.code = code
        self.type = type
        self.param = param
        self.request_id = request_id
        self.body = body
        self.headers: dict[str, str] = headers or {}

    def __str__(self) -> str:
        text = self.message if self.status_code is None else f"{self.status_code} {self.message}"
        notes = {"code": self.code, "param": self.param, "request_id": self.request_id}
        noted = ", ".join(f"{name} {value}" for name, value in notes.items() if value)
        return f"{text} ({noted})" if noted else text


class BadRequestError(ApiError):
    """400: the service does not accept the request."""


class UnauthorizedError(ApiError):
    """401: the API key is missing, wrong, or of another region."""


class ForbiddenError(ApiError):
    """403: the API key may not do this."""


class NotFoundError(ApiError):
    """404: there is no such Speech Engine."""


class ConflictError(ApiError):
    """409: the request contradicts the state of the Speech Engine."""


class UnprocessableEntityError(ApiError):
    """422: fields are missing or wrong.

    ``details`` holds a `ValidationDetail` for each.
    """

    details: tuple[ValidationDetail, ...] = ()

    def __str__(self) -> str:
        return "; ".join([super().__str__(), *map(str, self.details)])


class RateLimitError(ApiError):
    """429: too many requests.

    ``retry_after`` is how many seconds to wait before the next one, None where the service does
    not say.
    """

    retry_after: float | None = None


class ServerError(ApiError):
    """500 to 599: the service failed."""


class UnexpectedResponseError(ApiError):
    """The service says that all is well, but its answer is not what the request asks for."""


class TransportError(ApiError):
    """There was no answer: no connection, a timeout, a broken connection.

    ``sent`` tells whether the service may have seen the request.
    """

    sent: bool = True


@attrs.frozen
class ValidationDetail:
    """One field that the service refused.

    Args:
        loc: the way to the field, such as ``("body", "speech_engine", "ws_url")``.
        msg: what is wrong with it.
        type: the service's name for what is wrong.
    """

    loc: tuple[str | int, ...] = ()
    msg: str = ""
    type: str = ""

    def __str__(self) -> str:
        return f"{'.'.join(map(str, self.loc))}: {self.msg}"


def error_from(response: ApiResponse, *, now: float | None = None) -> ApiError:
    """Read a response that is not 2xx; whatever its body is, this returns an error.

    The documented body is ``{"detail": {"type", "code", "message", "request_id", ...}}``; older
    ones are ``{"detail": {"status", "message"}}`` and ``{"detail": "..."}``, and 422 carries a
    list (facts sheet, section 4).

    Args:
        response: the response.
        now: seconds since 1970 (UTC), for a ``Retry-After`` that is a date.
    """
    body = read_body(response.body)
    outer = _as_dict(body)
    detail: object = outer.get("detail", outer)
    inner = _as_dict(detail)
    message = detail if isinstance(detail, str) else text_in(inner, "message")
    error = _class_of(response.status)(
        message or _phrase(response.status),
        status_code=response.status,
        code=text_in(inner, "code") or text_in(inner, "status"),
        type=text_in(inner, "type"),
        param=text_in(inner, "param"),
        request_id=text_in(inner, "request_id")
        or response.headers.get("request-id")
        or response.headers.get("x-request-id"),
        body=body,
        headers=dict(response.headers),
    )
    if isinstance(error, UnprocessableEntityError):
        error.details = _details(detail)
    if isinstance(error, RateLimitError):
        error.retry_after = retry_after(response.headers.get("retry-after"), now=now)
    return error


def transport_error(message: str, *, sent: bool) -> TransportError:
    """Make the error of a request that got no answer.

    Args:
        message: what happened, without secrets.
        sent: whether the service may have seen the request.
    """
    error = TransportError(message)
    error.sent = sent
    return error


def read_body(body: bytes) -> Any:
    """Return JSON values, or the text where it is no JSON. Never raises."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode("utf-8", "replace")


def text_in(values: Mapping[str, object], key: str) -> str | None:
    """Return the text under a key, or None where there is none."""
    value = values.get(key)
    return value if isinstance(value, str) else None


def _class_of(status: int) -> type[ApiError]:
    return _CLASSES.get(status) or (ServerError if 500 <= status <= 599 else ApiError)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unexpected status"


def _details(detail: object) -> tuple[ValidationDetail, ...]:
    items: list[object] = cast("list[object]", detail) if isinstance(detail, list) else []
    return tuple(_detail(entry) for entry in map(_as_dict, items) if entry)


def _detail(item: dict[str, object]) -> ValidationDetail:
    loc = item.get("loc")
    steps: list[object] = cast("list[object]", loc) if isinstance(loc, list) else []
    return ValidationDetail(
        loc=tuple(step for step in steps if isinstance(step, str | int)),
        msg=text_in(item, "msg") or "",
        type=text_in(item, "type") or "",
    )


def _as_dict(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


_CLASSES: Final[dict[int, type[ApiError]]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}
