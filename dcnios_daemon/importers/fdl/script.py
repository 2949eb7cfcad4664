"""A service's script, so that it finds here what faas-supervisor gave it there.

The daemon itself gives ``INPUT_FILE_PATH``, ``TMP_OUTPUT_DIR``, ``STORAGE_OBJECT_KEY``, ``EVENT_TIME`` and
``EVENT`` (``docs/container.md``). What else a script may ask for is added where it does.
"""

import re
from collections.abc import Mapping

from dcnios_daemon.importers.draft import quoted
from dcnios_daemon.importers.fdl.sources import Service

LONGEST = 120 * 1024
"""Bytes: Linux takes 128 KiB in one argument, which the script is."""
_PAYLOAD_AS_INPUT = 'INPUT_FILE_PATH="${INPUT_FILE_PATH:-$DCNIOS_EVENT_FILE}"; export INPUT_FILE_PATH'
_INPUT_FOLDER = 'TMP_INPUT_DIR="${INPUT_FILE_PATH%/*}"; export TMP_INPUT_DIR'
_NONE = "there is none, which OSCAR refuses: the image's own command runs"
_ELSEWHERE = {
    "OSCAR_SERVICE_TOKEN": "there is no service token here",
    "OSCAR_SERVICE_BASE_PATH": "it is for exposed services",
    "CONT_VAR_": "queries of an API gateway do not come here",
}


def script_of(service: Service, *, is_staged: bool) -> dict[str, str] | None:
    """``script``, or ``script_file`` where it could not be read; None, and a finding, if it cannot be run.

    Args:
        service: Whose it is.
        is_staged: Whether the event's object is fetched.
    """
    where, given = service.block.where("script"), service.block.raw("script")
    if given is None or not given.strip():
        service.notes.differently("script", _NONE)
        return {}
    text = _read(service, given)
    if text is None:
        service.notes.to_do(where, f"{quoted(given)} cannot be read: put it where script_file says")
        return {"script_file": given.strip()}
    if not _is_short(service, text, where):
        return None
    _say_what_is_missing(service, text)
    return {"script": _with_prelude(service, text, is_staged=is_staged)}


def plain_script_of(service: Service) -> str | None:
    """Its text as it is, empty if there is none; None, and a finding, if it cannot be had."""
    where, given = service.block.where("script"), service.block.raw("script")
    if given is None or not given.strip():
        service.notes.differently("script", _NONE)
        return ""
    text = _read(service, given)
    if text is None:
        service.notes.cannot(
            where, f"{quoted(given)} cannot be read: put it beside the file, then import again"
        )
    return text if text is not None and _is_short(service, text, where) else None


def _read(service: Service, given: str) -> str | None:
    """The script itself, or what is in the file that it names."""
    if service.is_inline or "\n" in given.strip() or given.startswith("#!"):
        return given.replace("\r\n", "\n")
    try:
        return service.read(given.strip()).replace("\r\n", "\n")
    except (OSError, ValueError):
        return None


def _is_short(service: Service, text: str, where: str) -> bool:
    if len(text.encode()) <= LONGEST:
        return True
    service.notes.cannot(where, f"has over {LONGEST:,} bytes: put it into the image, then import again")
    return False


def environment_of(script: str) -> Mapping[str, str]:
    """Variables that OSCAR gave and the script asks for, as templates."""
    given = {"JOB_UUID": "{{ route }}-{{ event.key }}-{{ attempt }}"}
    return {name: value for name, value in given.items() if _asks_for(script, name)}


def needs_node_name(script: str) -> bool:
    """Whether the script asks for the node, by OSCAR's name for it."""
    return _asks_for(script, "RESOURCE_ID")


def _asks_for(script: str, name: str) -> bool:
    return re.search(rf"(?<![A-Za-z0-9_]){name}", script) is not None


def _with_prelude(service: Service, text: str, *, is_staged: bool) -> str:
    lines = []
    if not is_staged and _asks_for(text, "INPUT_FILE_PATH"):
        lines.append(_PAYLOAD_AS_INPUT)
        what = "nothing is fetched: INPUT_FILE_PATH is the file with the event, by a line at the script's top"
        service.notes.differently("script", what)
    if _asks_for(text, "TMP_INPUT_DIR"):
        lines.append(_INPUT_FOLDER)
        service.notes.differently("script", "TMP_INPUT_DIR is set by a line at the script's top")
    if not lines:
        return text
    first, end, rest = text.partition("\n")
    return "\n".join([first, *lines, rest]) if first.startswith("#!") and end else "\n".join([*lines, text])


def _say_what_is_missing(service: Service, text: str) -> None:
    for name, why in _ELSEWHERE.items():
        if _asks_for(text, name):
            service.notes.cannot("script", f"asks for {name}: {why}")
