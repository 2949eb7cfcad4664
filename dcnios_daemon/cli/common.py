"""What the commands share: how errors are told, options, the configuration, and JSON."""
# ruff: noqa: PLC0415 - what a command does not need, it does not pay for

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from dcnios_daemon.core.errors import ConfigError, DcniosError

if TYPE_CHECKING:
    from dcnios_daemon.config.checks import Wrong
    from dcnios_daemon.config.model import DaemonSettings
    from dcnios_daemon.exposed.settings import Service

FILE = click.Path(path_type=Path)


class Commands(click.Group):
    """Errors that we can name end a command with their message, never with a traceback."""

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's signature
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # whoever reads our output has enough: click ends quietly
        except (DcniosError, OSError, ExceptionGroup) as error:
            failures = list(_leaves(error))
            if not all(isinstance(failure, DcniosError | OSError) for failure in failures):
                raise
            for failure in failures:
                click.echo(_words(failure), err=True)
            ctx.exit(2 if any(isinstance(failure, ConfigError) for failure in failures) else 1)


def _words(failure: BaseException) -> str:
    if isinstance(failure, ConfigError):
        return str(failure)
    if isinstance(failure, OSError) and failure.filename and failure.strerror:
        return f"dcnios: {failure.filename}: {failure.strerror}"
    return f"dcnios: {failure}"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


config_option = click.option(
    "--config",
    "file",
    type=FILE,
    help="The configuration. Default: $DCNIOS_CONFIG, else config/daemon.yaml, else variables alone.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def load(file: Path | None, *, files: bool) -> "DaemonSettings":
    """The configuration; with ``files``, all that a run needs is looked at too."""
    from dcnios_daemon.config.load import load as read

    return read(file, files=files, further=compile_runs if files else None)


def compile_runs(settings: "DaemonSettings", wrong: "Wrong") -> None:
    """Tell of each route whose ``run`` could not be made into orders, and likewise of the services."""
    from dcnios_daemon import app
    from dcnios_daemon.config.checks import check_runs, check_services
    from dcnios_daemon.exposed.objects import refuse

    sinks = app.build_sinks(settings.run_kinds(), settings, app.build_stores(settings))
    check_runs(settings, wrong, lambda name, route: app.build_route(name, route, sinks))
    image = settings.kubernetes.staging_image
    check_services(settings, wrong, lambda name, service: refuse(name, cast("Service", service), image=image))


def print_json(data: object) -> None:
    """Print it. Half characters, which file names may hold, stay escaped."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False).encode(errors="backslashreplace"))
