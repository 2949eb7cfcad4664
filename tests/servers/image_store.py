"""containerd's folder with the images already in it, made once and then linked into each node's place.

Importing the 300 MB below the daemon's sources takes ten seconds; linking what came of it takes half of one.
"""

import hashlib
import shutil
from pathlib import Path

from tests.servers import golang, images, versions
from tests.servers.cache import Cache
from tests.servers.commands import CommandError, run
from tests.servers.containerd import Containerd, import_image
from tests.servers.oci import Image
from tests.servers.workspace import Workspace

FOUNDATION = "localhost/dcnios-foundation:test"
"""What the daemon's image has below the sources; a name keeps containerd from removing it."""


def built(cache: Cache) -> Path:
    """The folder of a containerd that has the pause image and the foundation of the daemon's."""
    layers = images.foundation(cache)
    ctr = golang.containerd(cache) / "ctr"
    pause = golang.pause(cache)

    def build(target: Path) -> None:
        with Workspace(cache) as space, Containerd(space, root=target / "root") as containerd:
            import_image(ctr, containerd.socket, images.pause_image(pause, space.directory("images")))
            import_image(ctr, containerd.socket, Image(FOUNDATION, layers, {}))

    parts = [versions.CONTAINERD, str(pause), *(layer.digest for layer in layers)]
    key = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]
    return cache.entry("image-store", key, build) / "root"


def fill(cache: Cache, root: Path) -> None:
    """Gives a containerd that does not run yet its images. Layers never change, so links to them will do."""
    template = built(cache)
    try:
        run(["cp", "--archive", "--link", str(template), str(root)])
    except CommandError:  # on another file system
        shutil.rmtree(root, ignore_errors=True)
        run(["cp", "--archive", str(template), str(root)])
    for database in root.rglob("*.db"):
        if "snapshots" not in database.parts:
            own = database.with_suffix(".own")
            shutil.copy2(database, own)
            own.replace(database)


def import_daemon_image(cache: Cache, socket: Path, work: Path) -> None:
    """Imports the daemon's image, with the sources as they are now, on top of what `fill` gave."""
    image = images.daemon_image(cache, work)
    import_image(golang.containerd(cache) / "ctr", socket, image, without=len(images.foundation(cache)))
