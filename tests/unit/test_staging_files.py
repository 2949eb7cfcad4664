"""Directories as stores, and copies in and out."""

import asyncio
from pathlib import Path

import pytest

from dcnios_daemon.core.errors import StoreError, StoreUnavailable
from dcnios_daemon.staging.document import Outlet, StagingPlan
from dcnios_daemon.staging.files import FileStore
from dcnios_daemon.staging.run import stage_in, stage_out
from dcnios_daemon.staging.transfer import Patience

ODD = "a b+%20#?é🔬\udcff\n.txt"


async def test_a_file_of_any_name_goes_through(tmp_path: Path) -> None:
    source = tmp_path / "inbox" / "deep" / ODD
    source.parent.mkdir(parents=True)
    source.write_bytes(b"1")
    store = FileStore(tmp_path / "inbox")
    work = tmp_path / "work"
    download = await store.download(f"deep/{ODD}", valid_for=1)
    upload = await store.upload(f"file:{tmp_path}/out {ODD}/", valid_for=1)
    plan = StagingPlan(download=download, local_name="in", uploads=(Outlet(name="o", upload=upload),))
    plan = StagingPlan.decode(plan.encode())
    assert await stage_in(plan, work) == 1
    await asyncio.to_thread((work / "input/in").rename, work / "output" / ODD)
    assert await stage_out(plan, work) == 1
    target = tmp_path / f"out {ODD}"
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {ODD: b"1"}


async def test_subjects_may_be_absolute_below_the_root_and_nowhere_else(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "inbox")
    one = await store.download("a", valid_for=1)
    assert await store.download(str(tmp_path / "inbox/a"), valid_for=1) == one
    for subject in ("../a", "/etc/passwd", f"{tmp_path}/inbox2/a", "a/../../b", "a\0"):
        with pytest.raises(StoreError):
            await store.download(subject, valid_for=1)


async def test_targets_are_below_where_the_daemon_runs_unless_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = FileStore(tmp_path / "inbox")
    for target in ("file:out/", "file:out", f"file:{tmp_path}/out/", f"file://{tmp_path}/out/"):
        assert (await store.upload(target, valid_for=1)).url == f"file://{tmp_path}/out/"
    for target in ("", "file:", "out/", "s3://b/p", "file:../out/"):
        with pytest.raises(StoreError):
            await store.upload(target, valid_for=1)


async def test_a_missing_file_is_refused_and_a_wrong_target_too(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "inbox")
    with pytest.raises(StoreError, match="gone") as caught:
        await stage_in(
            StagingPlan(download=await store.download("gone", valid_for=1), local_name="in"), tmp_path
        )
    assert not caught.value.retryable
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "output/x").write_text("1")
    upload = await store.upload(f"file:{tmp_path}/file/", valid_for=1)
    with pytest.raises(StoreError, match="file") as caught:
        await stage_out(StagingPlan(uploads=(Outlet(name="o", upload=upload),)), tmp_path)
    assert not caught.value.retryable


async def test_a_full_disk_is_no_fault_of_the_object(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"1")
    store = FileStore(tmp_path)
    work = tmp_path / "work"
    (work / "input").mkdir(parents=True)
    (work / "input/.in.part").symlink_to("/dev/full")
    with pytest.raises(StoreUnavailable, match="No space left"):
        await stage_in(
            StagingPlan(download=await store.download("big", valid_for=1), local_name="in"),
            work,
            patience=Patience(tries=1),
        )
