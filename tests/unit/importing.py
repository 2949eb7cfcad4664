"""Imports texts, and has the configuration's own loader judge what comes of it."""

from pathlib import Path
from typing import Any

from dcnios_daemon.cli.common import compile_runs
from dcnios_daemon.config.load import load
from dcnios_daemon.importers.draft import Given, Imported, Options
from dcnios_daemon.importers.fdl import import_fdl
from dcnios_daemon.importers.report import Verdict
from dcnios_daemon.importers.workflow import import_workflow
from dcnios_daemon.sinks.registry import KINDS

SCRIPT = '#!/bin/sh\ncp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR"\n'


def given(text: str, *, name: str = "mine.yaml", scripts: bool = True) -> Given:
    def read(_: str) -> str:
        if not scripts:
            raise FileNotFoundError
        return SCRIPT

    return Given(name=name, text=text, read=read)


def options(**changed: Any) -> Options:
    return Options(**({"run_kinds": frozenset(KINDS)} | changed))


def fdl(*texts: str, scripts: bool = True, **changed: Any) -> Imported:
    return import_fdl([given(text, scripts=scripts) for text in texts], options(**changed))


def workflow(*texts: str, **changed: Any) -> Imported:
    return import_workflow([given(text) for text in texts], options(**changed))


def checked(made: Imported, folder: Path) -> Any:
    """The settings that ``dcnios check`` makes of it; files are looked for elsewhere."""
    file = folder / "imported.yaml"
    file.write_text(made.yaml, "utf-8")
    return load(file, environ={}, files=False, further=compile_runs)


def told(made: Imported, verdict: Verdict, *, about: str = "") -> str:
    """The lines of the report with that verdict."""
    found = [one for one in made.report if one.verdict is verdict and about in one.about]
    return "\n".join(one.line() for one in found)
