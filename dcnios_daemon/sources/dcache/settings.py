"""What can be said of a dCache source in the configuration."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from dcnios_daemon.core.settings import Secret, Settings
from dcnios_daemon.core.units import Duration


def _clean_path(path: str) -> str:
    parts = path.split("/")[1:]
    if not path.startswith("/"):
        raise ValueError("must begin with / (paths are relative to the user's root in dCache)")
    if {".", ".."} & set(parts):
        raise ValueError("must not contain . or ..")
    return "/" + "/".join(part for part in parts if part)


DcachePath = Annotated[str, AfterValidator(_clean_path)]
"""An absolute path, without doubled or trailing slashes."""
WebUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$")]
"""An ``http`` or ``https`` URL without query."""
WatchName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,30}$")]


class Watch(Settings):
    """One directory that is watched."""

    path: DcachePath
    recursive: bool = False
    """Also all directories below, those to come included."""


class DcacheSettings(Settings):
    """A ``dcache`` source's block."""

    url: WebUrl
    """The frontend: ``https://dcache.example.org:3880``."""
    door: WebUrl | None = None
    """The WebDAV door that files are staged through, ``https://dcache.example.org:2880``. Default: ``/dav``
    below ``url``, for sites where a proxy leads to both."""
    watch: Annotated[Mapping[WatchName, Watch], Field(min_length=1)]
    """What is watched, each under a name that events carry as attribute ``watch``."""
    on: Annotated[tuple[Literal["created", "moved", "removed", "staged"], ...], Field(min_length=1)] = (
        "created",
    )
    """What makes events. Only ``created`` survives every loss: listings cannot tell what was moved or
    removed while nobody listened. ``staged`` is a file that was on tape only when it was last seen and is
    online now: what is staged while the daemon is away, or was flushed and staged between two looks, is
    missed. Up to 200,000 files on tape are remembered, anew at each connection, for which everything is
    listed then."""
    token: Secret | None = None
    """Bearer token or macaroon; a file is read anew for each connection."""
    username: str | None = None
    password: Secret | None = None
    client_cert: Path | None = None
    """X.509 certificate chain (PEM)."""
    client_key: Path | None = None
    """Its key, where that is not in the same file."""
    ca_file: Path | None = None
    """Certificates (PEM) that vouch for the frontend and the door; default: the system's."""
    reconcile: Duration = 900.0
    """List everything this often; 0: only after a loss (and every 15 minutes while directories are without a
    watch)."""
    max_watches: Annotated[int, Field(ge=1)] = 20_000
    """Directories watched at most. Those beyond it are listed every ``reconcile``, but nothing tells of them
    in between. dCache keeps the watches of all its users in one ZooKeeper node, which holds some 49,900."""

    @property
    def api(self) -> str:
        """The base of the REST interface."""
        base = self.url.rstrip("/")
        return base if base.endswith("/api/v1") else f"{base}/api/v1"

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.client_key is not None and self.client_cert is None:
            raise ValueError("client_key needs client_cert")
        logins = [self.token is not None, self.username is not None, self.client_cert is not None]
        if sum(logins) != 1:
            raise ValueError("log in with one of token, username with password, or client_cert")
        if self.client_cert is not None and not self.url.startswith("https:"):
            raise ValueError("client_cert needs an https url")
        return self

    @model_validator(mode="after")
    def _no_overlap(self) -> Self:
        for name, watch in self.watch.items():
            for other in _covering(watch.path, {n: w for n, w in self.watch.items() if n != name}):
                raise ValueError(f"watch {name} ({watch.path}) is already watched by {other}")
        return self


def _covering(path: str, watches: Mapping[str, Watch]) -> Iterable[str]:
    for name, watch in watches.items():
        below = f"{path}/".startswith(f"{watch.path.rstrip('/')}/")
        if watch.path == path or (watch.recursive and below):
            yield name
