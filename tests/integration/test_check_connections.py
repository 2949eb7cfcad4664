"""`dcnios check --connect` before real servers, and a dCache that can be told how to be wrong."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from aiohttp import web
from click.testing import CliRunner

from dcnios_daemon import cli
from dcnios_daemon.config import connections
from dcnios_daemon.config.model import DaemonSettings
from dcnios_daemon.sources.minio import check as minio_check
from tests.e2e.stores import make_topic, minio_source, s3_client
from tests.fakes.dcache import Directory, FakeDcache, tls
from tests.fakes.dcache.macaroon import mint
from tests.servers import versions
from tests.servers.access import ClusterAccess
from tests.servers.fixtures import KafkaAccess
from tests.servers.minio import MinIO, S3Access
from tests.servers.workspace import Workspace

RIGHTS = Path(__file__).parents[2] / "deploy" / "kubernetes" / "rights" / "rights.yaml"


async def found(**blocks: Any) -> dict[str, list[str]]:
    """What is missing, by who is asked; nothing for those that are fine."""
    settings = DaemonSettings.model_validate({"daemon": {"instance": "test"}} | blocks)
    answers: dict[str, list[str]] = {}
    for name, finding in await connections.check_connections(settings):
        answers.setdefault(name, []).extend([finding] if finding else [])
    return answers


async def source(**block: Any) -> list[str]:
    """What one source lacks."""
    return (await found(sources={"it": block}))["source it"]


# --- dCache ---------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def dcache() -> AsyncIterator[FakeDcache]:
    directory = Directory()
    directory.add_user("u:p")
    async with FakeDcache(directory=directory) as made:
        await made.mkdir("/data/raw")
        await made.upload("/data/file")
        yield made


def dcache_source(dcache: FakeDcache, path: str = "/data/raw", **more: Any) -> dict[str, Any]:
    login = {} if "token" in more else {"username": "u", "password": "p"}
    return {"kind": "dcache", "url": dcache.url, "watch": {"w": {"path": path}}} | login | more


async def test_a_dcache_that_has_it_all_is_fine_and_keeps_no_channel(dcache: FakeDcache) -> None:
    assert await source(**dcache_source(dcache)) == []
    assert not list(dcache.registrar.all())


async def test_each_wrong_path_of_a_dcache_is_told(dcache: FakeDcache) -> None:
    watch = {"a": {"path": "/data/rwa"}, "b": {"path": "/data/file"}, "c": {"path": "/data/raw"}}
    assert await source(**dcache_source(dcache, watch=watch)) == [
        "there is no /data/rwa in dCache: create it, or correct sources.it.watch.a.path",
        "/data/file is no directory: correct sources.it.watch.b.path",
    ]
    assert not list(dcache.registrar.all())


async def test_a_missing_right_in_dcache_is_told(dcache: FakeDcache) -> None:
    dcache.directory.tokens["unused"] = 1
    token = _macaroon(dcache, "path:/elsewhere")
    (said,) = await source(**dcache_source(dcache, token=token))
    assert said == "no right to list /data/raw: grant it to this login, or correct sources.it.watch.w.path"
    assert not list(dcache.registrar.all())


def _macaroon(dcache: FakeDcache, *caveats: str) -> str:
    return mint(dcache.directory.secret, "who", ["id:1000;1000;who", *caveats])


@pytest.mark.parametrize("login", [{"token": "wrong-token"}, {"username": "u", "password": "wrong-word"}])
async def test_a_wrong_login_to_dcache_is_told_without_it(dcache: FakeDcache, login: dict[str, str]) -> None:
    (said,) = await source(**(dcache_source(dcache) | {"username": None, "password": None} | login))
    assert "401, the login is refused" in said
    assert "wrong-" not in said


async def test_a_dcache_that_is_not_there_is_told(dcache: FakeDcache) -> None:
    await dcache.stop()
    (said,) = await source(**dcache_source(dcache))
    assert said.startswith(f"{dcache.url}: ClientConnectorError: Cannot connect to host 127.0.0.1")


async def test_what_is_no_dcache_is_told(dcache: FakeDcache) -> None:
    (said,) = await source(**dcache_source(dcache, url=f"{dcache.url}/elsewhere"))
    assert said == _no_frontend(f"{dcache.url}/elsewhere", "404 HTTP 404 Not Found")
    (said,) = await source(**dcache_source(dcache, url=dcache.dav))
    assert said.startswith(
        f"there is no dCache frontend at {dcache.dav} (GET {dcache.dav}/api/v1/events: 404 "
    )


def _no_frontend(url: str, came: str) -> str:
    return (
        f"there is no dCache frontend at {url} (GET {url}/api/v1/events: {came}): correct sources.it.url; "
        "its port is 3880 at most sites, and 2880 that of the WebDAV door"
    )


@pytest.mark.parametrize(
    ("status", "body", "came"),
    [
        (404, "<html>\n<head><TITLE>404\n Not Found</TITLE></head>", "404 a web page, '404 Not Found'"),
        (200, "<!DOCTYPE html><p>Welcome", "200 a web page"),
        (200, '{"kind": "something else"}', "200"),
        (200, "[]", "200 []"),
        (405, "no", "405 no"),
        (302, "", "302 leads to https://login.example.org/"),
    ],
)
async def test_what_answers_and_is_no_dcache_is_named(status: int, body: str, came: str) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        await request.read()
        location = {"Location": "https://login.example.org/"} if status == 302 else {}
        return web.Response(status=status, text=body, headers=location)

    async with _serving(answer) as url:
        (said,) = await source(**_at(url))
        assert said == _no_frontend(url, came)


async def test_a_login_that_something_else_refuses_is_told_as_that() -> None:
    async def refuse(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(status=401, headers={"WWW-Authenticate": "Basic"}, text="<html>no")

    async with _serving(refuse) as url:
        (said,) = await source(**_at(url))
        assert said == f"GET {url}/api/v1/events: 401, the login is refused"


async def test_another_protocol_is_told() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        where = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        (said,) = await source(**_at(f"http://{where}"))
        assert said.startswith(f"http://{where} does not speak HTTP: ")
        assert "\n" not in said
        (said,) = await source(**_at(f"https://{where}"))
        assert said.startswith(f"no TLS with https://{where}: ")


async def test_a_host_that_does_not_exist_is_told() -> None:
    (said,) = await source(**_at("https://no-such-host.invalid:3880"))
    assert said.startswith(
        "https://no-such-host.invalid:3880: ClientConnectorDNSError: Cannot connect to host "
    )


def _at(url: str) -> dict[str, Any]:
    login = {"username": "u", "password": "p"}
    return {"kind": "dcache", "url": url, "watch": {"w": {"path": "/data"}}} | login


@asynccontextmanager
async def _serving(handler: Callable[[web.BaseRequest], Awaitable[web.Response]]) -> AsyncIterator[str]:
    made = web.ServerRunner(web.Server(handler))
    await made.setup()
    site = web.TCPSite(made, "127.0.0.1", 0)
    await site.start()
    host, port = made.addresses[0]
    try:
        yield f"http://{host}:{port}"
    finally:
        await made.cleanup()


async def test_a_dcache_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    authority = await asyncio.to_thread(tls.make, tmp_path)
    context = await asyncio.to_thread(authority.server_context, "127.0.0.1")
    async with FakeDcache(tls=context) as dcache:
        await dcache.mkdir("/data/raw")
        assert await source(**dcache_source(dcache, ca_file=authority.ca_file, door=dcache.dav)) == []
        (said,) = await source(**dcache_source(dcache))
        assert said.startswith(f"the certificate of {dcache.url} is not trusted: ")
        targets = {"to": "dav:/data/../x", "using": "it"}
        run = {"kind": "process", "script": "x", "stage_out": {"t": targets}}
        block = dcache_source(dcache, ca_file=authority.ca_file, door=dcache.dav)
        answers = await found(sources={"it": block}, routes={"r": {"from": ["it"], "run": run}})
        (said,) = answers["source it"]
        assert said.startswith("routes.r.run.stage_out.t.to: ")


async def test_a_door_that_gives_no_leave_is_told(dcache: FakeDcache) -> None:
    (said,) = await source(**dcache_source(dcache, door=dcache.api))
    assert said.startswith(f"sources.it.door: {dcache.api}/data/raw: the door gives no macaroon: 404")


# --- S3 -------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def bucket(minio: S3Access) -> AsyncIterator[str]:
    name = f"check-{secrets.token_hex(4)}"
    async with s3_client(minio) as client:
        await client.create_bucket(Bucket=name)
        yield name
        await client.delete_bucket(Bucket=name)


async def test_a_store_that_has_it_all_is_fine(minio: S3Access, bucket: str) -> None:
    assert await source(**minio_source(minio, bucket, receive=[])) == []


def _no_bucket(minio: S3Access, bucket: str, place: str) -> str:
    return f"bucket {bucket!r} does not exist at {minio.endpoint}: create it, or correct {place}"


async def test_each_missing_bucket_is_told_also_where_results_go(minio: S3Access, bucket: str) -> None:
    out = {
        "there": {"to": f"s3://{bucket}/x/", "using": "it"},
        "missing": {"to": "s3://no-such-outbox/x/", "using": "it"},
        "unknown": {"to": "s3://{{ event.attributes.b }}/", "using": "it"},
    }
    run = {"kind": "process", "script": "x", "stage_out": out}
    blocks = {"it": minio_source(minio, bucket, buckets=[bucket, "no-such-inbox"])}
    answers = await found(sources=blocks, routes={"r": {"from": ["it"], "run": run}})
    assert answers == {
        "source it": [
            _no_bucket(minio, "no-such-inbox", "sources.it.buckets"),
            _no_bucket(minio, "no-such-outbox", "routes.r.run.stage_out.missing.to"),
        ],
        "sink process": [],
    }


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("access_key", "does not know the access key"), ("secret_key", "says that the secret key is wrong")],
)
async def test_a_wrong_login_to_a_store_is_told_once(
    minio: S3Access, bucket: str, wrong: str, said: str
) -> None:
    block = minio_source(minio, bucket, buckets=[bucket, "other"], **{wrong: "wrong-word"})
    assert await source(**block) == [f"{minio.endpoint} {said}: correct sources.it.{wrong}"]


async def test_a_missing_right_to_list_is_told_where_it_is_needed(
    minio: S3Access, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with s3_client(minio) as client:
        await client.put_object(Bucket=bucket, Key="x", Body=b"x")
        for name, value in (await _nobody(minio)).items():
            monkeypatch.setenv(name, value)
        nobody = {"kind": "minio", "endpoint": minio.endpoint, "buckets": [bucket]}
        assert await source(**nobody) == [
            f"no right to list bucket {bucket!r} at {minio.endpoint} (s3:ListBucket), or no such bucket"
        ]
        assert await source(**nobody, reconcile=0) == [], "nor is a right to read the notification"
        await client.delete_object(Bucket=bucket, Key="x")


async def _nobody(minio: S3Access) -> dict[str, str]:
    """A login that is good for nothing: a session whose policy allows one thing elsewhere."""
    from aiobotocore.session import get_session  # noqa: PLC0415 - one test's

    allowed = {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::elsewhere/*"]}
    made = get_session().create_client(
        "sts",
        endpoint_url=minio.endpoint,
        aws_access_key_id=minio.access_key,
        aws_secret_access_key=minio.secret_key,
        region_name="us-east-1",
    )
    async with made as client:
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        answer = await client.assume_role(
            RoleArn="arn:minio:iam:::role/none", RoleSessionName="it", Policy=policy
        )
    given = answer["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
        "AWS_SESSION_TOKEN": given["SessionToken"],
    }


async def test_a_store_that_is_not_there_is_told() -> None:
    access = S3Access("http://127.0.0.1:9", "a", "b")
    (said,) = await source(**minio_source(access, "inbox"))
    assert said.startswith("http://127.0.0.1:9/inbox: ClientConnectorError: ")


async def test_whether_a_store_can_be_listened_to_is_told(
    minio: S3Access, bucket: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minio_check, "LISTEN_WITHIN", 3.0)
    (said,) = await source(**minio_source(minio, bucket, receive=["listen"]))
    assert said.startswith(f"cannot listen to {bucket!r}: nothing came in 3 s: ")
    streaming = MinIO(workspace, version=versions.MINIO_THAT_STREAMS)
    await asyncio.to_thread(streaming.start)
    async with s3_client(streaming.access) as client:
        await client.create_bucket(Bucket="inbox")
    assert await source(**minio_source(streaming.access, "inbox", receive=["listen"])) == []
    await asyncio.to_thread(streaming.stop)


# --- Kafka ----------------------------------------------------------------------------------------------


async def test_a_missing_topic_is_told_and_not_made(kafka: KafkaAccess) -> None:
    there, missing = (f"check-{secrets.token_hex(4)}" for _ in range(2))
    await make_topic(kafka.bootstrap, there, 1)
    block = {"kind": "kafka", "bootstrap": [kafka.bootstrap]}
    assert await source(**block, topics=[there]) == []
    for _ in range(2):
        (said,) = await source(**block, topics=[there, missing])
        assert said.startswith(
            f"topic {missing!r} does not exist on {kafka.bootstrap}, or must not be seen: "
        )
        assert said.endswith(": create it, or correct sources.it.topics")


async def test_a_broker_that_is_not_there_is_told() -> None:
    (said,) = await source(kind="kafka", bootstrap=["127.0.0.1:9"], topics=["t"])
    assert said.startswith("Kafka at 127.0.0.1:9: ")


# --- Kubernetes -----------------------------------------------------------------------------------------

JOB = {"kind": "job", "image": "x"}


class Account:
    """A service account of its own, with a kubeconfig."""

    def __init__(self, access: ClusterAccess, namespace: str, folder: Path) -> None:
        self._access, self._namespace = access, namespace
        self._make("serviceaccounts", "/api/v1", {"kind": "ServiceAccount", "apiVersion": "v1"}, "dcnios")
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/dcnios/token"
        request = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}}
        token = access.call("POST", path, request)["status"]["token"]
        self.kubeconfig = folder / "kubeconfig"
        ClusterAccess(access.url, token, access.ca, self.kubeconfig).write()

    def _make(self, plural: str, group: str, body: dict[str, Any], name: str) -> None:
        path = f"{group}/namespaces/{self._namespace}/{plural}"
        self._access.call("POST", path, body | {"metadata": {"name": name}})

    def grant(self, *, without: tuple[str, str] = ("", "")) -> None:
        """The rights that we tell operators to grant, less a verb on a resource."""
        for thing in yaml.safe_load_all(RIGHTS.read_text()):
            group = "/apis/rbac.authorization.k8s.io/v1"
            if thing["kind"] == "Role":
                for rule in thing["rules"]:
                    if without[0] in rule["resources"]:
                        rule["verbs"].remove(without[1])
                self._make("roles", group, thing, "dcnios")
            elif thing["kind"] == "RoleBinding":
                thing["subjects"][0]["namespace"] = self._namespace
                self._make("rolebindings", group, thing, "dcnios")


@pytest.fixture
def account(kubernetes: ClusterAccess, namespace: str, tmp_path: Path) -> Account:
    return Account(kubernetes, namespace, tmp_path)


async def sink(kubeconfig: Path, namespace: str, *, kind: str = "cloudevents", **route: Any) -> list[str]:
    answers = await found(
        sources={"it": {"kind": kind} | ({"path": "/tmp"} if kind == "directory" else {})},
        routes={"r": {"from": ["it"], "run": JOB} | route},
        kubernetes={"kubeconfig": kubeconfig, "namespace": namespace},
    )
    assert not answers["source it"]
    return answers["sink job"]


async def test_the_rights_that_we_tell_operators_to_grant_are_enough(
    account: Account, namespace: str
) -> None:
    await asyncio.to_thread(account.grant)
    assert await sink(account.kubeconfig, namespace) == []


async def test_each_missing_right_in_the_cluster_is_told(account: Account, namespace: str) -> None:
    await asyncio.to_thread(account.grant, without=("jobs", "watch"))
    (said,) = await sink(account.kubeconfig, namespace)
    assert said.startswith(f"no right to watch jobs in namespace {namespace!r}")


async def test_secrets_are_needed_only_where_payloads_may_need_them(account: Account, namespace: str) -> None:
    await asyncio.to_thread(account.grant, without=("secrets", "create"))
    (said,) = await sink(account.kubeconfig, namespace)
    assert said.startswith("no right to create secrets in ")
    assert await sink(account.kubeconfig, namespace, payload="reference") == []
    assert await sink(account.kubeconfig, namespace, kind="directory") == []
    assert await sink(account.kubeconfig, namespace, kind="directory", batch={"size": 2}) == [said]


async def test_an_account_without_rights_lacks_all_of_them(account: Account, namespace: str) -> None:
    said = await sink(account.kubeconfig, namespace)
    assert [line.split(" in ")[0] for line in said] == [
        "no right to create, get, list, watch jobs",
        "no right to list, watch pods",
        "no right to get pods/log",
        "no right to create, get, patch, delete secrets",
    ]


async def test_a_namespace_that_is_not_there_is_told(kubernetes: ClusterAccess) -> None:
    assert await sink(kubernetes.kubeconfig, "no-such-place") == [
        "namespace 'no-such-place' does not exist: create it, or correct kubernetes.namespace"
    ]


async def test_a_token_that_the_cluster_does_not_know_is_told_without_it(
    kubernetes: ClusterAccess, tmp_path: Path
) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    wrong = ClusterAccess(kubernetes.url, "wrong-token", kubernetes.ca, kubeconfig)
    await asyncio.to_thread(wrong.write)
    (said,) = await sink(kubeconfig, "default")
    assert said.startswith("the cluster does not know our credential: ")
    assert "wrong-token" not in said


async def test_a_cluster_that_is_not_there_is_told(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "nowhere"
    (said,) = await sink(kubeconfig, "default")
    assert said == f"no access to a cluster: there is no file {kubeconfig}"


# --- all together ---------------------------------------------------------------------------------------


async def test_a_neighbour_that_hangs_takes_no_longer_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WITHIN", 0.2)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        access = S3Access(f"http://{host}:{port}", "a", "b")
        blocks = {name: minio_source(access, "inbox") for name in ("one", "two")}
        answers = await found(sources=blocks, routes={})
    said = ["no answer within 0.2 s"]
    assert answers == {"source one": said, "source two": said}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inbox").mkdir()
    return tmp_path


def _check(folder: Path, *options: str, path: str = "inbox") -> Any:
    sources = {"hooks": {"kind": "cloudevents"}, "drop": {"kind": "directory", "path": path}}
    route = {"from": ["hooks", "drop"], "run": {"kind": "dry-run"}}
    (folder / "f.yaml").write_text(json.dumps({"sources": sources, "routes": {"r": route}}))
    return CliRunner().invoke(cli.main, ["check", "--connect", "--config", "f.yaml", *options])


def test_the_command_prints_a_line_for_each(folder: Path) -> None:
    result = _check(folder)
    assert result.exit_code == 0
    assert result.stderr.splitlines()[1:] == ["source hooks: fine", "source drop: fine", "sink dry-run: fine"]
    assert _check(folder, "-q").stderr == ""


def test_the_command_fails_when_something_is_missing(folder: Path) -> None:
    result = _check(folder, "-q", path="no/such/place")
    assert result.exit_code == 1
    place = folder / "no/such/place"
    assert result.stderr == (
        f"source drop: there is no directory {place}, and it cannot be made: create it, "
        "or correct sources.drop.path\ndcnios: 1 is missing\n"
    )
    (folder / "file").touch()
    assert f"{folder / 'file'} is no directory" in _check(folder, path="file").stderr


def test_the_command_prints_json(folder: Path) -> None:
    result = _check(folder, "--json", path="no/such/place")
    assert result.exit_code == 1
    met = {line["name"]: line["finding"] for line in json.loads(result.stdout)["connections"]}
    assert met["source hooks"] is None
    assert met["source drop"].startswith("there is no directory ")
