"""OSCAR's storage providers as the stores behind our sources.

A provider by itself is nothing with us: a source has its address and its keys, and results are written by way
of a source. One that no service reads from becomes a source that is told of nothing.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from dcnios_daemon.importers.addresses import address, bracketed
from dcnios_daemon.importers.draft import Draft, quoted
from dcnios_daemon.importers.fields import Block
from dcnios_daemon.importers.report import Notes

CLUSTER_MINIO = "http://minio.minio:9000"
"""Where OSCAR's own instructions put its MinIO (``docs/local-testing.md``)."""
BUCKETED = frozenset({"minio", "s3"})
_WHY_NOT = {
    "rucio": "there is no Rucio source or store here",
    "onedata": "there is no Onedata source or store here",
}
_HIDDEN = "hidden"
"""What OSCAR shows instead of the keys of its own MinIO."""


class Store(msgspec.Struct, frozen=True, kw_only=True):
    """A provider as a source of ours can reach it."""

    name: str
    kind: str
    """``minio`` or ``dcache``."""
    settings: Mapping[str, Any]
    """What a source's block says of it."""
    lacking: tuple[str, ...] = ()
    """Lines of that block that wait for somebody."""


class Providers:
    """The storage providers that one file, or one service, declares."""

    def __init__(self, draft: Draft, made: dict[Any, Store], block: Block) -> None:
        self._draft = draft
        self._made = made
        self._declared = {
            (kind.lower(), name.lower()): inner
            for kind in block.names()
            for name, inner in block.blocks_by_name(kind).items()
        }
        self._notes = block.notes
        self._used: set[tuple[str, str]] = set()
        block.close()

    def declares(self, kind: str, name: str) -> bool:
        """Whether this is where the provider stands."""
        return (kind, name) in self._declared

    def find(self, reference: str, where: str, notes: Notes) -> Store | None:
        """The store that ``minio.default`` means; None, and a finding, if there can be none."""
        kind, _, name = reference.strip().lower().partition(".")
        name = name or "default"
        self._used.add((kind, name))
        if kind in _WHY_NOT:
            notes.cannot(where, f"{reference}: {_WHY_NOT[kind]}")
            block = self._block(kind, name)
            block.forget_all()
            block.notes.cannot(block.path, f"{_WHY_NOT[kind]}: left out")
            return None
        if kind == "minio":
            return self._minio(name)
        if kind == "s3":
            return self._s3(name)
        if kind == "webdav":
            return self._webdav(name, where, notes)
        notes.cannot(where, f"{quoted(reference)} is no kind of storage provider")
        return None

    def close(self) -> None:
        """Report what nothing refers to."""
        for (kind, name), block in self._declared.items():
            if (kind, name) not in self._used:
                block.notes.differently(block.path, "no service here uses it: left out")
            block.close()

    def _block(self, kind: str, name: str) -> Block:
        found = self._declared.get((kind, name))
        return found or Block({}, f"storage_providers.{kind}.{name}", self._notes)

    def _minio(self, name: str) -> Store:
        block = self._block("minio", name)
        endpoint = address(block, "endpoint", default="http")
        if endpoint is None:
            endpoint = self._assumed(block, name)
        settings = {"endpoint": endpoint} | _region(block)
        if not block.flag("verify", default=True) and endpoint.startswith("https:"):
            block.notes.cannot(
                block.where("verify"), "certificates are always verified: name the store's CA as ca_file"
            )
        return self._keyed("minio", name, settings, block)

    def _assumed(self, block: Block, name: str) -> str:
        if name != "default":
            block.notes.to_do(block.path, "write the store's address as endpoint: the file does not say it")
            return f"http://{self._draft.names.give(f'minio-{name}')}.invalid:9000"
        if self._draft.options.minio is None:
            what = f"{CLUSTER_MINIO} is assumed for OSCAR's own MinIO: look whether that is so (--minio)"
            block.notes.to_do(block.path, what)
        return self._draft.options.minio or CLUSTER_MINIO

    def _s3(self, name: str) -> Store:
        block = self._block("s3", name)
        return self._keyed("s3", name, _region(block), block)

    def _keyed(self, kind: str, name: str, settings: dict[str, Any], block: Block) -> Store:
        access, secret = block.raw("access_key"), block.raw("secret_key")
        known = bool(access and secret) and _HIDDEN not in {access, secret}
        identity = (kind, name, tuple(settings.items()), (access, secret) if known else None)
        if identity not in self._made:
            label = self._draft.names.give(f"{kind}-{name}")
            keys = {f"{key}_file": f"{label}-{key.replace('_', '-')}" for key in ("access_key", "secret_key")}
            if known:
                for file, content in zip(keys.values(), (access, secret), strict=True):
                    self._draft.secret(file, content or "")
                settings |= {key: self._draft.place(file) for key, file in keys.items()}
            lacking = (
                () if known else tuple(f"{key}: {self._draft.place(file)}" for key, file in keys.items())
            )
            if not known:
                files = " and ".join(map(self._draft.place, keys.values()))
                what = f"its keys are not in the file: write them into {files} and take the # away where "
                what += "these are named; until then it is the AWS chain that signs (AWS_ACCESS_KEY_ID …)"
                block.notes.to_do(block.path, what)
            self._made[identity] = Store(name=label, kind="minio", settings=settings, lacking=lacking)
        return self._made[identity]

    def _webdav(self, name: str, where: str, notes: Notes) -> Store | None:
        block = self._block("webdav", name)
        door = address(block, "hostname", default="https")
        login, password = block.text("login"), block.raw("password")
        if door is None:
            notes.cannot(where, f"the host of webdav.{name} is not in the file")
            return None
        identity = ("webdav", name, door, login, password)
        if identity not in self._made:
            label = self._draft.names.give(f"webdav-{name}")
            frontend = f"https://{bracketed(urlsplit(door).hostname or '')}:3880"
            what = f"read as dCache: events come from its frontend, assumed at {frontend}, files over {door}"
            block.notes.differently(block.path, what)
            file = f"{label}-password"
            settings = {
                "url": frontend,
                "door": door,
                "username": login or "anonymous",
                "password_file": self._draft.secret(file, password) if password else self._draft.place(file),
            }
            if not login or not password:
                block.notes.to_do(block.path, f"its login is not in the file: write it, see {file}")
            self._made[identity] = Store(name=label, kind="dcache", settings=settings)
        return self._made[identity]


def _region(block: Block) -> dict[str, str]:
    region = block.text("region")
    return {"region": region} if region else {}
