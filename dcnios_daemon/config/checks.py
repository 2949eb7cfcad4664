"""What no single key can know: whether the parts fit each other, and whether the files are there."""

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path as FilePath
from typing import Any

from dcnios_daemon.config.document import Path
from dcnios_daemon.config.kinds import Block
from dcnios_daemon.config.loops import check_loops
from dcnios_daemon.config.model import DaemonSettings, Results, Route, fallback_path, route_of, run_path
from dcnios_daemon.config.wording import suggest
from dcnios_daemon.core.errors import ConfigError
from dcnios_daemon.core.results import RESULTS
from dcnios_daemon.core.settings import Secret, Settings
from dcnios_daemon.core.units import duration_text
from dcnios_daemon.sinks import registry as kinds
from dcnios_daemon.sinks.interlink.settings import InterlinkRun, SuccessMarker
from dcnios_daemon.sinks.spec import ContainerRun, StageOut
from dcnios_daemon.sources import registry

Wrong = Callable[[Path, str], None]


def check(
    settings: DaemonSettings, *, sources: Mapping[str, Any], routes: Mapping[str, Any], wrong: Wrong
) -> None:
    """Check everything that needs nothing but the settings.

    Args:
        settings: As far as they are right.
        sources: All of them as they were given, those with mistakes too.
        routes: All of them likewise.
        wrong: Told of each mistake.
    """
    for name, route in routes.items():
        _check_origins(name, route, sources, wrong)
    _check_results(settings, sources, routes, wrong)
    for path in settings.runs:
        _check_stage_in(settings, path, wrong)
        _check_stage_out(settings, path, sources, wrong)
    _check_fallbacks(settings, wrong)
    _check_exposure(settings, wrong)
    check_loops(settings, wrong)
    _check_memory(settings, wrong)


def check_files(settings: DaemonSettings, wrong: Wrong) -> None:
    """Check that every file named by a ``…_file`` key can be read and, if it is a secret, holds one.

    Not those of services: the daemon does not read them, and who brings services into a cluster has others.
    """
    for name in type(settings).model_fields:
        if name != "services":
            _check_member(getattr(settings, name), (name,), wrong)


def _check_origins(name: str, route: object, sources: Mapping[str, Any], wrong: Wrong) -> None:
    origins = route.get("from") if isinstance(route, Mapping) else None
    for index, origin in enumerate(origins if isinstance(origins, list) else ()):
        if isinstance(origin, str) and origin not in sources:
            wrong(("routes", name, "from", index), f"{origin!r} is no source: {suggest(origin, sources)}")


def _check_results(
    settings: DaemonSettings, sources: Mapping[str, Any], routes: Mapping[str, Any], wrong: Wrong
) -> None:
    for block, names in (("sources", sources), ("routes", routes)):
        if RESULTS in names:
            wrong((block, RESULTS), "is a name for what `results` makes: give it another")
    for index, name in enumerate(settings.results.routes if settings.results else ()):
        if name not in routes:
            wrong((RESULTS, "routes", index), f"{name!r} is no route: {suggest(name, routes)}")


def _has_store(source: Block) -> bool:
    return registry.KINDS[source.kind].store is not None


def _check_stage_in(settings: DaemonSettings, place: tuple[str, ...], wrong: Wrong) -> None:
    run: object = settings.runs[place]
    if not isinstance(run, ContainerRun) or not run.stage_in:
        return
    path, name = (*place, "stage_in"), route_of(place)
    route = settings.sendings[name]
    if name == RESULTS:
        wrong(path, "fetches the object of an event, and a result has none: set it to false")
    if route.batch.size > 1:
        wrong(path, "fetches the object of one event: set batch.size to 1, or stage_in to false")
    for origin in route.sources:
        source = settings.sources.get(origin)
        if source is not None and not _has_store(source):
            wrong(path, f"source {origin!r} is of kind {source.kind}, which has no objects to fetch")


def _check_stage_out(
    settings: DaemonSettings, place: tuple[str, ...], sources: Mapping[str, Any], wrong: Wrong
) -> None:
    run = settings.runs[place]
    stores = [source for source, block in settings.sources.items() if _has_store(block)]
    for part, out in written_by(run).items():
        path: Path = (*place, *part, "using")
        source = settings.sources.get(out.using)
        if out.using not in sources:
            wrong(path, f"{out.using!r} is no source: {suggest(out.using, stores)}")
        elif source is not None and not _has_store(source):
            wrong(path, f"source {out.using!r} is of kind {source.kind}, which is no store to write to")


def _check_fallbacks(settings: DaemonSettings, wrong: Wrong) -> None:
    """An order must be the same object either way, or it could be made twice."""
    able = [kind for kind, entry in kinds.KINDS.items() if entry.is_by_name]
    for name, route in settings.routes.items():
        if route.fallback is None:
            continue
        own, other, one_of = route.run.kind, route.fallback.run.kind, " or ".join(able)
        if own == other or not {own, other} <= set(able):
            wrong(
                (*fallback_path(name), "kind"),
                f"leads from {own} to {other}: each must be {one_of}, and another",
            )


def written_by(run: object) -> Mapping[tuple[str, ...], StageOut | SuccessMarker]:
    """The places in stores that a ``run`` writes to, by where they stand in it."""
    found: dict[tuple[str, ...], StageOut | SuccessMarker] = {}
    if isinstance(run, ContainerRun):
        found |= {("stage_out", name): out for name, out in run.stage_out.items()}
    if isinstance(run, InterlinkRun) and run.success_marker is not None:
        found["success_marker",] = run.success_marker
    return found


def check_runs(
    settings: DaemonSettings, wrong: Wrong, compile_run: Callable[[str, Route | Results], object]
) -> None:
    """Check that every route's ``run`` can be made into orders.

    Args:
        settings: As far as they are right.
        wrong: Told of each mistake.
        compile_run: Does it for a route; raises ConfigError with ``path: what`` where it cannot.
    """
    for name, route in settings.sendings.items():
        try:
            compile_run(name, route)
        except ConfigError as error:
            where, _, what = str(error).partition(": ")
            known = where.startswith(f"routes.{name}.")
            parts = where.split(".")[2:] if known else ["run"]
            wrong((*run_path(name)[:-1], *parts), what if known else str(error))


def check_services(settings: DaemonSettings, wrong: Wrong, build: Callable[[str, Block], object]) -> None:
    """Check that every service can be made into objects.

    Args:
        settings: As far as they are right.
        wrong: Told of each mistake.
        build: Does it for a service; raises ConfigError with ``path: what`` where it cannot.
    """
    for name, service in settings.services.items():
        try:
            build(name, service)
        except ConfigError as error:
            where, _, what = str(error).partition(": ")
            wrong(tuple(where.split(".")), what)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen on."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_exposure(settings: DaemonSettings, wrong: Wrong) -> None:
    http = settings.daemon.http
    if is_loopback(http.host):
        return
    reach = f"{http.host} can be reached from other machines"
    if http.admin_token is None:
        wrong(("daemon", "http", "admin_token"), f"is missing: {reach}")
    for name, source in settings.sources.items():
        kind = registry.KINDS[source.kind]
        called = kind.receives and "webhook" in getattr(source, "receive", ("webhook",))
        if called and kind.token(source) is None:
            keys = [key for key in source.secret_fields() if key.endswith("token")]
            wrong(("sources", name, *keys[:1]), f"is missing: {reach}")


def _check_memory(settings: DaemonSettings, wrong: Wrong) -> None:
    """A key that is forgotten before its event comes again is an event that runs twice."""
    forgotten = settings.buffer.dedupe_for
    for name, source in settings.sources.items():
        needed = registry.KINDS[source.kind].again_for(source)
        if forgotten <= needed:
            wrong(
                ("buffer", "dedupe_for"),
                f"{duration_text(forgotten)} is too short: source {name!r} may meet an event again after "
                f"{duration_text(needed)}: write more than that, and the longest outage on top",
            )


def _check_files(value: object, path: Path, wrong: Wrong) -> None:
    if isinstance(value, Settings):
        for name, field in type(value).model_fields.items():
            _check_member(getattr(value, name), (*path, field.alias or name), wrong)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _check_files(inner, (*path, key), wrong)
    elif isinstance(value, tuple | list):
        for index, inner in enumerate(value):
            _check_files(inner, (*path, index), wrong)


def _check_member(value: Any, path: Path, wrong: Wrong) -> None:  # noqa: ANN401 - any setting
    key = str(path[-1])
    if isinstance(value, Secret):
        if value.path is not None:
            _check_secret(value, (*path[:-1], f"{key}_file"), wrong)
    elif isinstance(value, FilePath):
        if key.endswith(("_file", "_cert", "_key", "manifest")):
            _read(value.read_bytes, value, path, wrong)
    else:
        _check_files(value, path, wrong)


def _check_secret(secret: Secret, path: Path, wrong: Wrong) -> None:
    if secret.path is not None and _read(secret.reveal, secret.path, path, wrong) == "":
        wrong(path, f"{secret.path} is empty")


def _read(reader: Callable[[], str | bytes], file: FilePath, path: Path, wrong: Wrong) -> str | bytes | None:
    try:
        return reader()
    except OSError as error:
        wrong(path, f"{file} cannot be read: {error.strerror or error}")
    except UnicodeDecodeError:
        wrong(path, f"{file} is not UTF-8 text")
    return None
