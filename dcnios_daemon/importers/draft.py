"""A configuration in the making: sources, routes, comments, and the files that hold its secrets."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import yaml

from dcnios_daemon.core.results import RESULTS
from dcnios_daemon.importers.names import Names
from dcnios_daemon.importers.report import Finding, Notes, Verdict
from dcnios_daemon.importers.writing import to_yaml

EXAMPLE_STAGING_IMAGE = "ghcr.io/example/dcnios-daemon:0.1"
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
_LOGIN_IN_URL = re.compile(r"://[^/@\s:]+:[^/@\s]+@")
_CREDENTIAL = re.compile(
    r"SECRET|TOKEN(?!S|IZER)|PASSW|PASSPHRASE|CREDENTIAL|(API|ACCESS|PRIVATE|AUTH|SSH|ENCRYPTION)_?KEY|(^|_)KEY$",
    re.IGNORECASE,
)


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A file to import."""

    name: str
    text: str
    read: Callable[[str], str]
    """The text of a file that it names, relative to where it lies.

    Raises:
        OSError: It cannot be read.
    """


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the files do not say."""

    run_kinds: frozenset[str]
    """The kinds of ``run`` that this program has."""
    secrets: str = "secrets"
    """The folder with the files that hold secrets, as the configuration is to name it."""
    staging_image: str | None = None
    minio: str | None = None
    """The address of the MinIO that OSCAR calls ``minio.default``."""
    buckets: Mapping[str, str] = {}
    """By the name of an SQS source: the bucket that tells its queue."""
    aws_account: str | None = None
    """The number of the AWS account that has the queues."""


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    configuration: Mapping[str, Any]
    yaml: str
    """The same with comments."""
    files: Mapping[str, str]
    """Name to content, for the folder of the secrets."""
    report: Sequence[Finding]


class Draft:
    """Collects. What has the same content is there once."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.names = Names(taken=(RESULTS,))
        self.sources: dict[str, dict[str, Any]] = {}
        self.routes: dict[str, dict[str, Any]] = {}
        self.services: dict[str, dict[str, Any]] = {}
        self.files: dict[str, str] = {}
        self.notes: list[Notes] = []
        self._before: dict[tuple[str, ...], list[str]] = {}
        self._after: dict[tuple[str, ...], list[str]] = {}

    def about(self, what: str) -> Notes:
        """Where to write the findings about something."""
        notes = Notes(what)
        self.notes.append(notes)
        return notes

    def place(self, file: str) -> str:
        """How the configuration names a file with a secret."""
        return f"{self.options.secrets.rstrip('/')}/{file}"

    def secret(self, file: str, content: str) -> str:
        """Put it into a file; returns how the configuration names that."""
        if not _FILE_NAME.fullmatch(file):
            raise ValueError(f"{file!r} is no name for a file")
        self.files[file] = content
        return self.place(file)

    def kubernetes_secret(self, name: str, values: Mapping[str, str]) -> str:
        """Put it into the manifest of a Kubernetes Secret; returns how the configuration names the file."""
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "dcnios-daemon"}},
            "type": "Opaque",
            "stringData": dict(values),
        }
        return self.secret(f"{name}.secret.yaml", yaml.safe_dump(manifest, sort_keys=False))

    def comment(self, *path: str, lines: Sequence[str]) -> None:
        """Say something above a key."""
        self._before.setdefault(path, []).extend(_harmless(line) for line in lines)

    def commented_out(self, *path: str, lines: Sequence[str]) -> None:
        """Add lines to a block that somebody may take the # away from."""
        self._after.setdefault(path, []).extend(_harmless(line) for line in lines)

    def explain(self, block: str, name: str, notes: Notes) -> None:
        """Say above a route or service what it lacks."""
        missing = notes.of(Verdict.CANNOT, Verdict.TO_DO)
        self.comment(block, name, lines=[f"{found.verdict}: {found.line()}" for found in missing])

    def finish(self, *, head: Sequence[str]) -> Imported:
        """All of it."""
        configuration: dict[str, Any] = {}
        if any(_is_staged(route["run"]) for route in self.routes.values()):
            configuration["kubernetes"] = {"staging_image": self._staging_image()}
        configuration |= {"sources": self._used_sources(), "routes": self.routes}
        if self.services:
            configuration["services"] = self.services
        self.comment(lines=head)
        return Imported(
            configuration=configuration,
            yaml=to_yaml(configuration, self._before, self._after),
            files=dict(self.files),
            report=[finding for notes in self.notes for finding in notes.findings],
        )

    def _used_sources(self) -> dict[str, Any]:
        """Those that a route reads or writes by; of a service that cannot be run none is left."""
        used = {name for route in self.routes.values() for name in route["from"]}
        for route in self.routes.values():
            used |= {target["using"] for target in route["run"].get("stage_out", {}).values()}
        return {name: block for name, block in self.sources.items() if name in used}

    def _staging_image(self) -> str:
        if self.options.staging_image is None:
            what = f"write the image of this program instead of {EXAMPLE_STAGING_IMAGE} (--staging-image)"
            self.about("the configuration").to_do("kubernetes.staging_image", what)
        return self.options.staging_image or EXAMPLE_STAGING_IMAGE


def _is_staged(run: Mapping[str, Any]) -> bool:
    return run["kind"] != "process" and bool(run.get("stage_in") or run.get("stage_out"))


def _harmless(line: str) -> str:
    """On one line, and without what ends a comment."""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in line).split())


def as_literal(text: str) -> str:
    """A text for a place where ``{{ … }}`` would be a template, so that it stays what it is."""
    return f"{{{{ {text!r} }}}}" if "{{" in text or "{%" in text else text


def is_credential(name: str, value: str) -> bool:
    """Whether a variable looks as if its value were a secret."""
    return bool(_CREDENTIAL.search(name) or _LOGIN_IN_URL.search(value)) and bool(value)


def quoted(text: str) -> str:
    """A text from outside, as it can stand in a message."""
    return json.dumps(text, ensure_ascii=False) if len(text) <= 200 else json.dumps(text[:200]) + "…"  # noqa: PLR2004
