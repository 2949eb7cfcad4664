"""Macaroons as dCache makes them: version 1 packets, a chain of HMACs, and dCache's caveats.

See MacaroonProcessor, MacaroonContext and CaveatType of dCache. A holder may add caveats offline.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from .namespace import join

ACTIVITIES = frozenset(
    {"READ_METADATA", "UPDATE_METADATA", "LIST", "DOWNLOAD", "MANAGE", "UPLOAD", "DELETE", "STAGE"}
)
CAVEATS = frozenset({"home", "root", "path", "activity", "id", "before", "ip", "max-upload", "iid"})
_KEY = b"macaroons-key-generator"
_HEADER = 4
_DURATION = re.compile(
    r"P(?:(?P<d>\d+)D)?(?:T(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?", re.IGNORECASE
)


class MacaroonError(Exception):
    """A macaroon or a caveat that is not to be accepted."""


def mint(secret: bytes, identifier: str, caveats: Iterable[str], location: str = "") -> str:
    """Return a serialised macaroon."""
    packets = _packet("location", location.encode()) + _packet("identifier", identifier.encode())
    signature = _hmac(_hmac(_KEY, secret), identifier.encode())
    for caveat in caveats:
        packets += _packet("cid", caveat.encode())
        signature = _hmac(signature, caveat.encode())
    packets += _packet("signature", signature)
    return base64.urlsafe_b64encode(packets).decode().rstrip("=")


def looks_like(token: str) -> bool:
    """Whether a bearer token has the form of a macaroon."""
    try:
        return bool(_unpack(token))
    except MacaroonError:
        return False


def verify(secret: bytes, token: str) -> list[str]:
    """Return the caveats of a macaroon that was made with ``secret``."""
    packets = _unpack(token)
    caveats = [value for key, value in packets if key == "cid"]
    identifier = next((value for key, value in packets if key == "identifier"), b"")
    signature = _hmac(_hmac(_KEY, secret), identifier)
    for caveat in caveats:
        signature = _hmac(signature, caveat)
    if packets[-1][0] != "signature" or not hmac.compare_digest(signature, packets[-1][1]):
        raise MacaroonError("Invalid macaroon")
    return [caveat.decode() for caveat in caveats]


def parse_duration(text: str) -> dt.timedelta:
    """Read an ISO 8601 duration such as ``PT1H`` (``validity`` of a request)."""
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        raise MacaroonError(f"Bad validity value: Text '{text}' cannot be parsed to a Duration")
    parts = {name: float(value or 0) for name, value in match.groupdict().items()}
    return dt.timedelta(days=parts["d"], hours=parts["h"], minutes=parts["m"], seconds=parts["s"])


def parse_instant(text: str) -> dt.datetime:
    """Read an instant such as ``2030-01-01T00:00:00Z`` (``before:``)."""
    try:
        instant = dt.datetime.fromisoformat(text)
    except ValueError:
        raise MacaroonError("Bad ISO 8601 timestamp") from None
    if instant.tzinfo is None:
        raise MacaroonError("Bad ISO 8601 timestamp")
    return instant


def instant(moment: dt.datetime) -> str:
    """Return ``moment`` as Java prints an Instant."""
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(slots=True)
class Context:
    """What the caveats of one macaroon say together (MacaroonContext)."""

    uid: int = -1
    username: str = ""
    root: str = "/"
    path: str = "/"
    activities: frozenset[str] = field(default=ACTIVITIES)
    expires: dt.datetime | None = None
    max_upload: int | None = None
    addresses: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, caveats: Iterable[str]) -> Context:
        """Read caveats in their order; one that is not understood refuses the whole."""
        context = cls()
        for caveat in caveats:
            kind, colon, value = caveat.partition(":")
            if not colon or kind not in CAVEATS:
                raise MacaroonError(f"Unknown caveat {kind}")
            context.add(kind, value)
        return context

    def add(self, kind: str, value: str) -> None:
        """Narrow by one more caveat."""
        match kind:
            case "id":
                self._identify(value)
            case "root":
                self._change_root(value)
            case "path":
                self.path = join(self.path, value)
            case "activity":
                self._narrow_activities(value)
            case "before":
                moment = parse_instant(value)
                self.expires = moment if self.expires is None else min(self.expires, moment)
            case "ip":
                self.addresses.append(value)
            case "max-upload":
                self.max_upload = _smaller(self.max_upload, value)

    def allowed(self) -> frozenset[str]:
        """Return the activities; any of them implies READ_METADATA (getAllowedActivities)."""
        return self.activities | {"READ_METADATA"} if self.activities else self.activities

    def _identify(self, value: str) -> None:
        parts = value.split(";", 2)
        if self.uid >= 0 or len(parts) < 3 or not parts[0].isdigit():
            raise MacaroonError("Bad identity")
        self.uid, self.username = int(parts[0]), parts[2]

    def _change_root(self, value: str) -> None:
        """Move the root; what the path said already holds below it (updateRoot)."""
        outer, inner = join(self.path), join(value)
        if outer != "/" and not within(inner, outer) and not within(outer, inner):
            raise MacaroonError("root extends outside of path")
        self.path = join(outer.removeprefix(inner)) if within(outer, inner) else "/"
        self.root = join(self.root, value)

    def _narrow_activities(self, value: str) -> None:
        named = frozenset(name.strip() for name in value.split(","))
        if not named <= ACTIVITIES:
            raise MacaroonError("Bad activity value")
        if not named <= self.activities:
            raise MacaroonError("attempt to enlarge activity set")
        self.activities = named


def within(path: str, prefix: str) -> bool:
    """Whether ``path`` is ``prefix`` or below it (FsPath.hasPrefix)."""
    return prefix in ("/", path) or path.startswith(prefix + "/")


def _smaller(old: int | None, value: str) -> int:
    if not value.isdigit() or int(value) == 0:
        raise MacaroonError("Bad max-upload")
    return int(value) if old is None else min(old, int(value))


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def _packet(key: str, value: bytes) -> bytes:
    body = key.encode() + b" " + value + b"\n"
    return f"{len(body) + _HEADER:04x}".encode() + body


def _unpack(token: str) -> list[tuple[str, bytes]]:
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        packets = []
        while raw:
            length = int(raw[:_HEADER], 16)
            key, _, value = raw[_HEADER : length - 1].partition(b" ")
            packets.append((key.decode(), value))
            raw = raw[length:] if length > _HEADER else b""
    except (binascii.Error, ValueError):
        raise MacaroonError("Not a macaroon") from None
    if not packets or packets[0][0] != "location":
        raise MacaroonError("Not a macaroon")
    return packets
