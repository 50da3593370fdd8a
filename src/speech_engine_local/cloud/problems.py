"""Error bodies of the management API, in the shapes that the service documents (fact sheet 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Problem", "ValidationProblem", "body_of", "detail", "of_status"]

_KINDS = {
    400: ("validation_error", "bad_request", "The request could not be read."),
    401: ("authentication_error", "invalid_api_key", "The API key is not valid."),
    403: ("authorization_error", "forbidden", "This key may not do that."),
    404: ("not_found", "not_found", "There is nothing at this address."),
    405: ("invalid_request", "method_not_allowed", "This address does not take that method."),
    409: ("conflict", "conflict", "The request is at odds with what is there."),
    413: ("invalid_request", "body_too_large", "The body is too large."),
    426: ("invalid_request", "upgrade_required", "This address speaks WebSocket only."),
    429: ("rate_limit_error", "rate_limited", "Too many requests."),
    500: ("internal_error", "internal_error", "Something failed in the local cloud; see its log."),
}


class Problem(Exception):
    """A request that is refused, with the status and body that say why.

    Args:
        status: the HTTP status.
        code: the documented word for it, such as ``invalid_api_key``; a default by status.
        message: a sentence for people, without a secret in it; a default by status.
        param: the name of the parameter that was wrong, where there is one.
        headers: sent with the answer.
    """

    def __init__(
        self,
        status: int,
        code: str | None = None,
        message: str | None = None,
        *,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        kind = _KINDS.get(status) or _KINDS[500 if status >= 500 else 400]
        self.status = status
        self.type = kind[0]
        self.code = code or kind[1]
        self.message = message or kind[2]
        self.param = param
        self.headers = headers or {}
        super().__init__(self.message)


class ValidationProblem(Problem):
    """422: every wrong field is one entry of ``details``.

    Args:
        details: entries made by `detail`, at least one.
    """

    def __init__(self, details: Sequence[dict[str, Any]]) -> None:
        super().__init__(422, "validation_error", "Some fields are wrong.")
        self.details = list(details)


def detail(loc: Sequence[str | int], message: str, kind: str) -> dict[str, Any]:
    """Make one entry of a 422 body.

    Args:
        loc: where, such as ``("body", "speech_engine", "ws_url")``.
        message: what was expected and what came.
        kind: a short word for the sort of mistake, such as ``missing``.
    """
    return {"loc": list(loc), "msg": message, "type": kind}


def body_of(problem: Problem, request_id: str) -> dict[str, Any]:
    """Build the JSON body of a refusal."""
    if isinstance(problem, ValidationProblem):
        return {"detail": problem.details, "request_id": request_id}
    told: dict[str, Any] = {
        "type": problem.type,
        "code": problem.code,
        "message": problem.message,
        "status": problem.code,  # the older name of the code, which clients still read
        "request_id": request_id,
    }
    if problem.param is not None:
        told["param"] = problem.param
    return {"detail": told}


def of_status(status: int, headers: dict[str, str] | None = None) -> Problem:
    """Make the problem that a bare HTTP status stands for."""
    return Problem(status, headers=headers)
