"""Routes that feed themselves: what one writes is read again by a source of its own, for ever.

Only what the settings say is believed: the same brokers under two names are not known to be the same, and a
route that looks at attributes or data is trusted to leave out what came from a route.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from yarl import URL

from dcnios_daemon.config.document import Path
from dcnios_daemon.config.model import DaemonSettings, Route, run_path
from dcnios_daemon.core.results import RESULTS
from dcnios_daemon.core.routing import glob
from dcnios_daemon.sinks import registry as sinks
from dcnios_daemon.sources import registry as sources

_KAFKA = "kafka://"
_HERE = frozenset({"localhost", "127.0.0.1", "::1"})


def check_loops(settings: DaemonSettings, wrong: Callable[[Path, str], None]) -> None:
    """Tell ``wrong`` of each loop, once."""
    onward = {name: list(_fed_by(settings, name)) for name in settings.sendings}
    told: set[str] = set()
    for name in settings.sendings:
        way = _way_back(name, onward)
        if way and told.isdisjoint(way):
            told.update(way)
            wrong(run_path(name), _words(settings, way))


def _words(settings: DaemonSettings, way: Sequence[str]) -> str:
    written = [target for name in way for target in _targets(settings, name)[:1]]
    return (
        f"makes a loop: {' and '.join(written)} is read again by {', '.join(way)}, so that each event would "
        "make another for ever: write elsewhere, or leave out what a daemon wrote "
        "(Kafka: match: {attributes: {header.dcnios-instance: ''}})"
    )


def _targets(settings: DaemonSettings, sending: str) -> Sequence[str]:
    run = settings.sendings[sending].run
    return sinks.KINDS[run.kind].writes_to(run)


def _fed_by(settings: DaemonSettings, sending: str) -> Iterator[str]:
    """The sendings that get what this one writes, or its results."""
    results = settings.results
    if results and sending != RESULTS and (not results.routes or sending in results.routes):
        yield RESULTS
    for target in _targets(settings, sending):
        for name, route in settings.routes.items():
            readers = (origin for origin in route.sources if origin in settings.sources)
            if _may_take(route, target) and any(_reads(settings, origin, target) for origin in readers):
                yield name


def _reads(settings: DaemonSettings, origin: str, target: str) -> bool:
    source, http = settings.sources[origin], settings.daemon.http
    kind = sources.KINDS[source.kind]
    if not kind.receives:
        return kind.reads(source, target)
    if target.startswith(_KAFKA):
        return False
    url = URL(target)
    same_host = url.host == http.host or url.host in _HERE
    return same_host and url.port == http.port and url.path.rstrip("/") == f"/sources/{origin}"


def _may_take(route: Route, target: str) -> bool:
    """Whether the route's filter lets through what was written there, as far as one can know. A record's
    subject is its topic."""
    match = route.match
    if match.attributes or match.where:
        return False
    if not target.startswith(_KAFKA):
        return match.subject is None and not match.action
    fits = match.subject is None or glob(match.subject)(target.rpartition("/")[2])
    return fits and (not match.action or "message" in match.action)


def _way_back(start: str, onward: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """A way from a sending to itself, by the sendings on it; empty if there is none."""
    ways, seen = [[start]], {start}
    while ways:
        way = ways.pop(0)
        for name in onward[way[-1]]:
            if name == start:
                return way
            if name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return ()
