"""JupyterLab with jupyter-fs and s3fs, in an environment of its own, as `dcnios services run` starts it."""

import hashlib
import json
import os
import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.servers import probe
from tests.servers.cache import Cache
from tests.servers.commands import run
from tests.servers.images import pip
from tests.servers.process import Server
from tests.servers.workspace import REPOSITORY, Workspace

REQUIREMENTS = Path(__file__).with_name("notebook-requirements.txt")
_LAUNCHER = '#!/bin/sh\nexec "$(dirname "$0")/python" -m jupyterlab "$@"\n'
"""The one of the package names the folder in which it was built, which was renamed since."""


def environment(cache: Cache) -> Path:
    """A virtual environment with the pinned packages; the main one has none of them."""

    def build(target: Path) -> None:
        venv.create(target, symlinks=True, with_pip=False)
        python = target / "bin" / "python"
        is_uv = pip()[-2:-1] != ["-m"]
        chosen = ["install", "--python", str(python)] if is_uv else ["--python", str(python), "install"]
        run([*pip(), *chosen, "--no-deps", "--quiet", "-r", str(REQUIREMENTS)])
        launcher = target / "bin" / "jupyter-lab"
        launcher.write_text(_LAUNCHER)
        launcher.chmod(0o755)

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + _LAUNCHER.encode()).hexdigest()[:12]
    return cache.entry("notebook", f"{version}-{digest}", build)


class Notebook(Server):
    """The notebook `lab` of a configuration with these settings, started by our own command."""

    def __init__(self, space: Workspace, **settings: Any) -> None:
        super().__init__(space, "notebook")
        self.port = space.port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._settings = settings
        self._programs = Path()

    def prepare(self) -> None:
        """Builds the environment and writes the configuration."""
        self._programs = environment(self.space.cache) / "bin"
        lab = {
            "kind": "notebook",
            "port": self.port,
            "folder": str(self.space.new_directory("notebook-files")),
            "args": ["--allow-root"] if os.geteuid() == 0 else [],
            **self._settings,
        }
        (self.directory / "daemon.yaml").write_text(json.dumps({"services": {"lab": lab}}))

    def environment(self) -> Mapping[str, str]:
        """No home of anybody's, and first of all programs those of the environment."""
        return {
            "PATH": f"{self._programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "HOME": str(self.directory),
            "DCNIOS_CONFIG": str(self.directory / "daemon.yaml"),
        }

    def command(self) -> Sequence[str | Path]:
        """Ours."""
        return [sys.executable, "-m", "dcnios_daemon", "services", "run", "lab"]

    def ready(self) -> bool:
        """Whether it answers those who have no token, too."""
        return probe.answers(f"{self.url}/api")
