"""Asking the door for a macaroon (MacaroonRequestHandler of dCache)."""

from __future__ import annotations

import base64
import datetime as dt
import json
import random

from aiohttp import web

from .auth import Directory, Login
from .calls import Call, origin
from .macaroon import ACTIVITIES, Context, MacaroonError, instant, mint, parse_duration, parse_instant
from .switches import Switches

MACAROON_REQUEST = "application/macaroon-request"
MAXIMUM_LIFETIME = dt.timedelta(days=7)
DEFAULT_LIFETIME = dt.timedelta(hours=24)


class MacaroonDoor:
    """Makes macaroons for logged-in users."""

    def __init__(self, directory: Directory, switches: Switches, rng: random.Random) -> None:
        self._directory = directory
        self._switches = switches
        self._rng = rng

    async def handle(self, call: Call) -> web.Response:
        """Answer one request; errors are a bare status with a reason."""
        if self._switches.bearer_needs_tls and call.request.scheme != "https":
            return web.Response(status=400, reason="Not secure transport")
        try:
            wanted, validity = _parse(await call.request.read())
            token = self._build(call, wanted, validity)
        except MacaroonError as error:
            return web.Response(status=400, reason=str(error).splitlines()[0])
        base = origin(call.request, self._switches)
        target = base + call.request.raw_path.partition("?")[0]
        uri = {
            "targetWithMacaroon": f"{target}?authz={token}",
            "baseWithMacaroon": f"{base}/?authz={token}",
            "target": target,
            "base": f"{base}/",
        }
        body = json.dumps({"macaroon": token, "uri": uri}, indent=4) + "\n"
        return web.Response(body=body.encode(), content_type="application/json")

    def _build(self, call: Call, wanted: list[str], validity: str | None) -> str:
        login = call.login
        before = [caveat.removeprefix("before:") for caveat in wanted if caveat.startswith("before:")]
        others = [caveat for caveat in wanted if not caveat.startswith("before:")]
        caveats = [
            f"iid:{base64.b64encode(self._rng.randbytes(6)).decode()}",
            f"id:{login.uid};{login.uid};{login.name}",
            f"before:{instant(_expiry(login, before, validity))}",
            *_inherited(login, "/" + "/".join(filter(None, call.segments))),
            *others,
        ]
        context = Context.of(caveats)  # a bad caveat is refused now
        if not context.activities:
            raise MacaroonError("Bad requested caveat: no activity")
        return mint(self._directory.secret, base64.b64encode(self._rng.randbytes(6)).decode(), caveats)


def _inherited(login: Login, target: str) -> list[str]:
    """Return what the requester's own restrictions and the request's path impose (buildContext)."""
    caveats = []
    if login.root != "/":
        caveats.append(f"root:{login.root}")
    path = target if target != "/" else login.path
    if not (path + "/").startswith(login.path.rstrip("/") + "/"):
        raise MacaroonError("Bad request path: Desired path not within existing path")
    if path != "/":
        caveats.append(f"path:{path}")
    if login.activities != ACTIVITIES:
        caveats.append("activity:" + ",".join(sorted(login.activities)))
    if login.max_upload is not None:
        caveats.append(f"max-upload:{login.max_upload}")
    return caveats


def _expiry(login: Login, before: list[str], validity: str | None) -> dt.datetime:
    """Return when the macaroon ends (calculateExpiry)."""
    now = dt.datetime.now(dt.UTC)
    moments = [parse_instant(text) for text in before]
    if validity is not None:
        moments.append(now + parse_duration(validity))
    limit = now + MAXIMUM_LIFETIME
    if not moments:
        return now + DEFAULT_LIFETIME if login.expires is None else min(login.expires, limit)
    moment = min(moments)
    if moment <= now:
        raise MacaroonError("Bad requested caveat: before: requested expiry in past")
    if moment > limit + dt.timedelta(seconds=1):
        raise MacaroonError(
            "Bad requested caveat: before: requested duration beyond maximum allowed (PT168H)"
        )
    if login.expires is not None and moment > login.expires:
        raise MacaroonError("Bad requested caveat: before: cannot extend session lifetime")
    return moment


def _parse(body: bytes) -> tuple[list[str], str | None]:
    try:
        request = json.loads(body) if body.strip() else {}
    except ValueError:
        raise MacaroonError("Unable to parse JSON") from None
    if not isinstance(request, dict):
        raise MacaroonError("Unable to parse JSON")
    caveats, validity = request.get("caveats") or [], request.get("validity")
    if not isinstance(caveats, list) or not all(isinstance(caveat, str) for caveat in caveats):
        raise MacaroonError("Unable to parse JSON")
    if validity is not None and not isinstance(validity, str):
        raise MacaroonError("Unable to parse JSON")
    return caveats, validity
