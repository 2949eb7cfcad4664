"""DCNiOS workflows: sources and destinations in NiFi, and the connections between them.

A connection becomes a route, what it leads from one of our sources (``sources``), what it leads to the
route's ``run`` (``destinations``). NiFi itself, its login and its schedule are not needed any more.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dcnios_daemon.core.errors import ConfigError
from dcnios_daemon.importers.draft import Draft, Given, Imported, Options, quoted
from dcnios_daemon.importers.fields import Block, read_documents
from dcnios_daemon.importers.report import Notes
from dcnios_daemon.importers.workflow.alterations import take_alterations
from dcnios_daemon.importers.workflow.destinations import DESTINATIONS, Destination
from dcnios_daemon.importers.workflow.elements import Element
from dcnios_daemon.importers.workflow.sources import SOURCES

__all__ = ["import_workflow"]

_NIFI = ("endpoint", "user", "password")


def import_workflow(files: Sequence[Given], options: Options) -> Imported:
    """Our configuration for DCNiOS workflows.

    Args:
        files: Each as ``dcnios-cli.py apply -f`` takes it.
        options: What they do not say.

    Raises:
        ConfigError: One cannot be read, or there is no workflow at all.
    """
    draft, found = Draft(options), False
    for given in files:
        for document in read_documents(given.text, given.name):
            block = Block(document if isinstance(document, dict) else {}, "", draft.about(given.name))
            found = found or "nifi" in block.names()
            _workflow(draft, given.name, block.block("nifi"))
            block.close()
    if not found:
        names = ", ".join(given.name for given in files)
        raise ConfigError(
            f"{names}: holds no workflow of DCNiOS: no nifi with Source, Destination, connection"
        )
    names = ", ".join(given.name for given in files)
    count = len(draft.routes)
    plural = "s" * (count != 1)
    return draft.finish(
        head=[f"DCNiOS's {names} as a configuration: {count} route{plural}, by dcnios import dcnios."]
    )


def _workflow(draft: Draft, file: str, nifi: Block) -> None:
    for key in _NIFI:
        if nifi.given(key):
            nifi.notes.differently(nifi.where(key), "NiFi is not needed any more: left out")
        nifi.forget(key)
    groups = [nifi.block("Source"), nifi.block("Destination"), nifi]
    elements = {}
    for element in _elements(draft, file, groups):
        if element.name in elements:
            element.notes.cannot("name", "is there twice: the first counts")
        else:
            elements[element.name] = element
    taken: set[str] = set()
    for connection in nifi.blocks("connection"):
        taken |= _connect(draft, elements, connection)
        connection.close()
    for element in elements.values():
        if element.name not in taken:
            element.notes.cannot("", "no connection uses it: left out")
            element.block.forget_all()
        element.block.close()
    for group in groups:
        group.close()


def _elements(draft: Draft, file: str, groups: Sequence[Block]) -> list[Element]:
    """All that is declared, in the current form and in the older one without Source and Destination."""
    found = []
    for group in groups:
        for kind in group.names():
            if kind.lower() in SOURCES or kind.lower() in DESTINATIONS or kind.lower() == "generic":
                found += [_element(draft, file, kind, block) for block in group.blocks(kind)]
    return found


def _element(draft: Draft, file: str, kind: str, block: Block) -> Element:
    name = block.text("name") or ""
    notes = draft.about(f"{kind} {name if name.isprintable() and name else '(no name)'}, {file}")
    return Element(kind=kind.lower(), name=name, block=block.moved(notes), notes=notes)


def _connect(draft: Draft, elements: Mapping[str, Element], connection: Block) -> set[str]:
    """Make the route of a connection. Says which elements it uses."""
    ends = {key: connection.text(key) or "" for key in ("from", "to")}
    known = {key: elements[name] for key, name in ends.items() if name in elements}
    for key in ends.keys() - known.keys():
        connection.notes.cannot(connection.path, f"no route: {key} {quoted(ends[key])}, which is no element")
    if len(known) < len(ends):
        return set()
    start, end = known["from"], known["to"]
    source, destination = _source(draft, start), _destination(draft, end)
    if source is None or destination is None:
        why = [f"{one.name} cannot be" for one, made in ((start, source), (end, destination)) if made is None]
        connection.notes.cannot(
            connection.path, f"no route from {start.name} to {end.name}: {', '.join(why)}"
        )
        return {start.name, end.name}
    route: dict[str, Any] = {"from": [source]} | ({"rate": destination.rate} if destination.rate else {})
    batch = take_alterations(start, end, destination)
    name = draft.names.give(f"{start.name}-{end.name}")
    if batch is not None and destination.takes_batches:
        route["batch"] = batch
    elif batch is not None:
        line = f"batch: {{size: {batch['size']}, wait: {batch['wait']}}}"
        draft.commented_out("routes", name, lines=[line])
    draft.routes[name] = route | {"run": destination.run}
    connection.notes.carried(connection.path, f"route {name}")
    draft.explain("routes", name, _together(start.notes, end.notes))
    return {start.name, end.name}


def _together(*several: Notes) -> Notes:
    notes = Notes("")
    for one in several:
        notes.findings += one.findings
    return notes


def _source(draft: Draft, element: Element) -> str | None:
    """The name of the source that it is; None, and a finding, if it cannot be one."""
    if element.made is None:
        make = SOURCES.get(element.kind)
        if make is None:
            element.notes.cannot("", _why_no_end(element, "source"))
            element.block.forget_all()
        element.made = (make(draft, element) if make else None) or False
        element.components({})
    return element.made if isinstance(element.made, str) else None


def _destination(draft: Draft, element: Element) -> Destination | None:
    """What it runs; None, and a finding, if it cannot be."""
    if element.made is None:
        make = DESTINATIONS.get(element.kind)
        if make is None:
            element.notes.cannot("", _why_no_end(element, "destination"))
            element.block.forget_all()
        element.made = (make(draft, element) if make else None) or False
    return element.made if isinstance(element.made, Destination) else None


def _why_no_end(element: Element, end: str) -> str:
    if element.kind == "generic":
        return "is a process group of NiFi's own, which is not read: write the route for what it does"
    return f"is no {end}"
