"""Who we are at the cluster, and what its answers mean."""

import base64
import json
import os
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dcnios_daemon.core.errors import OrderRefused, SinkBusy, SinkError, SinkUnavailable
from dcnios_daemon.kubernetes import login as module
from dcnios_daemon.kubernetes import plugins
from dcnios_daemon.kubernetes.answers import Expired, Missing, Taken, Unrecognised, failure
from dcnios_daemon.kubernetes.login import Access, KubernetesSettings, Login
from tests.servers.pki import Pki

QUOTA = 'jobs.batch "a" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: 1, limited: 1'


@pytest.mark.parametrize(
    ("status", "reason", "message", "expected"),
    [
        (429, "TooManyRequests", "slow down", SinkBusy),
        (403, "Forbidden", QUOTA, SinkBusy),
        (403, "Forbidden", "status unknown for quota: q", SinkBusy),
        (403, "Forbidden", 'User "x" cannot create resource "jobs"', OrderRefused),
        (403, "Forbidden", "failed quota: q: must specify limits.cpu", OrderRefused),
        (400, "BadRequest", "no JSON", OrderRefused),
        (404, "NotFound", 'namespaces "x" not found', Missing),
        (409, "AlreadyExists", "it does", Taken),
        (409, "Conflict", "the quota was changed", SinkUnavailable),
        (410, "Expired", "too old", Expired),
        (413, "", "too large", OrderRefused),
        (422, "Invalid", "spec.x: required", OrderRefused),
        (401, "Unauthorized", "who are you", Unrecognised),
        (408, "Timeout", "late", SinkUnavailable),
        (301, "", "elsewhere", SinkUnavailable),
        (500, "InternalError", "failed calling webhook", SinkUnavailable),
        (503, "ServiceUnavailable", "starting", SinkUnavailable),
        (504, "Timeout", "late", SinkUnavailable),
    ],
)
def test_answers(status: int, reason: str, message: str, expected: type[SinkError]) -> None:
    error = failure(status, json.dumps({"kind": "Status", "reason": reason, "message": message}).encode())
    assert type(error) is expected
    assert message in str(error)
    assert str(status) in str(error)


@pytest.mark.parametrize("body", [b"", b"<html>\n  Bad\n Gateway</html>", b"[1]", b'{"message": 7}', b"\xff"])
def test_an_answer_that_is_no_status_is_quoted(body: bytes) -> None:
    assert isinstance(failure(502, body), SinkUnavailable)
    assert "\n" not in str(failure(502, body))


def test_long_words_are_cut() -> None:
    assert len(str(failure(422, json.dumps({"message": "x" * 10_000}).encode()))) == 500


def test_the_pause_that_was_asked_for_is_told() -> None:
    def pause(**given: Any) -> float | None:
        error = failure(429, json.dumps({"details": given.pop("details", {})}).encode(), **given)
        assert isinstance(error, SinkBusy)
        return error.retry_after

    assert pause(retry_after="7") == 7
    assert pause(details={"retryAfterSeconds": 3}) == 3
    assert pause(retry_after="Wed, 21 Oct 2026 07:28:00 GMT") is None
    assert pause() is None


# --- logins, by the real library ----------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(module, "ACCOUNT", tmp_path / "no-account")


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    folder = tmp_path / "pki"
    folder.mkdir()
    made = Pki(folder)
    made.create()
    return made


def kubeconfig(
    folder: Path, user: dict[str, Any], *, context: dict[str, Any] | None = None, **more: Any
) -> Path:
    path = folder / "kubeconfig"
    here = {"cluster": "c", "user": "u", **(context or {})}
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "contexts": [
                    {"name": "here", "context": here},
                    {"name": "there", "context": {**here, "namespace": "t"}},
                ],
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1", **more}}],
                "users": [{"name": "u", "user": user}],
            }
        )
    )
    return path


async def access(path: Path | None = None, **settings: Any) -> Access:
    return await Login(KubernetesSettings(kubeconfig=path, **settings)).access(afresh=True)


async def test_a_token_in_the_kubeconfig(tmp_path: Path) -> None:
    found = await access(kubeconfig(tmp_path, {"token": "secret-1"}))
    assert found.authorization == "Bearer secret-1"
    assert (found.url, found.namespace, found.tls) == ("http://127.0.0.1:1", "default", None)
    assert "secret-1" not in repr(found)


async def test_a_token_file_is_read_again(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one\n")
    login = Login(KubernetesSettings(kubeconfig=kubeconfig(tmp_path, {"tokenFile": str(token)})))
    assert (await login.access(afresh=True)).authorization == "Bearer one"
    token.write_text("two\n")
    assert (await login.access(afresh=False)).authorization == "Bearer two"


def exec_user(tmp_path: Path, status: str, expires: str = "2099-01-01T00:00:00Z") -> dict[str, Any]:
    """A plugin that gives token-1, token-2, ... with each call."""
    plugin = tmp_path / "plugin"
    plugin.write_text(
        f"""#!/bin/sh
n=$(($(cat {tmp_path}/calls 2>/dev/null || echo 0) + 1)); echo $n > {tmp_path}/calls
{status or "true"}
echo '{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
 "status": {{"token": "token-'$n'", "expirationTimestamp": "{expires}"}}}}'
"""
    )
    plugin.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}}


async def test_an_exec_plugin_is_run_again_when_its_token_expires_or_is_refused(tmp_path: Path) -> None:
    login = Login(KubernetesSettings(kubeconfig=kubeconfig(tmp_path, exec_user(tmp_path, ""))))
    assert (await login.access(afresh=True)).authorization == "Bearer token-1"
    assert (await login.access(afresh=False)).authorization == "Bearer token-1"
    assert (await login.access(afresh=True)).authorization == "Bearer token-2"
    kubeconfig(tmp_path, exec_user(tmp_path, "", expires="2020-01-01T00:00:00Z"))
    assert (await login.access(afresh=True)).authorization == "Bearer token-3"
    assert (await login.access(afresh=False)).authorization == "Bearer token-4"


async def test_a_plugin_that_fails_is_named_with_its_words(tmp_path: Path) -> None:
    user = exec_user(tmp_path, "echo no ticket >&2; exit 3")
    with pytest.raises(SinkUnavailable, match="no ticket"):
        await access(kubeconfig(tmp_path, user))


async def test_a_plugin_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "SECONDS", 0.2)
    with pytest.raises(SinkUnavailable, match="TimeoutError"):
        await access(kubeconfig(tmp_path, exec_user(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60")))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_certificates_become_one_tls_context_until_they_change(tmp_path: Path, pki: Pki) -> None:
    user = {"client-certificate": str(pki.certificate), "client-key": str(pki.key)}
    path = kubeconfig(
        tmp_path, user, server="https://127.0.0.1:1", **dict[str, Any]({"certificate-authority": str(pki.ca)})
    )
    login = Login(KubernetesSettings(kubeconfig=path))
    first = await login.access(afresh=True)
    assert first.tls is not None
    assert first.tls.verify_mode is ssl.CERT_REQUIRED
    assert first.authorization is None
    assert (await login.access(afresh=True)).tls is first.tls
    pki.ca.write_text(pki.ca.read_text() + "\n")
    assert (await login.access(afresh=True)).tls is not first.tls


async def test_inline_certificate_and_server_name(tmp_path: Path, pki: Pki) -> None:
    inline: dict[str, Any] = {
        "server": "https://127.0.0.1:1",
        "certificate-authority-data": base64.b64encode(pki.ca.read_bytes()).decode(),
        "tls-server-name": "kubernetes.default",
        "proxy-url": "http://proxy:3128",
    }
    found = await access(kubeconfig(tmp_path, {"username": "u", "password": "p"}, **inline))
    assert found.server_name == "kubernetes.default"
    assert found.proxy == "http://proxy:3128"
    assert found.authorization == "Basic " + base64.b64encode(b"u:p").decode()


async def test_the_environments_proxy_is_used_unless_it_says_no(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kubeconfig(tmp_path, {"token": "t"}, server="http://api.example.org")
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    assert (await access(path)).proxy == "http://proxy:3128"
    monkeypatch.setenv("no_proxy", "example.org")
    assert (await access(path)).proxy is None


async def test_the_pods_own_account(tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("of-the-pod")
    (account / "namespace").write_text("jobs-here")
    (account / "ca.crt").write_bytes(pki.ca.read_bytes())
    monkeypatch.setattr(module, "ACCOUNT", account)
    module._library()
    from kubernetes_asyncio.config import incluster_config  # noqa: PLC0415 - after the light import

    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(account / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(account / "ca.crt"))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    login = Login(KubernetesSettings())
    found = await login.access(afresh=True)
    assert (found.url, found.namespace) == ("https://[fd00::1]:443", "jobs-here")
    assert found.authorization == "Bearer of-the-pod"
    (account / "token").write_text("rotated")
    assert (await login.access(afresh=False)).authorization == "Bearer rotated"


@pytest.mark.parametrize(
    ("settings", "namespace"), [({}, "c-ns"), ({"context": "there"}, "t"), ({"namespace": "mine"}, "mine")]
)
async def test_where_jobs_go(tmp_path: Path, settings: dict[str, Any], namespace: str) -> None:
    path = kubeconfig(tmp_path, {"token": "t"}, context={"namespace": "c-ns"})
    assert (await access(path, **settings)).namespace == namespace


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no file"),
        ("", "kubeconfig"),
        ("]", "kubeconfig"),
        ("[1, 2]", "kubeconfig"),
        ("current-context: nowhere\ncontexts: []\nclusters: []\nusers: []", "nowhere"),
        ("\x00", "kubeconfig"),
    ],
)
async def test_a_wrong_kubeconfig_is_named(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SinkUnavailable, match=said):
        await access(path)


async def test_kubeconfig_and_home_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SinkUnavailable, match=r"~/\.kube/config"):
        await access()
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path, {"token": "of-home"}).rename(tmp_path / ".kube/config")
    assert (await access()).authorization == "Bearer of-home"
    monkeypatch.setenv("KUBECONFIG", f"/nowhere:{kubeconfig(tmp_path, {'token': 'of-env'})}")
    assert (await access()).authorization == "Bearer of-env"


LIGHT = """
import sys, resource, aiohttp, yaml, pydantic, msgspec
from dcnios_daemon.kubernetes import login
rss = lambda: int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
before = rss()
{break_it}
config, configuration = login._library()
assert config.load_kube_config and configuration().verify_ssl
print(rss() - before, sum(name.startswith("kubernetes_asyncio.client.models") for name in sys.modules))
"""


def test_the_library_is_imported_without_its_models() -> None:
    """All of it costs 65 MB."""
    ran = subprocess.run(
        [sys.executable, "-c", LIGHT.format(break_it="")], capture_output=True, text=True, check=True
    )
    grown, models = map(int, ran.stdout.split())
    assert models == 0
    assert grown < 15 * 1024 * 1024


def test_a_library_that_is_laid_out_otherwise_is_imported_whole() -> None:
    broken = "import importlib.util; importlib.util.find_spec = lambda _: None"
    ran = subprocess.run(
        [sys.executable, "-c", LIGHT.format(break_it=broken)], capture_output=True, text=True, check=True
    )
    assert int(ran.stdout.split()[1]) > 100
