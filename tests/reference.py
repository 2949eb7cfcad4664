"""Writes docs/configuration.md from the settings themselves: ``python -m tests.reference``.

A test holds the page against what this would write, so that no key is ever missing from it.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from dcnios_daemon.config import kinds
from dcnios_daemon.config.model import (
    BatchSettings,
    Buffer,
    Daemon,
    Fallback,
    Http,
    LimitSettings,
    Log,
    Match,
    Results,
    RetrySettings,
    Route,
)
from dcnios_daemon.core.settings import Secret, Settings
from dcnios_daemon.exposed.settings import Expose, NotebookResources, NotebookSleep, Replicas, Sleep
from dcnios_daemon.kafka.settings import KafkaSecurity
from dcnios_daemon.kubernetes.login import KubernetesSettings
from dcnios_daemon.kubernetes.pods import Resources, Volume
from dcnios_daemon.sinks.interlink.settings import HpcResources, SuccessMarker
from dcnios_daemon.sinks.interlink.slurm import Slurm
from dcnios_daemon.sinks.spec import StageOut
from dcnios_daemon.sources.dcache.settings import Watch
from dcnios_daemon.sources.kafka.schema_registry import RegistrySettings

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"

_HEAD = """# Configuration

*Written by `python -m tests.reference` from the settings themselves.*

One YAML file, and every key also as an environment variable, which wins: `DCNIOS_` in front, `__` between
levels, `-` in a name written `_` (`DCNIOS_SOURCES__UPLOADS__KIND=minio`). Environment alone is enough.
Every secret `x` can be given as `x_file`, a path; the file is read anew for each connection. Durations are
written `30s`, `5m`, `1h30m`, sizes `512MiB`, rates `20/s` or `90/m`. Unknown keys are errors; `dcnios
check` reports all mistakes at once, each with its place and what would be right. `dcnios schema` prints
JSON Schema for an editor. Paths are relative to where the daemon is started. Whole files to start from:
[`config/examples/`](../config/examples/).

Globs: `*` and `?` stop at `/`, `**` does not, `**/` may be nothing. Templates (`{{ event.subject }}`) see
`event.key`, `.source`, `.kind`, `.subject`, `.name` (the last part of the subject), `.stem`, `.action`,
`.time`, `.size`, `.attributes`, and `data`, `route`, `attempt`; they are filled into parsed texts only,
never into YAML or shell text. SIGHUP takes routes and limits anew.
"""


def _default(field: Any) -> str:
    if field.is_required():
        return "**required**"
    if field.default is PydanticUndefined:
        return ""
    if field.default is None:
        return "none"
    value = field.default
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, tuple | dict | frozenset):
        value = list(value)
    return f"`{json.dumps(value, default=str)}`".replace("|", "\\|")


def _shown(settings: type[Settings], name: str) -> str:
    field = settings.model_fields[name]
    default = field.default
    if default is not PydanticUndefined and not field.is_required() and isinstance(default, int | float):
        made = settings.model_construct().model_dump(mode="json", include={name})
        return f"`{made.get(name, default)}`"
    return _default(field)


def _table(settings: type[Settings]) -> list[str]:
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for name, field in settings.model_fields.items():
        if name == "kind":
            continue
        key = field.alias or name
        secret = field.annotation is Secret or Secret in getattr(field.annotation, "__args__", ())
        label = f"`{key}`, `{key}_file`" if secret else f"`{key}`"
        meaning = " ".join((field.description or "").replace("``", "`").split())
        lines.append(f"| {label} | {_shown(settings, name)} | {meaning} |")
    return lines


def _section(title: str, settings: type[Settings], note: str = "") -> list[str]:
    about = " ".join((note or settings.__doc__ or "").replace("``", "`").split("\n\n")[0].split())
    return [f"## {title}", "", about, "", *_table(settings), ""]


def render() -> str:
    """The page's text."""
    lines = [_HEAD]
    blocks: list[tuple[str, type[Settings]]] = [
        ("daemon", Daemon),
        ("daemon.http", Http),
        ("daemon.log", Log),
        ("buffer", Buffer),
        ("limits", LimitSettings),
        ("kubernetes", KubernetesSettings),
    ]
    for title, settings in blocks:
        lines += _section(f"`{title}`", settings)
    all_sources, all_runs = kinds.SOURCE.kinds(), kinds.RUN.kinds()
    nested: dict[str, list[tuple[str, type[Settings]]]] = {
        "dcache": [("watch.*", Watch)],
        "kafka": [("security", KafkaSecurity), ("registry", RegistrySettings)],
    }
    for kind in sorted(all_sources):
        lines += _section(f"`sources.*` of kind `{kind}`", all_sources[kind])
        for part, block in nested.get(kind, []):
            lines += _section(f"`sources.*.{part}` of kind `{kind}`", block)
    lines += _section("`routes.*`", Route)
    routes: list[tuple[str, type[Settings]]] = [
        ("match", Match),
        ("retry", RetrySettings),
        ("batch", BatchSettings),
        ("fallback", Fallback),
    ]
    for title, settings in routes:
        lines += _section(f"`routes.*.{title}`", settings)
    lines += [
        line
        for kind in sorted(all_runs)
        for line in _section(f"`routes.*.run` of kind `{kind}`", all_runs[kind])
    ]
    lines += _section("`results`", Results)
    runs: list[tuple[str, type[Settings]]] = [
        ("security` of kind `kafka", KafkaSecurity),
        ("slurm` of kind `interlink", Slurm),
        ("resources", Resources),
        ("resources` of kind `interlink", HpcResources),
        ("success_marker` of kind `interlink", SuccessMarker),
        ("stage_out.*", StageOut),
        ("volumes.*", Volume),
    ]
    for title, settings in runs:
        lines += _section(f"`routes.*.run.{title}`", settings)
    for kind, service in sorted(kinds.SERVICE.kinds().items()):
        lines += _section(f"`services.*` of kind `{kind}`", service)
    services: list[tuple[str, type[Settings]]] = [
        ("expose", Expose),
        ("replicas` of kind `container", Replicas),
        ("resources` of kind `notebook", NotebookResources),
        ("sleep` of kind `container", Sleep),
        ("sleep` of kind `notebook", NotebookSleep),
    ]
    for title, settings in services:
        lines += _section(f"`services.*.{title}`", settings)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
