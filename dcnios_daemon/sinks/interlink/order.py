"""What the wrapper in the container is told of its order: text that nothing on the way there can change.

One line per thing, its words between ``|``. A word has only characters that mean nothing to anybody, all
other bytes are octal escapes of ``printf``'s ``%b`` (POSIX), so that no text of an event is ever read as
shell, as YAML or as a line of its own.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence

from dcnios_daemon.core.ports import Download, Upload
from dcnios_daemon.sinks.interlink.marker import Marker
from dcnios_daemon.staging.document import Outlet, StagingPlan

_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./:=,@+")
_WORDS = [chr(byte) if byte in _SAFE else f"\\0{byte:03o}" for byte in range(256)]


def order_text(
    *,
    command: Sequence[str],
    env: Mapping[str, str],
    plan: StagingPlan,
    tells_event: bool,
    marker: Marker | None = None,
    by_tool: bool = False,
) -> str:
    """The value of ``DCNIOS_ORDER``.

    Args:
        command: What to run, word by word.
        env: Variables that it gets, beside those that name files: these are the wrapper's.
        plan: What to fetch first and to send afterwards.
        tells_event: Whether the payload is text that the variable ``EVENT`` can hold.
        marker: What to leave behind when all is done.
        by_tool: Whether ``dcnios stage`` does the staging, and not the wrapper itself.
    """
    staged = _for_tool(plan, marker) if by_tool else [*_staging(plan), *_marker(marker)]
    told = [*_lines(command, env, plan), *staged]
    lines = "".join(f"{'|'.join((verb, *map(word, words)))}\n" for verb, *words in told)
    return base64.b64encode((lines + "event\n" * tells_event).encode()).decode()


def _lines(command: Sequence[str], env: Mapping[str, str], plan: StagingPlan) -> Iterator[tuple[str, ...]]:
    yield from (("env", name, value) for name, value in env.items())
    yield from (("word", argument) for argument in command)
    if plan.download is not None:
        yield "input", plan.local_name


def _for_tool(plan: StagingPlan, marker: Marker | None) -> Iterator[tuple[str, ...]]:
    if plan != StagingPlan():
        yield "plan", "stage", plan.encode().decode()
    if marker is not None:
        left = StagingPlan(uploads=(Outlet(name="success_marker", upload=marker.upload),))
        yield "plan", "marker", left.encode().decode()
        yield "left", marker.name


def _staging(plan: StagingPlan) -> Iterator[tuple[str, ...]]:
    if plan.download is not None:
        yield from _request("get", plan.download)
    for outlet in plan.uploads:
        yield from _outlet(outlet)


def _request(verb: str, download: Download) -> Iterator[tuple[str, ...]]:
    yield verb, download.url
    yield from (("header", f"{name}: {value}") for name, value in download.headers.items())
    if download.authorities:
        yield "ca", download.authorities


def _outlet(outlet: Outlet) -> Iterator[tuple[str, ...]]:
    yield from _place(outlet.upload)
    yield from (("prefix", prefix) for prefix in outlet.prefix)
    yield from (("suffix", suffix) for suffix in outlet.suffix)


def _marker(marker: Marker | None) -> Iterator[tuple[str, ...]]:
    if marker is not None:
        yield from _place(marker.upload)
        yield "marker", marker.name


def _place(upload: Upload) -> Iterator[tuple[str, ...]]:
    yield upload.method.lower(), upload.url, upload.prefix
    yield from (("header", f"{name}: {value}") for name, value in upload.headers.items())
    yield from (("field", f"{name}={value}") for name, value in upload.fields.items())
    if upload.authorities:
        yield "ca", upload.authorities


def word(text: str) -> str:
    r"""Text as the wrapper's ``%b`` gives it back, byte for byte.

    >>> print(word("a b|c"))
    a\0040b\0174c
    """
    return "".join([_WORDS[byte] for byte in text.encode(errors="surrogateescape")])
