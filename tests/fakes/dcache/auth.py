"""Who is asking and what they may do (section 4; AuthenticationHandler of dCache)."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import ipaddress
import secrets
import zlib
from dataclasses import dataclass, field

from aiohttp import web

from .macaroon import ACTIVITIES, Context, MacaroonError, looks_like, verify, within
from .namespace import join
from .switches import Switches

TOKEN_UID = 1000


class LoginFailedError(Exception):
    """Credentials were given and are not good: 401 with an empty body."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user with the restrictions of their credential."""

    name: str
    uid: int
    root: str = "/"
    path: str = "/"
    activities: frozenset[str] = ACTIVITIES
    expires: dt.datetime | None = None
    max_upload: int | None = None

    def resolve(self, path: str) -> str:
        """Return the dCache path of what the user calls ``path`` (section 4, root)."""
        return join(self.root, join(path))

    def permits(self, activity: str, path: str) -> bool:
        """Whether the restrictions allow ``activity`` on a dCache path."""
        return activity in self.activities and within(path, join(self.root, self.path))


def uid_of(name: str) -> int:
    """Return the numeric uid of a user that nobody declared."""
    return 1001 + zlib.crc32(name.encode()) % 60_000


@dataclass(slots=True)
class Directory:
    """The known users and tokens; while none is known, all are accepted."""

    users: dict[str, tuple[str, int]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    @property
    def is_open(self) -> bool:
        """Whether any login will do."""
        return not self.users and not self.tokens

    def add_user(self, text: str) -> None:
        """Add ``name:password`` or ``name:password:uid``."""
        name, _, rest = text.partition(":")
        password, _, uid = (
            rest.rpartition(":") if rest.rpartition(":")[2].isdigit() and ":" in rest else (rest, "", "")
        )
        self.users[name] = (password, int(uid) if uid else uid_of(name))

    def add_token(self, text: str) -> None:
        """Add ``token`` or ``token:uid``."""
        token, colon, uid = text.rpartition(":")
        if colon and uid.isdigit():
            self.tokens[token] = int(uid)
        else:
            self.tokens[text] = TOKEN_UID

    def basic(self, data: str) -> Login:
        """Log in by name and password."""
        try:
            name, colon, password = base64.b64decode(data, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise LoginFailedError("bad Basic credentials") from None
        if not colon or not name:
            raise LoginFailedError("bad Basic credentials")
        name = name.partition("#")[0]  # desired roles
        if self.is_open:
            return Login(name, uid_of(name))
        known = self.users.get(name)
        if known is None or known[0] != password:
            raise LoginFailedError("login failed")
        return Login(name, known[1])

    def bearer(self, token: str, address: str) -> Login:
        """Log in by OIDC token or macaroon."""
        if looks_like(token):
            return self._macaroon(token, address)
        if self.is_open:
            return Login("token", TOKEN_UID)
        if token not in self.tokens:
            raise LoginFailedError("login failed")
        return Login("token", self.tokens[token])

    def _macaroon(self, token: str, address: str) -> Login:
        try:
            context = Context.of(verify(self.secret, token))
        except MacaroonError as error:
            raise LoginFailedError(str(error)) from None
        if context.expires is not None and context.expires <= dt.datetime.now(dt.UTC):
            raise LoginFailedError("expired")
        if not all(_is_in(address, networks) for networks in context.addresses):
            raise LoginFailedError("ip")
        return Login(
            context.username,
            context.uid,
            root=context.root,
            path=context.path,
            activities=context.allowed(),
            expires=context.expires,
            max_upload=context.max_upload,
        )


def _is_in(address: str, networks: str) -> bool:
    here = ipaddress.ip_address(address)
    try:
        return any(
            here in ipaddress.ip_network(network.strip(), strict=False) for network in networks.split(",")
        )
    except ValueError:
        return False


def log_in(
    request: web.BaseRequest, directory: Directory, switches: Switches, query_token: str | None
) -> Login | None:
    """Return the user of a request, None for anonymous; bad credentials raise (section 4)."""
    scheme, _, data = request.headers.get("Authorization", "").partition(" ")
    token = data.strip() if scheme.lower() == "bearer" else query_token
    if token is not None:
        if switches.bearer_needs_tls and request.scheme != "https":
            raise LoginFailedError("not allowed to send bearer token unencrypted")
        return directory.bearer(token, request.remote or "127.0.0.1")
    if scheme.lower() == "basic":
        return directory.basic(data.strip())
    certificate = request.get_extra_info("peercert")
    if certificate:
        names = {key: value for part in certificate["subject"] for key, value in part}
        name = str(names.get("commonName", "certificate"))
        known = directory.users.get(name)
        return Login(name, known[1] if known else uid_of(name))
    return None


def challenge(request: web.BaseRequest) -> dict[str, str]:
    """Return the headers that go with every 401 (section 1, "Errors")."""
    if "Suppress-WWW-Authenticate" in request.headers:
        return {"Suppress-WWW-Authenticate": "suppressed"}
    return {"WWW-Authenticate": 'Basic realm=""'}
