"""The wrapper as an HPC's container would run it: three shells, curl or wget, odd names, signals, trouble."""

import asyncio
import base64
import contextlib
import os
import re
import secrets
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from dcnios_daemon.core.ports import Download, Upload
from dcnios_daemon.sinks.interlink.marker import Marker
from dcnios_daemon.sinks.interlink.order import order_text
from dcnios_daemon.sinks.interlink.wrapper import BOOTSTRAP, wrapper
from dcnios_daemon.staging.document import Outlet, StagingPlan
from dcnios_daemon.staging.presence import is_there
from dcnios_daemon.staging.s3 import S3Settings, S3Store
from tests.e2e.stores import objects, s3_client
from tests.integration.staging_rig import ODD_NAMES, Handler, content_of, scripted
from tests.servers.cache import Cache
from tests.servers.debian import program
from tests.servers.minio import S3Access

KEY = "0123456789abcdef0123456789abcdef01234567"
WRAPPER = wrapper().replace(b"in 1 2 4 8 16 32 ''", b"in 0 0 0 ''")
"""With pauses of no seconds."""
PROGRAMS = [
    "base64",
    "cat",
    "kill",
    "ln",
    "mkdir",
    "mktemp",
    "od",
    "printf",
    "rm",
    "sed",
    "sh",
    "sleep",
    "tr",
]
"""What the wrapper uses."""


class Ended(msgspec.Struct, frozen=True):
    code: int
    out: str
    err: str

    @property
    def evidence(self) -> str:
        """Of the last line, which step it ended in and how."""
        found = re.fullmatch(rf"dcnios-end key={KEY} attempt=1 (step=.* exit=.*)", self.out.splitlines()[-1])
        assert found, self.out
        return found[1]


class Container:
    """A folder of programs that is all there is, and the shell among them."""

    def __init__(self, root: Path, shell: Sequence[str], programs: Mapping[str, Path]) -> None:
        self.shell = shell
        self.tmp = root / "tmp"
        self.tmp.mkdir(parents=True)
        self.bin = root / "bin"
        self.bin.mkdir()
        for name, path in programs.items():
            (self.bin / name).symlink_to(path)

    async def start(
        self,
        script: str,
        *,
        payload: bytes = b"{}",
        env: Mapping[str, str] | None = None,
        plan: StagingPlan | None = None,
        marker: Marker | None = None,
        by_tool: bool = False,
    ) -> asyncio.subprocess.Process:
        order = order_text(
            command=["/bin/sh", "-c", script],
            env=env or {},
            plan=plan or StagingPlan(),
            tells_event=True,
            marker=marker,
            by_tool=by_tool,
        )
        given = {
            "PATH": str(self.bin),
            "TMPDIR": str(self.tmp),
            "DCNIOS_KEY": KEY,
            "DCNIOS_ATTEMPT": "1",
            "DCNIOS_PAYLOAD": base64.b64encode(payload).decode(),
            "DCNIOS_ORDER": order,
            "DCNIOS_WRAPPER": base64.b64encode(WRAPPER).decode(),
        }
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *self.shell, "-c", BOOTSTRAP, env=given, stdout=pipe, stderr=pipe
        )

    async def run(self, script: str, **more: Any) -> Ended:
        process = await self.start(script, **more)
        out, err = await process.communicate()
        assert process.returncode is not None
        assert not list(self.tmp.iterdir()), "something is left in the scratch folder"
        return Ended(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


@contextlib.asynccontextmanager
async def server(handler: Handler) -> AsyncIterator[str]:
    """As ``scripted``; each answer ends its connection, for clients that we do not see closing it."""

    async def closing(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        response = await handler(request)
        response.force_close()
        return response

    async with scripted(closing) as url:
        yield url


def installed(*names: str) -> dict[str, Path]:
    return {name: Path(str(shutil.which(name))) for name in names}


@pytest.fixture(params=["dash", "bash", "busybox"])
def container(request: pytest.FixtureRequest, tmp_path: Path) -> Container:
    if request.param == "busybox":
        busybox = program(Cache(), "busybox", "busybox")
        applets = dict.fromkeys(PROGRAMS, busybox)
        return Container(tmp_path / "c", [str(busybox), "sh"], applets | installed("curl"))
    shell = str(shutil.which(request.param))
    return Container(tmp_path / "c", [shell], installed(*PROGRAMS, "curl"))


@pytest.fixture
def wget_only(tmp_path: Path) -> Container:
    return Container(tmp_path / "wget", [str(shutil.which("dash"))], installed(*PROGRAMS, "wget"))


@pytest.fixture
def with_tool(container: Container) -> Container:
    """Its image has our program, and neither curl nor wget."""
    (container.bin / "curl").unlink()
    _install_tool(container, f'exec {shlex.quote(sys.executable)} -m dcnios_daemon "$@"')
    return container


def _install_tool(container: Container, text: str) -> None:
    shim, root = container.bin / "dcnios", Path(__file__).parents[2]
    shim.write_text(f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(str(root))}\n{text}\n")
    shim.chmod(0o755)


@pytest_asyncio.fixture
async def store(minio: S3Access) -> AsyncIterator[tuple[S3Store, Any, str]]:
    given = {"endpoint": minio.endpoint, "access_key": minio.access_key, "secret_key": minio.secret_key}
    settings = S3Settings.model_validate(given)
    bucket = f"wrapper-{secrets.token_hex(4)}"
    async with s3_client(minio) as client:
        await client.create_bucket(Bucket=bucket)
        yield S3Store(settings), client, bucket


# --- payload, variables, exit codes ---------------------------------------------------------------------


async def test_the_payload_and_the_variables_arrive_as_they_are(container: Container) -> None:
    odd = "a'\"`$(exit 3)\\n|\n ü\u2028 ${x}\n"
    script = 'cat "$DCNIOS_EVENT_FILE"; printf "%s" "<$EVENT><$ODD><${DCNIOS_PAYLOAD-gone}>"'
    ended = await container.run(script, payload=odd.encode(), env={"ODD": odd})
    assert ended.out.startswith(f"{odd}<{odd}><{odd}><gone>")
    assert ended.evidence == "step=done exit=0"
    assert ended.code == 0


async def test_two_that_share_a_root_have_each_their_own_payload(
    container: Container, tmp_path: Path
) -> None:
    """A site may run containers on a root that is one for all of a node."""
    script = ': >"$MINE"; until [ -e "$OTHER" ]; do sleep 0.05; done; cat "$DCNIOS_EVENT_FILE"'
    names = [str(tmp_path / name) for name in ("a", "b")]
    pairs = [names, names[::-1]]
    both = [
        await container.start(script, payload=mine.encode(), env={"MINE": mine, "OTHER": other})
        for mine, other in pairs
    ]
    said = [(await process.communicate())[0].decode() for process in both]
    assert [text.partition("\n")[0] for text in said] == names


async def test_the_exit_code_is_the_scripts(container: Container) -> None:
    ended = await container.run("echo oops >&2; exit 25")
    assert (ended.code, ended.evidence) == (25, "step=run exit=25")
    assert "oops" in ended.err


async def test_the_time_limit_ends_the_script_and_says_so(container: Container) -> None:
    script = "trap 'echo saved; exit 9' TERM; echo begun; while :; do sleep 0.01; done"
    process = await container.start(script)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"begun\n"
    process.send_signal(signal.SIGTERM)
    out, _ = await process.communicate()
    assert out.startswith(b"saved\n")
    assert out.endswith(b"step=run exit=9\n")
    assert process.returncode == 9


async def test_a_script_that_makes_light_of_the_time_limit_has_not_succeeded(container: Container) -> None:
    process = await container.start("trap 'exit 0' TERM; echo begun; while :; do sleep 0.01; done")
    assert process.stdout is not None
    await process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    out, _ = await process.communicate()
    assert out.endswith(b"step=run exit=143\n")


# --- staging --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_objects_with_odd_names_go_in_and_out(
    container: Container, store: tuple[S3Store, Any, str], name: str
) -> None:
    await _in_and_out(container, store, name)


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_with_wget_alone(wget_only: Container, store: tuple[S3Store, Any, str], name: str) -> None:
    await _in_and_out(wget_only, store, name)


async def test_busyboxs_wget_fetches_and_does_not_pretend_to_send(
    tmp_path: Path, store: tuple[S3Store, Any, str]
) -> None:
    stores, client, bucket = store
    busybox = program(Cache(), "busybox", "busybox")
    container = Container(tmp_path / "b", [str(busybox), "sh"], dict.fromkeys([*PROGRAMS, "wget"], busybox))
    await client.put_object(Bucket=bucket, Key="in", Body=b"content")
    upload = await stores.upload(f"s3://{bucket}/out/", valid_for=600)
    plan = StagingPlan(
        download=await stores.download(f"{bucket}/in", valid_for=600),
        local_name="in",
        uploads=(Outlet(name="out", upload=upload),),
    )
    ended = await container.run('cat "$INPUT_FILE_PATH"; echo > "$TMP_OUTPUT_DIR/a"', plan=plan)
    assert ended.out.startswith("content")
    assert ended.evidence == "step=stage-out exit=75"
    assert "curl or GNU wget" in ended.err


@pytest.mark.parametrize("name", ODD_NAMES[:1])
async def test_by_our_tool(with_tool: Container, store: tuple[S3Store, Any, str], name: str) -> None:
    await _in_and_out(with_tool, store, name, by_tool=True)


async def _in_and_out(
    container: Container, store: tuple[S3Store, Any, str], name: str, *, by_tool: bool = False
) -> None:
    stores, client, bucket = store
    await client.put_object(Bucket=bucket, Key=f"in/{name}", Body=content_of(name))
    upload = await stores.upload(f"s3://{bucket}/out/", valid_for=600)
    plan = StagingPlan(
        download=await stores.download(f"{bucket}/in/{name}", valid_for=600),
        local_name="in put'\"",
        uploads=(Outlet(name="out", upload=upload),),
    )
    script = 'mkdir -p "$TMP_OUTPUT_DIR/${NAME%/*}"; cat "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/$NAME"'
    if "/" not in name:
        script = 'cat "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/$NAME"'
    ended = await container.run(script, env={"NAME": name}, plan=plan, by_tool=by_tool)
    assert ended.code == 0, ended.err
    assert ended.evidence == "step=done exit=0"
    assert (await objects(client, bucket))[f"out/{name}"] == content_of(name)


async def test_outputs_go_where_their_names_say(
    container: Container, store: tuple[S3Store, Any, str]
) -> None:
    stores, client, bucket = store
    upload = await stores.upload(f"s3://{bucket}/out/", valid_for=600)
    also = await stores.upload(f"s3://{bucket}/logs/", valid_for=600)
    plan = StagingPlan(
        uploads=(
            Outlet(name="out", upload=upload, prefix=("a", "sub/"), suffix=(".png", "*")),
            Outlet(name="logs", upload=also, suffix=(".log",)),
        )
    )
    script = """cd "$TMP_OUTPUT_DIR"; mkdir sub .hidden
                for f in a.png b.png sub/c.png .hidden/d.log a.log; do
                echo $f > $f; done; echo > "sub/*"; ln -s ../a.png sub/link.png"""
    ended = await container.run(script, plan=plan)
    assert ended.code == 0, ended.err
    wanted = {"out/a.png", "out/sub/c.png", "out/sub/*", "out/sub/link.png", "logs/.hidden/d.log"}
    assert set(await objects(client, bucket)) == wanted | {"logs/a.log"}


async def test_the_marker_is_left_when_all_is_done_and_only_then(
    container: Container, store: tuple[S3Store, Any, str]
) -> None:
    stores, client, bucket = store
    place = f"s3://{bucket}/done"
    marker = Marker(await stores.upload(place, valid_for=600), "gray-0a1b2c")
    upload = await stores.upload(f"s3://{bucket}/out/", valid_for=600)
    plan = StagingPlan(uploads=(Outlet(name="out", upload=upload),))
    assert not await is_there(stores, place, marker.name)
    failed = await container.run("exit 3", plan=plan, marker=marker)
    assert failed.evidence == "step=run exit=3"
    assert not await is_there(stores, place, marker.name)
    ended = await container.run('echo x >"$TMP_OUTPUT_DIR/a"', plan=plan, marker=marker)
    assert ended.evidence == "step=done exit=0", ended.err
    assert await is_there(stores, place, marker.name)
    assert await objects(client, bucket) == {"out/a": b"x\n", "done/gray-0a1b2c": f"{KEY}\n".encode()}


async def test_work_that_is_done_is_not_undone_by_a_marker_that_cannot_be_left(container: Container) -> None:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=403)

    async with server(handler) as url:
        marker = Marker(Upload(method="POST", url=url, prefix="done/"), "gray-0a1b2c")
        ended = await container.run("true", marker=marker)
    assert (ended.evidence, ended.code) == ("step=done exit=0", 0)
    assert "the marker could not be left" in ended.err


async def test_a_store_that_fails_at_first_is_asked_again(container: Container) -> None:
    seen: list[tuple[str, str]] = []
    kept: dict[str, bytes] = {}

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        seen.append((request.method, request.path))
        if len(seen) in {1, 3}:
            return web.Response(status=503)
        if request.method == "GET":
            assert request.headers["Authorization"] == 'Bearer a"b\\c'
            return web.Response(body=b"content")
        kept[request.path] = (await request.read()) if request.method == "PUT" else b""
        return web.Response(status=201)

    async with server(handler) as url:
        login = {"Authorization": 'Bearer a"b\\c'}
        plan = StagingPlan(
            download=Download(url=f"{url}/in", headers=login),
            local_name="x",
            uploads=(Outlet(name="o", upload=Upload(method="PUT", url=f"{url}/o/", headers=login)),),
        )
        ended = await container.run("cat $INPUT_FILE_PATH > $TMP_OUTPUT_DIR/'a b'", plan=plan)
    assert ended.code == 0, ended.err
    assert kept["/o/a b"] == b"content"


async def test_uploads_that_fail_for_good_are_no_success(container: Container) -> None:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=403)

    async with server(handler) as url:
        upload = Upload(method="POST", url=f"{url}/o", prefix="p/", fields={"policy": "x"})
        plan = StagingPlan(uploads=(Outlet(name="o", upload=upload),))
        ended = await container.run("echo > $TMP_OUTPUT_DIR/a", plan=plan)
    assert (ended.code, ended.evidence) == (75, "step=stage-out exit=75")
    assert "gave up: a" in ended.err


# --- by our tool ----------------------------------------------------------------------------------------


async def test_the_tool_puts_outputs_where_their_names_say_and_the_marker(
    with_tool: Container, store: tuple[S3Store, Any, str]
) -> None:
    stores, client, bucket = store
    upload = await stores.upload(f"s3://{bucket}/out/", valid_for=600)
    marker = Marker(await stores.upload(f"s3://{bucket}/done/", valid_for=600), "gray-0a1b2c")
    plan = StagingPlan(uploads=(Outlet(name="out", upload=upload, prefix=("a",), suffix=(".png",)),))
    script = 'cd "$TMP_OUTPUT_DIR"; for f in a.png "a b.png" b.png a.log; do echo x >"$f"; done; exit $CODE'
    failed = await with_tool.run(script, env={"CODE": "3"}, plan=plan, marker=marker, by_tool=True)
    assert (failed.code, failed.evidence) == (3, "step=run exit=3")
    assert await objects(client, bucket) == {}
    ended = await with_tool.run(script, env={"CODE": "0"}, plan=plan, marker=marker, by_tool=True)
    assert (ended.code, ended.evidence) == (0, "step=done exit=0"), ended.err
    there = {"out/a.png": b"x\n", "out/a b.png": b"x\n", "done/gray-0a1b2c": f"{KEY}\n".encode()}
    assert await objects(client, bucket) == there


async def test_without_the_tool_nothing_is_run(container: Container) -> None:
    upload = Upload(method="POST", url="http://127.0.0.1:9", prefix="p/")
    plan = StagingPlan(uploads=(Outlet(name="o", upload=upload),))
    ended = await container.run("echo begun", plan=plan, by_tool=True)
    assert (ended.code, ended.evidence) == (75, "step=stage-in exit=75")
    assert "stage_with: tool needs the command dcnios" in ended.err
    assert "begun" not in ended.out


async def test_what_the_tool_cannot_put_is_no_success(with_tool: Container) -> None:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=403)

    async with server(handler) as url:
        upload = Upload(method="POST", url=f"{url}/o", prefix="p/", fields={"policy": "s3cr3t"})
        plan = StagingPlan(uploads=(Outlet(name="o", upload=upload),))
        ended = await with_tool.run("echo > $TMP_OUTPUT_DIR/a", plan=plan, by_tool=True)
    assert (ended.code, ended.evidence) == (75, "step=stage-out exit=75")
    assert "dcnios stage out ended with exit code 1" in ended.err
    assert "403" in ended.err
    assert "s3cr3t" not in ended.err


async def test_a_marker_that_the_tool_cannot_put_undoes_nothing(with_tool: Container) -> None:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=403)

    async with server(handler) as url:
        marker = Marker(Upload(method="POST", url=url, prefix="done/"), "gray-0a1b2c")
        ended = await with_tool.run("true", marker=marker, by_tool=True)
    assert (ended.evidence, ended.code) == ("step=done exit=0", 0)
    assert "the marker could not be left" in ended.err


async def test_the_time_limit_ends_the_tool_and_says_so(with_tool: Container) -> None:
    asked, over = asyncio.Event(), asyncio.Event()

    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        asked.set()
        await over.wait()
        return web.Response(body=b"content")

    async with server(handler) as url:
        plan = StagingPlan(download=Download(url=f"{url}/in"), local_name="x")
        process = await with_tool.start("echo begun", plan=plan, by_tool=True)
        await asked.wait()
        process.send_signal(signal.SIGTERM)
        out, _ = await process.communicate()
        over.set()
    assert process.returncode == 143
    assert out.endswith(b"step=stage-in exit=143\n")
    assert b"begun" not in out
    assert not list(with_tool.tmp.iterdir())


# --- trouble --------------------------------------------------------------------------------------------


async def test_a_full_scratch_folder_is_said(container: Container) -> None:
    """A file in place of the folder is as good as none: nothing can be written there."""
    container.tmp.rmdir()
    container.tmp.write_text("")
    process = await container.start("true")
    out, err = await process.communicate()
    assert b"no room" in err
    assert out.endswith(b"step=prepare exit=75\n")
    container.tmp.unlink()
    container.tmp.mkdir()


async def test_leave_stands_in_no_list_of_processes(container: Container) -> None:
    seen: list[str] = []

    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        seen.extend(await asyncio.to_thread(_arguments_of_all))
        return web.Response(body=b"content")

    async with server(handler) as url:
        plan = StagingPlan(download=Download(url=f"{url}/in?leave=s3cr3t"), local_name="x")
        await container.run("true", plan=plan)
    assert seen
    assert not [line for line in seen if "s3cr3t" in line]


def _arguments_of_all() -> list[str]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            try:
                found.append((folder / "cmdline").read_bytes().decode(errors="replace"))
            except OSError:
                continue
    return found
