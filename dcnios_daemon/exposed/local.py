"""A notebook server on this machine: told the same as in a pod, in place of this very process."""

import os
import secrets
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from dcnios_daemon.core.errors import DcniosError
from dcnios_daemon.core.settings import Secret
from dcnios_daemon.exposed import jupyter
from dcnios_daemon.exposed.objects import revealed
from dcnios_daemon.exposed.settings import Notebook

_LOOPBACK = "127.0.0.1"
_TOKEN_BYTES = 24


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """A program to become. Its environment holds secrets: it is for ``exec`` only."""

    program: str
    words: tuple[str, ...]
    """The command line; no secret is in it."""
    environment: Mapping[str, str]
    folder: Path
    opens: str
    """Where the login is, for people; the token is a part of it if it was made just now."""

    def __repr__(self) -> str:
        """Without the environment."""
        return f"<Launch {self.words} in {self.folder}>"

    def become(self) -> None:
        """Be that program: signals and exit code are its own. Does not return.

        Raises:
            OSError: It cannot be started.
        """
        os.chdir(self.folder)
        os.execve(self.program, self.words, dict(self.environment))  # noqa: S606 - no shell is wanted


def prepare(name: str, service: Notebook, *, state: Path, environ: Mapping[str, str]) -> Launch:
    """Write the configuration file and say what to start.

    Args:
        name: The service's name.
        service: Its settings.
        state: The daemon's folder for what outlives it.
        environ: This process's variables; what ``PATH`` leads to is used, and before that what is beside
            the running Python.

    Raises:
        DcniosError: JupyterLab is not installed; says how to. Or a secret is empty.
        OSError: A secret's file or the folder cannot be read or written.
    """
    where = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])
    program = shutil.which("jupyter-lab", path=where)
    if program is None:
        raise DcniosError(f"JupyterLab is not installed: {jupyter.INSTALL}")
    folder = (state / "services" / name).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / jupyter.CONFIG_NAME
    config.write_text(jupyter.config(service, ip=_LOOPBACK, base="/"), encoding="utf-8")
    made_up = Secret(secrets.token_urlsafe(_TOKEN_BYTES))
    token = revealed(service.token or made_up, f"services.{name}.token")
    given = {**environ, **jupyter.variables(service), **service.env, jupyter.TOKEN: token}
    if service.access_key and service.secret_key:
        given |= {
            jupyter.ACCESS_KEY: revealed(service.access_key, f"services.{name}.access_key"),
            jupyter.SECRET_KEY: revealed(service.secret_key, f"services.{name}.secret_key"),
        }
    page = f"http://{_LOOPBACK}:{service.port}/lab"
    return Launch(
        program=program,
        words=tuple(jupyter.command(program, str(config), service.args)),
        environment=given,
        folder=service.folder,
        opens=page if service.token else f"{page}?token={token}",
    )
