"""deploy/container: no engine here can build it, but the test bed makes an image by the same steps."""

import json
import shlex
from typing import Any

from tests.servers import images, versions
from tests.servers.workspace import REPOSITORY

FILE = REPOSITORY / "deploy" / "container" / "Containerfile"


def _instructions() -> list[tuple[str, str]]:
    lines = [line for line in FILE.read_text().splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def _final() -> dict[str, str]:
    """The last stage's settings."""
    steps = _instructions()
    start = max(index for index, (name, _) in enumerate(steps) if name == "FROM")
    return dict(steps[start:])


def test_both_images_say_the_same() -> None:
    final = _final()
    environment = shlex.split(final["ENV"])
    config: dict[str, Any] = images.CONFIG
    assert json.loads(final["ENTRYPOINT"]) == config["Entrypoint"]
    assert final["USER"] == config["User"]
    assert final["WORKDIR"] == config["WorkingDir"]
    assert [item for item in environment if item.startswith("HOME=")] == config["Env"][1:]
    path = f"PATH=/opt/dcnios/bin:{config['Env'][0].removeprefix('PATH=')}"
    assert path in environment


def test_both_have_the_same_python_and_the_locked_dependencies() -> None:
    steps = _instructions()
    assert ("ARG", f"PYTHON=python:{versions.IMAGE_PYTHON}-slim-{versions.DEBIAN_SUITE}") in steps
    runs = [json.loads(rest) for name, rest in steps if name == "RUN"]  # never a shell's text
    assert [run[-3:] for run in runs if "-r" in run] == [["--require-hashes", "-r", "requirements.lock"]]
    assert all("--no-deps" in run for run in runs if "install" in run and "-r" not in run)
    assert (REPOSITORY / "requirements.lock").read_text() == images._requirements()


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignored = [line for line in (REPOSITORY / ".containerignore").read_text().splitlines() if line[:1] != "#"]
    let_through = [line[1:] for line in ignored if line.startswith("!")]
    assert ignored[0] == "*"
    copied = [
        source
        for name, rest in _instructions()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert sorted(copied) == sorted(let_through)
    assert all((REPOSITORY / source).exists() for source in copied)
