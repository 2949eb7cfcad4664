"""Looks whether a dCache source could work: with a channel of its own, which is deleted again, so that the
daemon's is left alone.
"""

from collections.abc import Awaitable, Mapping, Sequence

import msgspec

from dcnios_daemon.core.errors import StoreError
from dcnios_daemon.sources.dcache.client.channel import Channel
from dcnios_daemon.sources.dcache.client.frontend import (
    FORBIDDEN,
    TOO_MANY,
    UNAUTHORIZED,
    Forbidden,
    Frontend,
    Missing,
)
from dcnios_daemon.sources.dcache.client.inotify import FLAGS
from dcnios_daemon.sources.dcache.client.namespace import query, stat
from dcnios_daemon.sources.dcache.door import store
from dcnios_daemon.sources.dcache.settings import DcacheSettings, Watch

_SILENCE = 10.0
_LEAVE = 60.0
"""Seconds of leave that are asked of the door."""
_NOT_OF_THE_LOGIN = [status for status in range(200, 500) if status not in {UNAUTHORIZED, TOO_MANY}]


class _Events(msgspec.Struct):
    """What a frontend says of its channels, and nothing else does."""

    channels: dict[str, object]


async def check(
    *, name: str, settings: DcacheSettings, instance: str, targets: Mapping[str, str]
) -> Sequence[str]:
    """What is missing. See :class:`~dcnios_daemon.sources.registry.SourceKind`."""
    frontend = Frontend(settings, silence=_SILENCE)
    try:
        await frontend.open()
        findings = await _frontend(frontend, name, settings, client_id=f"dcnios-{instance}-{name}-check")
    finally:
        await frontend.aclose()
    if settings.door is not None and not findings:
        findings += await _door(name, settings, targets)
    return findings


async def _frontend(frontend: Frontend, name: str, settings: DcacheSettings, *, client_id: str) -> list[str]:
    if said := await _is_none(frontend):
        usual = "its port is 3880 at most sites, and 2880 that of the WebDAV door"
        return [
            f"there is no dCache frontend at {settings.url} ({said}): correct sources.{name}.url; {usual}"
        ]
    try:
        channel = await Channel.find_or_make(frontend, client_id, known=None)
    except Forbidden as error:
        return [f"no right to make a channel for events: {error}"]
    try:
        found = [await _watch(channel, frontend, name, key, watch) for key, watch in settings.watch.items()]
    finally:
        await channel.delete(channel.url)
    return [finding for finding in found if finding]


async def _is_none(frontend: Frontend) -> str:
    """What answers that is no dCache frontend; empty if one does."""
    answer = await frontend.call("GET", frontend.url("/events"), expect=_NOT_OF_THE_LOGIN)
    if answer.status == FORBIDDEN and answer.is_json:
        return ""
    try:
        msgspec.json.decode(answer.body, type=_Events)
    except msgspec.DecodeError:
        return f"GET {frontend.url('/events')}: {answer.said}"
    return ""


async def _watch(channel: Channel, frontend: Frontend, name: str, key: str, watch: Watch) -> str | None:
    """Whether it can be listed and subscribed to. Of a large directory only one entry is asked for."""
    path, place = watch.path, f"sources.{name}.watch.{key}.path"
    try:
        if not (await stat(frontend, path)).is_directory:
            return f"{path} is no directory: correct {place}"
        await frontend.call("GET", query(frontend, path, "children=true&limit=1&offset=0"))
        await channel.subscribe("inotify", {"path": path, "flags": FLAGS})
    except Missing:
        return f"there is no {path} in dCache: create it, or correct {place}"
    except Forbidden:
        return f"no right to list {path}: grant it to this login, or correct {place}"
    return None


async def _door(name: str, settings: DcacheSettings, targets: Mapping[str, str]) -> list[str]:
    """Whether the door gives leave, which staging rests on."""
    path = next(iter(settings.watch.values())).path
    door = store(settings)
    try:
        found = [await _leave(door.download(path, valid_for=_LEAVE), f"sources.{name}.door")]
        for where, to in targets.items():
            if "{" not in to and not any(found):
                found.append(await _leave(door.upload(to, valid_for=_LEAVE), where))
    finally:
        await door.aclose()
    return [finding for finding in found if finding]


async def _leave(asked: Awaitable[object], where: str) -> str | None:
    try:
        await asked
    except StoreError as error:
        return f"{where}: {error}"
    return None
