"""``dcnios import``: what people have elsewhere, as our configuration, with a report of what became of it."""
# ruff: noqa: PLC0415 - what a command does not need, it does not pay for

import os
import secrets as randomness
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dcnios_daemon.cli.common import FILE, json_option, print_json
from dcnios_daemon.core.errors import ConfigError, DcniosError

if TYPE_CHECKING:
    from dcnios_daemon.importers.draft import Given, Imported

_LONGEST_SCRIPT = 1024 * 1024

_common = (
    click.argument("files", nargs=-1, required=True, metavar="FILE…"),
    click.option("--output", "-o", type=FILE, help="Write the configuration there. Default: print it."),
    click.option(
        "--secrets",
        type=FILE,
        default=Path("secrets"),
        show_default=True,
        help="The folder for files that hold secrets.",
    ),
    click.option("--staging-image", help="The image of this program, which moves files in and out of pods."),
    click.option("--force", is_flag=True, help="Replace files that are there already."),
    json_option,
)


def _shared(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_common):
        command = option(command)
    return command


@click.group(name="import")
def import_() -> None:
    """Bring what you have: OSCAR services, DCNiOS workflows.

    The configuration is printed, or written to --output; what is secret goes into files of its own, which
    only you can read. A report on standard error says of every field what became of it. - is standard input.
    """


@import_.command()
@_shared
@click.option("--minio", metavar="URL", help="The address of OSCAR's own MinIO, which its files do not hold.")
def fdl(files: Sequence[str], minio: str | None, **common: Any) -> None:  # noqa: ANN401 - see _common
    """OSCAR services: FDL files, or what OSCAR's API says of a service or of all (JSON or YAML)."""
    from dcnios_daemon.importers.fdl import import_fdl

    if minio is not None and not _is_address(minio):
        raise click.BadParameter("write http://host:port or https://host", param_hint="--minio")
    _deliver(import_fdl(_given(files), _options(common, minio=minio)), **common)


@import_.command()
@_shared
@click.option(
    "--bucket",
    "buckets",
    multiple=True,
    metavar="NAME=BUCKET",
    help="The bucket that tells the queue of the SQS source NAME.",
)
@click.option("--aws-account", metavar="NUMBER", help="The AWS account that has the queues: 12 digits.")
def dcnios(files: Sequence[str], buckets: Sequence[str], aws_account: str | None, **common: Any) -> None:  # noqa: ANN401
    """DCNiOS workflows: the files that `dcnios-cli.py apply -f` takes."""
    from dcnios_daemon.importers.workflow import import_workflow

    pairs = dict(pair.split("=", 1) for pair in buckets if "=" in pair)
    if len(pairs) < len(buckets):
        raise click.BadParameter("write NAME=BUCKET, each name once", param_hint="--bucket")
    options = _options(common, buckets=pairs, aws_account=aws_account)
    _deliver(import_workflow(_given(files), options), **common)


def _options(common: Mapping[str, Any], **more: Any) -> Any:  # noqa: ANN401 - see Options
    from dcnios_daemon.importers.draft import Options
    from dcnios_daemon.sinks.registry import KINDS

    return Options(
        run_kinds=frozenset(KINDS),
        secrets=str(common["secrets"]),
        staging_image=common["staging_image"],
        **more,
    )


def _is_address(text: str) -> bool:
    from pydantic import ValidationError

    from dcnios_daemon.staging.s3_identity import S3Settings

    try:
        S3Settings(endpoint=text)
    except (ValidationError, ValueError):
        return False
    return "@" not in text


def _given(files: Sequence[str]) -> "Sequence[Given]":
    from dcnios_daemon.importers.draft import Given

    return [Given(name=name, text=_text(name), read=_reader(name)) for name in files]


def _text(name: str) -> str:
    raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: is not UTF-8: byte {error.start}") from None


def _reader(name: str) -> Callable[[str], str]:
    """Scripts lie beside the file that names them."""
    folder = Path() if name == "-" else Path(name).parent

    def read(script: str) -> str:
        path = folder / script
        if path.stat().st_size > _LONGEST_SCRIPT or not path.is_file():
            raise OSError(f"{path} is no script")
        return path.read_text("utf-8")

    return read


def _deliver(
    made: "Imported", *, output: Path | None, secrets: Path, force: bool, as_json: bool, **_: object
) -> None:
    """Write what came of it, all or nothing where that can be known beforehand, and say it."""
    from dcnios_daemon.importers.report import as_text

    contents = {secrets / name: content for name, content in made.files.items()}
    if output is not None:
        contents[output] = made.yaml
    if not force:
        _refuse_to_replace(contents)
    if made.files:
        secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path, content in contents.items():
        _write(path, content, mode=0o644 if path == output else 0o600)
    if as_json:
        findings = [
            {"about": found.about, "field": found.field, "verdict": str(found.verdict), "what": found.what}
            for found in made.report
        ]
        known = {"configuration": made.configuration, "yaml": made.yaml, "report": findings}
        print_json(known | {"files": [str(path) for path in contents]})
        return
    if output is None:
        click.echo(made.yaml, nl=False)
    click.echo(as_text(made.report), err=True)


def _refuse_to_replace(contents: Mapping[Path, str]) -> None:
    there = [path for path, content in contents.items() if path.exists() and _holds(path) != content]
    if there:
        raise DcniosError(
            f"{', '.join(map(str, there))}: there already, with other content (--force replaces)"
        )


def _holds(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _write(path: Path, content: str, *, mode: int) -> None:
    """Whole or not at all, and never readable by others on the way."""
    part = path.with_name(f".{path.name}.{randomness.token_hex(4)}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
