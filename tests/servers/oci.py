"""Container images without a container engine: layers as tar files, streamed as an OCI archive."""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

CHUNK = 1 << 20
LAYER = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True)
class Layer:
    """An uncompressed layer: on the same machine, compressing costs more than it saves."""

    path: Path
    digest: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Reads the digest beside the layer, or computes and writes it there."""
        beside = path.with_suffix(".digest")
        if not beside.exists():
            with path.open("rb") as file:
                beside.write_text(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")
        return cls(path, beside.read_text())


@dataclass(frozen=True)
class Image:
    """A name, layers from the bottom up, and the image's `config` (Entrypoint, User …)."""

    name: str
    layers: Sequence[Layer]
    config: dict[str, Any]

    def archive(self, *, without: int = 0) -> Iterator[bytes]:
        """The OCI archive, piece by piece, without that many of the lowest layers."""
        config = _json(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": self.config,
                "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in self.layers]},
            }
        )
        layers = [
            {"mediaType": LAYER, "digest": layer.digest, "size": layer.path.stat().st_size}
            for layer in self.layers
        ]
        head = {"schemaVersion": 2, "mediaType": MANIFEST, "config": _descriptor(CONFIG, config)}
        manifest = _json({**head, "layers": layers})
        named = {**_descriptor(MANIFEST, manifest), "annotations": {"io.containerd.image.name": self.name}}
        yield from _member("oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        yield from _member(
            "index.json", _json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]})
        )
        for blob in (config, manifest):
            yield from _member(_blob_name(_digest(blob)), blob)
        for layer in self.layers[without:]:
            yield from _file(_blob_name(layer.digest), layer.path)
        yield tarfile.NUL * 2 * tarfile.BLOCKSIZE


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": _digest(data), "size": len(data)}


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _padding(size: int) -> bytes:
    return tarfile.NUL * (-size % tarfile.BLOCKSIZE)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


def _member(name: str, data: bytes) -> Iterator[bytes]:
    yield _header(name, len(data)) + data + _padding(len(data))


def _file(name: str, path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    yield _header(name, size)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
    yield _padding(size)


class LayerWriter:
    """Writes a layer of files that belong to root; use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by __exit__
        self._folders: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tar.close()

    def folder(self, name: str, *, owner: int = 0) -> None:
        """Adds a folder and those above it, once."""
        for parent in [*reversed(Path(name).parents[:-1]), Path(name)]:
            if str(parent) not in self._folders:
                self._folders.add(str(parent))
                info = tarfile.TarInfo(str(parent))
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                if parent == Path(name):
                    info.uid = info.gid = owner
                self._tar.addfile(info)

    def file(self, name: str, data: bytes, *, mode: int = 0o644) -> None:
        """Adds a file."""
        self.folder(str(Path(name).parent))
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), mode
        self._tar.addfile(info, io.BytesIO(data))

    def tree(self, source: Path, name: str) -> None:
        """Adds a folder's files."""
        for path in sorted(source.rglob("*")):
            if path.is_file():
                executable = bool(path.stat().st_mode & 0o100)
                inside = f"{name}/{path.relative_to(source)}"
                self.file(inside, path.read_bytes(), mode=0o755 if executable else 0o644)
