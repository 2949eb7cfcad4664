"""What a service reads and where it writes: its inputs as our sources, its outputs as ``stage_out``."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from dcnios_daemon.importers.draft import Draft, as_literal, quoted
from dcnios_daemon.importers.fdl.stores import BUCKETED, Providers, Store
from dcnios_daemon.importers.fields import Block
from dcnios_daemon.importers.report import Notes

_TOLD = {"receive": ["listen"], "reconcile": "1m"}
"""The daemon calls MinIO: nothing is to be set up there, and OSCAR beside us keeps its webhooks. Listing is
what finds objects where MinIO sends listeners nothing (``docs/operating.md``)."""
_LISTED = {"receive": [], "reconcile": "1m"}
_SILENT = {"receive": ["webhook"], "reconcile": "0s"}


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A service on its way from there to here."""

    name: str
    """As OSCAR has it."""
    route: str
    """As we call it."""
    block: Block
    notes: Notes
    is_inline: bool
    """Whether ``script`` is the script, not the name of a file."""
    read: Callable[[str], str]
    """The text of a file that it names; see :class:`Given`."""
    providers: Sequence[Providers]
    """The service's own before the file's."""
    sources: list[str] = []
    inputs: list[str] = []
    """Where it reads: ``minio-default/bucket/folder/``."""


class Sources:
    """Makes the sources that services need, those that are the same only once."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._made: dict[tuple[str, ...], str] = {}
        self._by_store: dict[str, str] = {}
        """Store to the source that others, too, may write by."""
        self._store_of: dict[str, str] = {}

    def take_inputs(self, service: Service) -> bool:
        """Make a source of each input. Says whether there were any, of whatever kind."""
        blocks = service.block.blocks("input")
        for block in blocks:
            self._take_input(service, block)
            block.close()
        return bool(blocks)

    def _take_input(self, service: Service, block: Block) -> None:
        reference = block.text("storage_provider") or "minio.default"
        store = _find(service, reference, block.where("storage_provider"))
        path = _path(service, block, reference)
        for key in ("prefix", "suffix"):
            if block.texts(key):
                block.notes.differently(
                    block.where(key), "OSCAR ignores it on inputs; write it as the source's or into match"
                )
        if block.given("options"):
            block.text("options")
            block.notes.cannot(block.where("options"), "is for mounts only")
        if store is None or path is None:
            return
        settings = self._minio(service, reference, path) if store.kind == "minio" else self._dcache(path)
        name = self._source(service, store, path, settings)
        where = block.where("path")
        service.notes.carried(where, f"{quoted(path)} is source {name}")
        service.sources.append(name)
        service.inputs.append(f"{store.name}/{path}/")

    def _minio(self, service: Service, reference: str, path: str) -> dict[str, Any]:
        bucket, _, folder = path.partition("/")
        if reference.lower().startswith("s3"):
            what = (
                "OSCAR takes no S3 input; here the bucket is listed every minute: for less delay docs/s3.md"
            )
            service.notes.differently(f"input {path}", what)
        elif reference.strip().lower() not in {"minio", "minio.default"}:
            service.notes.differently(f"input {path}", "OSCAR takes only its own MinIO as input; here any")
        how = _LISTED if reference.lower().startswith("s3") else _TOLD
        more = _users_buckets(service)
        return {"buckets": [bucket, *more], "prefix": f"{folder}/" if folder else ""} | how

    def _dcache(self, path: str) -> dict[str, Any]:
        return {"watch": {"input": {"path": f"/{path}"}}, "on": ["created"], "reconcile": "15m"}

    def _source(self, service: Service, store: Store, path: str, settings: dict[str, Any]) -> str:
        identity = (store.name, path, *settings.get("buckets", ()))
        if identity not in self._made:
            name = self._draft.names.give(f"{service.name}-in")
            self._add(name, store, settings)
            self._made[identity] = name
            self._by_store.setdefault(store.name, name)
            self._store_of[name] = store.name
        return self._made[identity]

    def _add(self, name: str, store: Store, settings: dict[str, Any]) -> None:
        self._draft.sources[name] = {"kind": store.kind, **store.settings, **settings}
        self._draft.commented_out("sources", name, lines=store.lacking)

    def take_calls(self, service: Service) -> None:
        """Make the source of a service that is only ever called."""
        name = self._draft.names.give(f"{service.name}-calls")
        self._draft.sources[name] = {"kind": "cloudevents"}
        token = service.block.text("token")
        if token:
            self._draft.sources[name]["token_file"] = self._draft.secret(f"{name}-token", token)
        what = f"it has no input: who called POST /job/{service.name} posts a CloudEvent to /sources/{name}"
        service.notes.differently("input", f"{what}; the answer is 200 once it is on disk")
        service.sources.append(name)

    def outputs(self, service: Service) -> dict[str, Any]:
        """``stage_out`` for all outputs that can be."""
        made: dict[str, Any] = {}
        for block in service.block.blocks("output"):
            target = self._output(service, block)
            if target:
                made[f"out-{len(made) + 1}" if made else "out"] = target
            block.close()
        return made

    def _output(self, service: Service, block: Block) -> dict[str, Any]:
        reference = block.text("storage_provider") or "minio.default"
        store = _find(service, reference, block.where("storage_provider"))
        path = _path(service, block, reference)
        filters = {key: found for key in ("prefix", "suffix") if (found := block.texts(key))}
        if store is None or path is None:
            return {}
        if f"{store.name}/{path}/".startswith(tuple(service.inputs or ("\0",))):
            what = "lies in its own input: each result is an event again, with OSCAR as here: change one"
            service.notes.to_do(block.where("path"), what)
        bucket, _, folder = path.partition("/")
        if store.kind == "dcache":
            to = as_literal(f"dav:/{path}/")
        else:
            to = f"s3://{_bucket(service, bucket)}/{as_literal(f'{folder}/') if folder else ''}"
        own = [name for name in service.sources if self._store_of.get(name) == store.name]
        return {"to": to, "using": own[0] if own else self._writer(store, path), **filters}

    def _writer(self, store: Store, path: str) -> str:
        """The source by way of which results are written."""
        if store.name not in self._by_store:
            self._by_store[store.name] = store.name
            if store.kind == "dcache":
                settings = {"watch": {"output": {"path": f"/{path}"}}, "on": ["removed"], "reconcile": "0s"}
            else:
                settings = {"buckets": [path.partition("/")[0]], **_SILENT}
            self._add(store.name, store, settings)
            self._draft.comment(
                "sources", store.name, lines=["Results are written by it; no route reads it."]
            )
        return self._by_store[store.name]


def _find(service: Service, reference: str, where: str) -> Store | None:
    own, file = service.providers
    kind, _, name = reference.strip().lower().partition(".")
    declared = own if own.declares(kind, name or "default") else file
    return declared.find(reference, where, service.notes)


def _path(service: Service, block: Block, reference: str) -> str | None:
    """Normalised as OSCAR does (``create.go``, ``normalizeStoragePaths``)."""
    path = (block.text("path") or "").strip(" /")
    bucketed = reference.strip().lower().partition(".")[0] in BUCKETED
    parts = [part for part in path.split("/") if part]
    if not parts or {".", ".."} & set(parts):
        block.notes.cannot(block.where("path"), "is no path: left out")
        return None
    if bucketed and "/" not in path:
        block.notes.differently(block.where("path"), f"the bucket is {service.name}, as OSCAR takes it")
        return f"{service.name}/{path}"
    return path if bucketed else "/".join(parts)


def _users_buckets(service: Service) -> list[str]:
    """The buckets of the service's users, where each has one of his own."""
    isolated = (service.block.text("isolation_level") or "").upper() == "USER"
    buckets = service.block.texts("bucket_list")
    if isolated and not buckets:
        what = "the users' buckets are not in the file: write them to the source's buckets"
        service.notes.to_do(service.block.where("isolation_level"), what)
    return buckets if isolated else []


def _bucket(service: Service, bucket: str) -> str:
    """The output's bucket; a user's own if the event came from there."""
    users = _users_buckets(service)
    if not users:
        return as_literal(bucket)
    events = 'event.subject.partition("/")[0]'
    return f"{{{{ {events} if {events} in {users!r} else {bucket!r} }}}}"
