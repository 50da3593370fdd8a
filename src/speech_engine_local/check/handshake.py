"""Who may call, and what is answered to everybody else."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from speech_engine_proto.auth import AUTHORIZATION_HEADER

from ._check import Finding, Group, differs, failed, passed

if TYPE_CHECKING:
    from ._target import Answer, Target

__all__ = ["GROUP"]

GROUP = Group("handshake")
_REFUSED = "is refused; the status, 401, is not documented"
_OFFER = "speech-engine-check"


@GROUP.check("token", "a call with a valid token is taken")
async def token(target: Target) -> Finding:
    return _taken(await target.knock(target.token()))


@GROUP.check("bearer", "`Bearer ` before the token changes nothing", silent=True, key=True)
async def bearer(target: Target) -> Finding:
    [(name, value)] = target.token()
    answer = await target.knock([(name, f"Bearer {value}")])
    return passed(answer.how) if answer.is_upgrade else _otherwise(answer)


@GROUP.check("no-token", f"a call without a token {_REFUSED}", key=True)
async def no_token(target: Target) -> Finding:
    return _refused(await target.knock([]))


@GROUP.check("rubbish", f"what is no token {_REFUSED}", key=True)
async def rubbish(target: Target) -> Finding:
    return _refused(await target.knock([(AUTHORIZATION_HEADER, "rubbish")]))


@GROUP.check("wrong-key", f"a token signed with another key {_REFUSED}", key=True)
async def wrong_key(target: Target) -> Finding:
    return _refused(await target.knock(target.token(api_key="sk_another_key_altogether")))


@GROUP.check("api-key", "an API key, as `xi-api-key`, is no token: 401", silent=True, key=True)
async def api_key(target: Target) -> Finding:
    # Not the user's real key: what is sent in clear to a server under test could be logged there.
    return _refused(await target.knock([("xi-api-key", "sk_another_key_altogether")]))


@GROUP.check("expired", f"a token that expired 2 minutes ago {_REFUSED}", key=True)
async def expired(target: Target) -> Finding:
    return _refused(await target.knock(target.token(lifetime=-120)))


@GROUP.check("future", f"a token from 10 minutes ahead {_REFUSED}", key=True)
async def future(target: Target) -> Finding:
    ahead = int(time.time()) + 600
    return _refused(await target.knock(target.token(iat=ahead, exp=ahead + 300)))


@GROUP.check("issuer", f"a token of another issuer {_REFUSED}", key=True)
async def issuer(target: Target) -> Finding:
    return _refused(await target.knock(target.token(iss="https://example.com")))


@GROUP.check("subject", f"a token for another subject {_REFUSED}", key=True)
async def subject(target: Target) -> Finding:
    return _refused(await target.knock(target.token(sub="another")))


@GROUP.check("no-expiry", f"a token that never expires {_REFUSED}", key=True)
async def no_expiry(target: Target) -> Finding:
    return _refused(await target.knock(target.token(exp=None)))


@GROUP.check("unsigned", f"a token of algorithm `none`, without a signature, {_REFUSED}", key=True)
async def unsigned(target: Target) -> Finding:
    [(name, value)] = target.token()
    head = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    return _refused(await target.knock([(name, f"{head}.{value.split('.')[1]}.")]))


@GROUP.check("repeated", "two tokens are refused, also valid ones; with 401", silent=True, key=True)
async def repeated(target: Target) -> Finding:
    return _refused(await target.knock([*target.token(), *target.token()]))


@GROUP.check("query", "a query string is no part of the path", silent=True)
async def query(target: Target) -> Finding:
    answer = await target.knock(target.token(), url=target.elsewhere("?check=1"))
    return passed(answer.how) if answer.is_upgrade else _otherwise(answer)


@GROUP.check("path", "another path is refused with 404", silent=True)
async def path(target: Target) -> Finding:
    answer = await target.knock(target.token(), url=target.elsewhere("/not-this-one"))
    return passed(answer.how) if answer.status == 404 else _otherwise(answer)


@GROUP.check("subprotocol", "a subprotocol that it does not know is not chosen", silent=True)
async def subprotocol(target: Target) -> Finding:
    answer = await target.knock(target.token(), subprotocols=[_OFFER])
    if not answer.is_upgrade:
        return failed(answer.how)
    if answer.subprotocol is None:
        return passed("upgraded, none chosen")
    return differs("upgraded, the offered one chosen")


@GROUP.check("plain-get", "a request that is no upgrade gets an HTTP answer", silent=True)
async def plain_get(target: Target) -> Finding:
    parts = urlsplit(target.url)
    lines = (f"GET {parts.path or '/'} HTTP/1.1", "Host: here", "Connection: close", "", "")
    answer = await target.send_raw("\r\n".join(lines).encode())
    is_answer = (answer.status or 500) < 500
    return passed(answer.how) if is_answer else _otherwise(answer)


@GROUP.check(
    "odd-target", "a request for `//[` does not take the server down", silent=True, alone=True
)
async def odd_target(target: Target) -> Finding:
    await target.send_raw(target.upgrade_request("//["))
    return _still_there(await target.knock(target.token()))


@GROUP.check(
    "reset",
    "a refused caller that resets the connection does not take the server down",
    silent=True,
    alone=True,
)
async def reset(target: Target) -> Finding:
    await target.send_raw(target.upgrade_request("/not-this-one"), reset=True)
    return _still_there(await target.knock(target.token()))


def _taken(answer: Answer) -> Finding:
    return passed(answer.how) if answer.is_upgrade else failed(answer.how)


def _refused(answer: Answer) -> Finding:
    """A refusal with a status says why; hanging up refuses as well. An error is no refusal."""
    if answer.status in (401, 403):
        return passed(answer.how)
    return failed(answer.how) if answer.is_upgrade else _otherwise(answer)


def _otherwise(answer: Answer) -> Finding:
    """Neither silence nor an error of the server is an answer; any other one is only different."""
    is_broken = answer.is_silence or (answer.status or 0) >= 500
    return failed(answer.how) if is_broken else differs(answer.how)


def _still_there(answer: Answer) -> Finding:
    if answer.is_upgrade:
        return passed("the next call is taken")
    return failed(f"the next call: {answer.how}")
