"""OSCAR services, from files of its Functions Definition Language or from its API.

``stores`` are its storage providers, ``sources`` inputs and outputs, ``run`` and ``script`` what a service
runs, ``exposed`` those that are servers; ``left_out`` tells what is none of these.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from dcnios_daemon.core.errors import ConfigError
from dcnios_daemon.importers.draft import Draft, Given, Imported, Options
from dcnios_daemon.importers.fdl.exposed import is_exposed, take_server
from dcnios_daemon.importers.fdl.left_out import in_flight, tell
from dcnios_daemon.importers.fdl.run import run_of
from dcnios_daemon.importers.fdl.sources import Service, Sources
from dcnios_daemon.importers.fdl.stores import Providers, Store
from dcnios_daemon.importers.fields import Block, read_documents
from dcnios_daemon.importers.report import Notes

__all__ = ["import_fdl"]

_OF_A_SERVICE = frozenset({"name", "image", "script"})
_REPLICAS = "nothing is handed on to other clusters: left out, its login too"


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """A service's fields in a file."""

    values: Mapping[str, Any]
    is_inline: bool
    cluster: str = ""


def import_fdl(files: Sequence[Given], options: Options) -> Imported:
    """Our configuration for OSCAR's services.

    Args:
        files: Each in the form of a file (``functions.oscar``) or of the API (a service, or a list of them).
        options: What they do not say.

    Raises:
        ConfigError: One cannot be read, or there is no service at all.
    """
    draft, stores = Draft(options), dict[Any, Store]()
    sources = Sources(draft)
    services: list[Service] = []
    opened: list[Providers] = []
    for given in files:
        notes = draft.about(given.name)
        for document in read_documents(given.text, given.name):
            providers, found = _open(draft, stores, document, notes)
            opened.append(providers)
            for one in found:
                service = _service(draft, stores, given, one, providers)
                opened.append(service.providers[0])
                services.append(service)
    if not services:
        names = ", ".join(given.name for given in files)
        raise ConfigError(f"{names}: holds no service: neither functions.oscar nor name, image and script")
    runnable = [service for service in services if _take_inputs(service, draft, sources)]
    for service in runnable:
        _take_route(service, draft, sources)
    for service in services:
        tell(service)
        service.block.close()
        for kind, made in (("routes", draft.routes), ("services", draft.services)):
            if service.route in made:
                draft.explain(kind, service.route, service.notes)
    for providers in opened:
        providers.close()
    return draft.finish(head=_head(files, draft))


def _head(files: Sequence[Given], draft: Draft) -> Sequence[str]:
    names = ", ".join(given.name for given in files)
    made = [f"{len(draft.routes)} route{'s' * (len(draft.routes) != 1)}"]
    if draft.services:
        made.append(f"{len(draft.services)} service{'s' * (len(draft.services) != 1)}")
    return [f"OSCAR's {names} as a configuration: {' and '.join(made)}, by dcnios import fdl."]


def _open(
    draft: Draft, stores: dict[Any, Store], document: object, notes: Notes
) -> tuple[Providers, list[_Found]]:
    """The file's own providers, and its services."""
    if isinstance(document, list):
        found = [_Found(values=item, is_inline=True) for item in document if isinstance(item, dict)]
        if len(found) < len(document):
            notes.cannot("", f"{len(document) - len(found)} items are no services: left out")
        return Providers(draft, stores, Block({}, "storage_providers", notes)), found
    if not isinstance(document, dict):
        notes.cannot("", "is neither a service nor functions.oscar: left out")
        return Providers(draft, stores, Block({}, "storage_providers", notes)), []
    if _OF_A_SERVICE & {key.lower() for key in document} and "functions" not in document:
        return Providers(draft, stores, Block({}, "storage_providers", notes)), [
            _Found(values=document, is_inline=True)
        ]
    block = Block(document, "", notes)
    found = list(_in_functions(block.block("functions")))
    providers = Providers(draft, stores, block.block("storage_providers"))
    if block.given("clusters"):
        notes.cannot(block.where("clusters"), _REPLICAS)
    block.close()
    return providers, found


def _in_functions(functions: Block) -> Iterator[_Found]:
    for entry in functions.blocks("oscar"):
        names = entry.names()
        if {name.lower() for name in names} >= _OF_A_SERVICE:
            functions.notes.differently(entry.path, "is a service without the id of its cluster around it")
            yield _Found(values={name: entry.whole(name) for name in names}, is_inline=False)
            continue
        for cluster in names:
            values = entry.peek(cluster)
            entry.block(cluster)
            if values:
                yield _Found(values=values, is_inline=False, cluster=cluster)
        entry.close()
    functions.close()


def _service(draft: Draft, stores: dict[Any, Store], given: Given, found: _Found, file: Providers) -> Service:
    values = {key.lower(): value for key, value in found.values.items()}
    name = values.get("name")
    name = name.strip() if isinstance(name, str) and name.strip().isprintable() else ""
    place = f" on {found.cluster}" if found.cluster.isprintable() and found.cluster else ""
    notes = draft.about(f"service {name or '(no name)'}{place}, {given.name}")
    block = Block(found.values, "", notes)
    route = draft.names.give(name or "service")
    block.text("name")
    if name == route:
        notes.carried("name", f"called {route}")
    else:
        notes.differently("name", f"called {route}: names here are short and stand once")
    own = Providers(draft, stores, block.block("storage_providers"))
    if block.given("clusters"):
        notes.cannot(block.where("clusters"), _REPLICAS)
    block.forget("clusters")
    return Service(
        name=name or route,
        route=route,
        block=block,
        notes=notes,
        is_inline=found.is_inline,
        read=given.read,
        providers=(own, file),
    )


def _take_inputs(service: Service, draft: Draft, sources: Sources) -> bool:
    """Make its sources, or the server that it is. Says whether it is something that a route can run."""
    block = service.block
    had_any = sources.take_inputs(service)
    if service.sources:
        return True
    if is_exposed(service):
        if not take_server(service, draft):
            _no_route(service, "it is a server, and its script starts it")
    elif had_any:
        _no_route(service, "none of its inputs can be a source")
    elif block.given("kserve") and not block.given("script"):
        _no_route(service, "it is a model server, without a script of its own")
    elif block.given("image"):
        sources.take_calls(service)
        return True
    else:
        _no_route(service, "there is no image to run")
    return False


def _take_route(service: Service, draft: Draft, sources: Sources) -> None:
    most = in_flight(service)
    run = run_of(service, draft, sources)
    if run is None:
        _no_route(service, "see image and script")
        return
    route: dict[str, Any] = {"from": service.sources}
    if service.inputs:
        route["match"] = {"action": ["created"]}
    if most is not None:
        route["in_flight"] = most
    draft.routes[service.route] = route | {"run": run}


def _no_route(service: Service, why: str) -> None:
    """Say so, once for all that would have been part of it."""
    gone = [key for key in service.block.names() if key.lower() in _ROUTED and service.block.given(key)]
    service.notes.cannot("", f"no route: {why} ({', '.join(gone)})")
    for key in gone:
        service.block.forget(key)


_ROUTED = frozenset(
    [
        "image",
        "script",
        "memory",
        "cpu",
        "total_memory",
        "total_cpu",
        "ephemeral_storage_request",
        "enable_gpu",
        "enable_sgx",
        "file_stage_in",
        "input",
        "output",
        "environment",
        "annotations",
        "labels",
        "image_pull_secrets",
        "volume",
        "interlink_node_name",
    ]
)
