"""The test bed's own small parts: what must hold before any server runs."""

import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.servers import polling
from tests.servers.addresses import Addresses
from tests.servers.cache import Cache
from tests.servers.commands import CommandError, MissingPartError, run, tool
from tests.servers.oci import Image, Layer, LayerWriter
from tests.servers.sweep import sweep


def layer(folder: Path, name: str) -> Layer:
    path = folder / f"{name}.tar"
    with LayerWriter(path) as writer:
        writer.file(f"etc/{name}", name.encode())
    return Layer.of(path)


def test_an_image_archive_holds_what_its_index_names(tmp_path: Path) -> None:
    image = Image("localhost/some:test", [layer(tmp_path, "low"), layer(tmp_path, "high")], {"User": "1"})
    with tarfile.open(fileobj=io.BytesIO(b"".join(image.archive()))) as archive:
        blobs = {member.name: archive.extractfile(member) for member in archive}
        contents = {name: file.read() for name, file in blobs.items() if file}
    for name, data in contents.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"
    index = json.loads(contents["index.json"])["manifests"][0]
    assert index["annotations"]["io.containerd.image.name"] == "localhost/some:test"
    manifest = json.loads(contents[f"blobs/{index['digest'].replace(':', '/')}"])
    digests = [part["digest"] for part in [manifest["config"], *manifest["layers"]]]
    assert all(f"blobs/{digest.replace(':', '/')}" in contents for digest in digests)
    assert len(manifest["layers"]) == 2


def test_layers_that_are_there_already_are_left_out(tmp_path: Path) -> None:
    image = Image("localhost/some:test", [layer(tmp_path, "low"), layer(tmp_path, "high")], {})
    with tarfile.open(fileobj=io.BytesIO(b"".join(image.archive(without=1)))) as archive:
        names = archive.getnames()
    low, high = (f"blobs/{part.digest.replace(':', '/')}" for part in image.layers)
    assert low not in names
    assert high in names


def test_a_layer_names_each_folder_once_and_before_its_files(tmp_path: Path) -> None:
    with LayerWriter(tmp_path / "layer.tar") as writer:
        writer.file("a/b/one", b"1", mode=0o755)
        writer.file("a/b/two", b"2")
        writer.folder("a/owned", owner=65532)
    with tarfile.open(tmp_path / "layer.tar") as archive:
        assert archive.getnames() == ["a", "a/b", "a/b/one", "a/b/two", "a/owned"]
        assert archive.getmember("a/b/one").mode == 0o755
        assert [archive.getmember(name).uid for name in ("a", "a/owned")] == [0, 65532]


def test_a_failed_build_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def fail(target: Path) -> None:
        (target / "half").touch()
        raise CommandError("no")

    with pytest.raises(CommandError):
        cache.entry("thing", "1", fail)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    entry = cache.entry("thing", "1", lambda target: (target / "whole").touch())
    assert (entry / "whole").exists()
    assert cache.entry("thing", "1", fail) == entry


def test_addresses_survive_their_file() -> None:
    addresses = Addresses(Path("/k"), "http://127.0.0.1:1", "a", "b=c", "127.0.0.1:2", "i:t", Path("/c.sock"))
    assert Addresses.parse(addresses.text()) == addresses


def test_a_missing_program_is_named() -> None:
    with pytest.raises(MissingPartError, match="Frobnicator"):
        tool("no-such-frobnicator", "the Frobnicator")


def test_a_failed_command_shows_what_it_said() -> None:
    with pytest.raises(CommandError, match="out of cheese"):
        run(["sh", "-c", "echo out of cheese; exit 3"])


def test_polling_says_what_it_waited_for_and_why_in_vain() -> None:
    def refused() -> bool:
        raise ConnectionRefusedError("nobody there")

    with pytest.raises(TimeoutError, match=r"the door did not happen within 0 s: nobody there"):
        polling.until(refused, "the door", 0)


def test_sweeping_spares_a_process_that_only_inherited_the_number(tmp_path: Path) -> None:
    ours, others = tmp_path / "run" / "ours", tmp_path / "run" / "others"
    for folder in (ours, others):
        folder.mkdir(parents=True)
    with (
        subprocess.Popen(["sleep", "60"], cwd=ours) as server,
        subprocess.Popen(["sleep", "60"], cwd=tmp_path) as stranger,
    ):
        (ours / "pid").write_text(str(server.pid))
        (others / "pid").write_text(str(stranger.pid))
        sweep(tmp_path / "run")
        assert server.wait() == -9
        assert stranger.poll() is None
        stranger.kill()
    assert not (tmp_path / "run").exists()
    assert list(tmp_path.iterdir()) == []
