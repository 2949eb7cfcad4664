"""What a service becomes: its objects, what a notebook is told, and what is refused."""

import datetime as dt
import json
import types
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner
from pydantic import ValidationError

from dcnios_daemon import cli
from dcnios_daemon.core.errors import ConfigError, DcniosError, SinkUnavailable
from dcnios_daemon.exposed import jupyter, local
from dcnios_daemon.exposed.objects import Object, build, places
from dcnios_daemon.exposed.scaling import why_busy
from dcnios_daemon.exposed.settings import Container, Notebook
from dcnios_daemon.kubernetes.answers import Contested, failure

NOW = dt.datetime(2026, 11, 24, 12, 0, tzinfo=dt.UTC)


def container(**keys: Any) -> Container:
    given = {"image": "web:1", "port": 8080, "auth": "own", **keys}
    return Container.model_validate(given)


def notebook(**keys: Any) -> Notebook:
    given = {"image": "lab:1", "endpoint": "http://minio:9000", "buckets": ["inbox", "outbox"], **keys}
    return Notebook.model_validate(given)


def made(service: Container | Notebook, image: str | None = "dcnios:1") -> dict[str, Any]:
    return {wish.path: wish.body for wish in build("one", service, image=image)}


def the_container(objects: dict[str, Any]) -> Any:
    return objects["deployments/one"]["spec"]["template"]["spec"]["containers"][0]


def environment(objects: dict[str, Any]) -> dict[str, Any]:
    return {
        entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in the_container(objects)["env"]
    }


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"auth": "token"}, "nobody would ask visitors for a login"),
        ({"auth": "none", "token": "abc"}, "auth: none uses no token"),
        ({"replicas": {"min": 1, "max": 2}}, "the autoscaler needs resources.cpu"),
        ({"replicas": {"min": 3, "max": 2}}, "max is below min"),
        ({"sleep": {"at": "at eight"}}, "is no schedule"),
        ({"expose": {"host": "a.example.org", "gateway": "g", "tls_secret": "t"}}, "leave out those keys"),
        ({"expose": {"host": "a.example.org", "path": "/a/"}}, "should match"),
    ],
)
def test_a_container_that_cannot_work_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        container(**keys)


def test_nobody_is_let_in_by_default() -> None:
    with pytest.raises(ValidationError, match="token_variable"):
        Container.model_validate({"image": "web:1", "port": 8080})


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"access_key": "a"}, "go together"),
        ({"access_key": "a", "secret_key": "b", "keys": "made"}, "not both"),
        ({"buckets": []}, "at least 1"),
    ],
)
def test_a_notebook_that_cannot_work_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        notebook(**keys)


@pytest.mark.parametrize(
    "service",
    [
        container(),
        container(
            auth="token",
            token_variable="T",
            resources={"cpu": "1"},
            replicas={"min": 1, "max": 4},
            expose={"host": "a.example.org"},
            sleep={"at": "0 20 * * *", "wake": "0 7 * * *"},
        ),
        notebook(access_key="a", secret_key="b", expose={"host": "a.example.org", "gateway": "g"}),
    ],
)
def test_whatever_is_made_is_found_again(service: Container | Notebook) -> None:
    """Else delete would leave it behind."""
    assert set(made(service)) <= set(places("one"))


def test_a_token_reaches_the_program_by_its_secret_only() -> None:
    objects = made(container(auth="token", token_variable="WEB_TOKEN", token="sesame"))
    assert environment(objects)["WEB_TOKEN"] == {"secretKeyRef": {"name": "one-token", "key": "token"}}
    secret = objects.pop("secrets/one-token")
    assert "sesame" not in json.dumps(objects)
    assert "sesame" not in json.dumps(Object(resource="secrets", body=secret).shown())


def test_a_token_that_nobody_gave_is_random_and_made_once() -> None:
    service = container(auth="token", token_variable="WEB_TOKEN")
    first, second = (build("one", service, image=None)[0] for _ in range(2))
    assert first.made_once
    assert first.body["data"] != second.body["data"]
    assert not build("one", container(auth="token", token_variable="T", token="t"), image=None)[0].made_once


def test_words_are_what_was_written_and_not_what_kubernetes_reads_into_them() -> None:
    found = the_container(made(container(command=["sh", "-c", "echo $(HOME)"], env={"A": "$(B)"})))
    assert found["command"] == ["sh", "-c", "echo $$(HOME)"]
    assert {"name": "A", "value": "$$(B)"} in found["env"]


def test_the_number_of_pods_is_left_to_those_who_scale() -> None:
    def replicas(**keys: Any) -> Any:
        return made(container(resources={"cpu": "1"}, **keys))["deployments/one"]["spec"].get("replicas")

    assert replicas(replicas={"min": 2}) == 2
    assert replicas() is None
    assert replicas(replicas={"min": 2, "max": 5}) is None
    assert replicas(replicas={"min": 2}, sleep={"at": "0 20 * * *"}) is None


def test_a_notebook_has_what_it_needs_and_no_privilege() -> None:
    objects = made(
        notebook(
            keys="made-by-hand",
            resources={"gpu": 1},
            expose={"host": "hub.example.org", "path": "/lab", "tls_secret": "hub"},
        )
    )
    found = the_container(objects)
    assert found["resources"]["limits"] == {"cpu": "1", "memory": "2Gi", "nvidia.com/gpu": "1"}
    assert found["readinessProbe"]["httpGet"] == {"path": "/lab/api", "port": "http"}
    assert "privileged" not in json.dumps(objects)
    told = environment(objects)
    assert told["AWS_ENDPOINT_URL"] == "http://minio:9000"
    assert told["AWS_SECRET_ACCESS_KEY"] == {"secretKeyRef": {"name": "made-by-hand", "key": "secret_key"}}
    assert "secrets/one-keys" not in objects
    assert objects["ingresses/one"]["spec"]["tls"] == [{"hosts": ["hub.example.org"], "secretName": "hub"}]


class _Trait:
    """Takes what a configuration file sets, as Jupyter's own does."""

    def __init__(self) -> None:
        vars(self)["set"] = {}

    def __getattr__(self, name: str) -> Any:
        return vars(self)["set"].setdefault(name, _Trait())

    def __setattr__(self, name: str, value: Any) -> None:
        vars(self)["set"][name] = value


def run_config(text: str) -> dict[str, Any]:
    c = _Trait()
    exec(compile(text, "config", "exec"), {"get_config": lambda: c})
    return {
        f"{part}.{trait}": value
        for part, traits in vars(c)["set"].items()
        for trait, value in vars(traits)["set"].items()
    }


def test_jupyter_is_told_of_each_bucket_and_of_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: types.ModuleType("there"))
    monkeypatch.setenv("JUPYTER_TOKEN", "sesame")
    service = notebook(access_key="the-key", secret_key="the-secret", expose={"host": "a.b", "path": "/x"})
    text = made(service)["configmaps/one-config"]["data"][jupyter.CONFIG_NAME]
    assert "the-key" not in text
    assert "the-secret" not in text
    told = run_config(text)
    assert [entry["url"] for entry in told["JupyterFs.resources"]] == ["s3://inbox", "s3://outbox"]
    assert told["ServerApp.base_url"] == "/x/"
    assert told["JupyterFs.allow_user_resources"] is False


def test_jupyter_says_what_is_missing_and_does_not_start_without_a_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = jupyter.config(notebook(), ip="127.0.0.1", base="/")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SystemExit, match=r"lacks jupyterfs: pip install 'dcnios-daemon\[notebook\]'"):
        run_config(text)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: types.ModuleType("there"))
    monkeypatch.setenv("JUPYTER_TOKEN", "")
    with pytest.raises(SystemExit, match="nobody would be asked for a login"):
        run_config(text)


def test_only_an_idle_notebook_goes_to_sleep() -> None:
    objects = made(notebook(sleep={"at": "*/15 * * * *", "wake": "0 7 * * 1-5", "idle_for": "30m"}))
    pods = {
        name: objects[f"cronjobs/one-{name}"]["spec"]["jobTemplate"]["spec"]["template"]["spec"][
            "containers"
        ][0]
        for name in ("sleep", "wake")
    }
    assert pods["sleep"]["command"] == ["dcnios", "services", "scale", "one", "0", "--if-idle", "30m"]
    assert pods["wake"]["command"] == ["dcnios", "services", "scale", "one", "1"]
    assert "NOTEBOOK_TOKEN" not in json.dumps(pods["wake"])


@pytest.mark.parametrize(
    ("service", "image", "words"),
    [
        (container(sleep={"at": "0 20 * * *"}), None, "services.one.sleep: its CronJobs need"),
        (container(env={"A": "1"}, secrets={"A": "s/a"}), None, "services.one.env: A: comes from a Secret"),
        (notebook(image=None), None, "services.one.image: is missing"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    service: Container | Notebook, image: str | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        build("one", service, image=image)


def test_a_local_notebook_has_its_secrets_in_its_environment_only(
    tmp_path: Path,
) -> None:
    program = tmp_path / "jupyter-lab"
    program.touch(mode=0o755)
    service = notebook(image=None, access_key="the-key", secret_key="the-secret", token="sesame")
    launch = local.prepare("lab", service, state=tmp_path / "state", environ={"PATH": str(tmp_path)})
    assert launch.program == str(program)
    assert launch.environment["JUPYTER_TOKEN"] == "sesame"
    assert launch.environment["AWS_SECRET_ACCESS_KEY"] == "the-secret"
    written = (tmp_path / "state/services/lab" / jupyter.CONFIG_NAME).read_text()
    for text in (" ".join(launch.words), repr(launch), launch.opens, written):
        assert "the-secret" not in text
        assert "sesame" not in text
    made_up = local.prepare("lab", notebook(), state=tmp_path / "state", environ={"PATH": str(tmp_path)})
    assert made_up.opens.endswith(f"?token={made_up.environment['JUPYTER_TOKEN']}")


def test_without_jupyterlab_it_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(DcniosError, match=r"pip install 'dcnios-daemon\[notebook\]'"):
        local.prepare("lab", notebook(), state=tmp_path, environ={"PATH": str(tmp_path)})


class _Jupyter:
    def __init__(self) -> None:
        self.activity = NOW - dt.timedelta(hours=2)
        self.connections = 0
        self.kernels: list[dict[str, str]] = []
        self.url = ""

    async def status(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "token sesame":
            raise web.HTTPForbidden
        return web.json_response(
            {"last_activity": self.activity.isoformat(), "connections": self.connections, "started": "x"}
        )

    async def kernel_list(self, request: web.Request) -> web.Response:
        return web.json_response(self.kernels)

    async def busy(self, token: str = "sesame") -> str | None:
        return await why_busy(self.url, token, idle_for=3600, now=NOW)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[_Jupyter]:
    found = _Jupyter()
    application = web.Application()
    application.router.add_get("/lab/api/status", found.status)
    application.router.add_get("/lab/api/kernels", found.kernel_list)
    async with TestServer(application) as running:
        found.url = str(running.make_url("/lab/api"))
        yield found


async def test_idle_is_who_works_for_nobody(server: _Jupyter) -> None:
    assert await server.busy() is None
    server.kernels = [{"execution_state": "idle"}]
    assert await server.busy() is None
    server.kernels = [{"execution_state": "busy"}]
    assert await server.busy() == "a kernel works"
    server.kernels, server.connections = [], 1
    assert await server.busy() == "1 connected to kernels"
    server.connections, server.activity = 0, NOW - dt.timedelta(minutes=5)
    assert await server.busy() == "used 5m ago"


async def test_what_does_not_answer_is_not_called_idle(server: _Jupyter) -> None:
    with pytest.raises(SinkUnavailable, match="403"):
        await server.busy("wrong")
    server.url += "/elsewhere"
    with pytest.raises(SinkUnavailable, match="404"):
        await server.busy()


def test_a_conflict_of_field_managers_is_told_from_other_conflicts() -> None:
    cause = {
        "reason": "FieldManagerConflict",
        "message": 'conflict with "kubectl"',
        "field": ".spec.replicas",
    }
    body = {"reason": "Conflict", "message": "Apply failed with 1 conflict", "details": {"causes": [cause]}}
    assert isinstance(failure(409, json.dumps(body).encode()), Contested)
    del body["details"]
    assert not isinstance(failure(409, json.dumps(body).encode()), Contested)


CONFIG = """
services:
  lab: {kind: notebook, endpoint: "http://minio:9000", buckets: [inbox], token: sesame}
  web: {kind: container, image: web, port: 80, auth: own}
"""


def dcnios(*words: str) -> Any:
    return CliRunner().invoke(cli.main, words)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(CONFIG)
    return tmp_path / "c.yaml"


def test_check_takes_services_alone_and_shows_no_token(config: Path) -> None:
    done = dcnios("check", "--config", "c.yaml")
    assert done.exit_code == 0, done.output
    assert "2 services: fine" in done.stderr
    assert "sesame" not in done.output
    config.write_text(CONFIG + "  web-: {kind: container, image: web, port: 80, auth: own}\n")
    done = dcnios("check", "--config", "c.yaml")
    assert done.exit_code == 2
    assert "services.web-: objects are called so" in done.stderr


def test_the_daemon_needs_no_file_of_a_service_and_an_empty_one_lets_nobody_in(config: Path) -> None:
    config.write_text(CONFIG.replace("auth: own", "token_variable: T, token_file: the-token"))
    assert dcnios("check", "--config", "c.yaml").exit_code == 0
    done = dcnios("services", "render", "web", "--config", "c.yaml")
    assert done.exit_code == 1
    assert "the-token: No such file" in done.stderr
    config.with_name("the-token").touch()
    done = dcnios("services", "render", "web", "--config", "c.yaml")
    assert done.exit_code == 2
    assert "services.web.token: the-token is empty" in done.stderr


def test_a_login_in_the_clear_is_noted(config: Path) -> None:
    config.write_text(CONFIG.replace("auth: own", "auth: own, expose: {host: web.example.org}"))
    assert "services.web.expose: has no tls_secret" in dcnios("check", "--config", "c.yaml").stderr


def test_a_mistake_in_a_service_is_told_with_its_place(config: Path) -> None:
    config.write_text(CONFIG.replace("auth: own", "auht: own"))
    done = dcnios("check", "--config", "c.yaml")
    assert done.exit_code == 2
    assert "c.yaml:4:" in done.stderr
    assert "did you mean 'auth'?" in done.stderr


def test_render_shows_the_objects_and_no_secret(config: Path) -> None:
    done = dcnios("services", "render", "web", "--config", "c.yaml")
    assert done.exit_code == 0, done.output
    assert [body["kind"] for body in yaml.safe_load_all(done.stdout)] == ["Deployment", "Service"]
    done = dcnios("services", "render", "lab", "--config", "c.yaml")
    assert done.exit_code == 2
    assert "services.lab.image: is missing" in done.stderr


def test_commands_say_who_they_do_not_know(config: Path) -> None:
    done = dcnios("services", "run", "labb", "--config", "c.yaml")
    assert done.exit_code == 2
    assert "did you mean 'lab'?" in done.stderr
    done = dcnios("services", "run", "web", "--config", "c.yaml")
    assert done.exit_code == 2
    assert "only notebooks run here" in done.stderr
    done = dcnios("services", "scale", "lab", "0", "--if-idle", "1h", "--config", "c.yaml")
    assert done.exit_code == 1
    assert "--if-idle is for the CronJobs" in done.stderr
