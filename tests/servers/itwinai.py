"""itwinai's real command line, without torch: it runs pipelines whose steps need none."""

import sys
from pathlib import Path

from tests.servers import versions
from tests.servers.cache import Cache
from tests.servers.commands import CommandError, MissingPartError, run

_PROGRAM = """\
#!{python} -IS
import sys
sys.path.insert(0, {site!r})
from itwinai.cli import app
sys.exit(app())
"""


def itwinai(cache: Cache, folder: Path) -> Path:
    """The program, put into the folder.

    Raises:
        MissingPartError: no package index can be reached.
    """
    site = cache.entry("itwinai", versions.ITWINAI, _install)
    program = folder / "itwinai"
    program.write_text(_PROGRAM.format(python=sys.executable, site=str(site)))
    program.chmod(0o755)
    return program


def _install(target: Path) -> None:
    packages = [f"itwinai=={versions.ITWINAI}", *versions.ITWINAI_NEEDS]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    try:
        run([*install, *packages])
    except CommandError as error:
        raise MissingPartError(f"itwinai, from a package index: {error}") from error
