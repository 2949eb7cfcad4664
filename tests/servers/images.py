"""The images that pods use: the daemon's own, and the one that holds a pod's namespaces."""

import compileall
import hashlib
import importlib.util
import py_compile
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

from tests.servers import debian, versions
from tests.servers.cache import Cache
from tests.servers.commands import need_root, run, tool
from tests.servers.oci import Image, Layer, LayerWriter
from tests.servers.workspace import REPOSITORY

PACKAGES = ("python3", "ca-certificates", "curl")
NOT_NEEDED = ("doc", "man", "info", "locale")
USER = 65532
HOME = "var/lib/dcnios"
SITE = f"usr/local/lib/python{versions.IMAGE_PYTHON}/dist-packages"
"""Debian's Python looks here without being told."""

CONFIG: Final[dict[str, Any]] = {
    "Entrypoint": ["dcnios"],
    "User": f"{USER}:{USER}",
    "WorkingDir": f"/{HOME}",
    "Env": ["PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", f"HOME=/{HOME}"],
}
"""The same as in deploy/container/Containerfile; a test compares them."""

LAUNCHER = """\
#!/usr/bin/python3
import sys

from {module} import {function}

sys.exit({function}())
"""


def daemon_image(cache: Cache, work: Path) -> Image:
    """The daemon's image, with the sources as they are now; `work` is a folder for their layer."""
    return Image(versions.DAEMON_IMAGE, [*foundation(cache), _source_layer(work)], CONFIG)


def foundation(cache: Cache) -> list[Layer]:
    """What is below the daemon's sources, and changes seldom."""
    return [_base_layer(cache), _dependency_layer(cache)]


def pause_image(program: Path, work: Path) -> Image:
    """The image of pod sandboxes."""
    layer = work / "pause.tar"
    with LayerWriter(layer) as writer:
        writer.file("pause", program.read_bytes(), mode=0o755)
    return Image(versions.PAUSE_IMAGE, [Layer.of(layer)], {"Entrypoint": ["/pause"], "User": "65535:65535"})


def _base_layer(cache: Cache) -> Layer:
    """Debian with Python, and with a line for our user: programs ask who they are."""
    excluded = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in NOT_NEEDED]
    user = f"dcnios:x:{USER}:{USER}::/{HOME}:/usr/sbin/nologin"
    hooks = [
        f"--customize-hook=echo {user} >> $1/etc/passwd; echo dcnios:x:{USER}: >> $1/etc/group",
        "--customize-hook=rm -rf $1/var/lib/apt/lists/* $1/var/cache/* $1/var/log/*",
    ]
    options = ["--variant=minbase", f"--include={','.join(PACKAGES)}", *excluded, *hooks]

    def build(target: Path) -> None:
        need_root("mmdebstrap makes device files and changes owners")
        program = debian.program(cache, "mmdebstrap", "mmdebstrap")
        path = f"{program.parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        layer = target / "layer.tar"
        command = [str(program), "--mode=root", *options, versions.DEBIAN_SUITE, str(layer)]
        run(command, env={"PATH": path, "TMPDIR": str(target)})  # so that nothing stays of an aborted one
        Layer.of(layer)

    return Layer.of(cache.entry("image-base", _key(versions.DEBIAN_SUITE, *options), build) / "layer.tar")


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return project


def _requirements() -> str:
    lock = REPOSITORY / "requirements.lock"
    return lock.read_text() if lock.exists() else "\n".join(_project()["dependencies"])


def _dependency_layer(cache: Cache) -> Layer:
    """What the daemon imports, for the image's Python whatever ours is."""
    requirements = _requirements()

    def build(target: Path) -> None:
        (target / "requirements.txt").write_text(requirements)
        site = target / "site"
        platform = ["--only-binary=:all:", "--python-version", versions.IMAGE_PYTHON]
        what = ["--target", str(site), "--requirement", str(target / "requirements.txt")]
        run([*pip(), "install", *platform, *what])
        _compile(site)
        with LayerWriter(target / "layer.tar") as writer:
            writer.tree(site, SITE)
        shutil.rmtree(site)
        Layer.of(target / "layer.tar")

    return Layer.of(cache.entry("image-deps", _key(versions.IMAGE_PYTHON, requirements), build) / "layer.tar")


def pip() -> list[str]:
    """What installs packages."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    return [tool("uv", "pip or uv"), "pip"]


def _compile(folder: Path) -> None:
    """Compiles for the image's user, who cannot write there; another Python's output would go unused."""
    if sys.version_info[:2] == tuple(int(part) for part in versions.IMAGE_PYTHON.split(".")):
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        compileall.compile_dir(folder, quiet=2, invalidation_mode=mode, stripdir=folder, workers=0)


def _source_layer(work: Path) -> Layer:
    """The package and its launcher, from this checkout."""
    package = work / "source" / "dcnios_daemon"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(REPOSITORY / "dcnios_daemon", package, ignore=shutil.ignore_patterns("__pycache__"))
    _compile(package)
    module, function = _project()["scripts"]["dcnios"].split(":")
    layer = work / "source.tar"
    layer.with_suffix(".digest").unlink(missing_ok=True)
    with LayerWriter(layer) as writer:
        writer.tree(package, f"{SITE}/dcnios_daemon")
        writer.file(
            "usr/local/bin/dcnios", LAUNCHER.format(module=module, function=function).encode(), mode=0o755
        )
        writer.folder(HOME, owner=USER)
    return Layer.of(layer)
