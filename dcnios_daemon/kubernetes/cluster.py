"""The session with a Kubernetes cluster: who we are there, and requests as bytes.

``kubernetes_asyncio`` reads the configuration (kubeconfig, the pod's own account, exec plugins, OIDC) and
nothing else. Requests go over a session of our own with bodies encoded beforehand: the library's own calls
cost three times the CPU, and its 700 model classes 65 MB that no line here needs.
"""

import asyncio
import functools
import importlib.util
import os
import ssl
import sys
import urllib.request
from collections.abc import AsyncGenerator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import yaml

from dcnios_daemon.core.clock import Clock
from dcnios_daemon.core.errors import SinkUnavailable
from dcnios_daemon.core.settings import Settings
from dcnios_daemon.kubernetes.answers import Unrecognised, failure
from dcnios_daemon.kubernetes.calls import APPLY_PATCH, Call
from dcnios_daemon.kubernetes.plugins import log_in

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds the account that it runs as."""
RENEW_SECONDS = 60.0
"""How often token files are read again and expiring tokens renewed: the library's own period."""
REQUEST_SECONDS, CONNECT_SECONDS = 30.0, 10.0
_UNANSWERED = (aiohttp.ClientError, TimeoutError, OSError)
LONGEST_LINE = 16 * 1024 * 1024
"""Bytes. etcd holds no object over 1.5 MiB; escaped as JSON one may be six times that."""


class KubernetesSettings(Settings):
    """The cluster that ``job`` runs go to."""

    namespace: str | None = None
    """Where Jobs are made. Default: the pod's own in a cluster, else the context's, else ``default``."""
    kubeconfig: Path | None = None
    """Default: the pod's own account in a cluster, else ``$KUBECONFIG``, else ``~/.kube/config``."""
    context: str | None = None
    """A context of the kubeconfig. Default: its current one."""
    staging_image: str | None = None
    """The image of this very program, for the containers that fetch inputs and store results."""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach the cluster, at one moment."""

    url: str
    namespace: str
    authorization: str | None
    tls: ssl.SSLContext | None
    server_name: str | None = None
    """What the server's certificate must say, where that is not the URL's host."""
    proxy: str | None = None

    def __repr__(self) -> str:
        """Name the server, never the credential."""
        return f"<Access {self.url} {self.namespace}>"


def _library() -> tuple[Any, Any]:
    """``kubernetes_asyncio``'s configuration loader and its Configuration class."""
    if "kubernetes_asyncio" not in sys.modules:
        try:
            _import_lightly()
        except (ImportError, AttributeError):  # laid out otherwise: it works all the same, in more memory
            for module in [name for name in sys.modules if name.partition(".")[0] == "kubernetes_asyncio"]:
                del sys.modules[module]
    from kubernetes_asyncio import client, config  # noqa: PLC0415 - only daemons with a cluster pay for it

    return config, client.Configuration


def _import_lightly() -> None:
    """Import the loader without the two packages above it, which import every API and model when run.

    They are made from their specs, not run, and given what the loader takes from them.
    """
    for package in ("kubernetes_asyncio", "kubernetes_asyncio.client"):
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise ImportError(package)
        sys.modules[package] = importlib.util.module_from_spec(spec)
    from kubernetes_asyncio import client  # noqa: PLC0415
    from kubernetes_asyncio.client import configuration  # noqa: PLC0415

    # ApiClient is for making whole clients, which nobody asks for here.
    vars(client).update(Configuration=configuration.Configuration, ApiClient=None)
    from kubernetes_asyncio import config  # noqa: F401, PLC0415 - now, while a failure can be mended


class Login:
    """Finds out how to reach the cluster. Files are read and plugins run in a thread, not on the loop."""

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self._loader: Any = None
        self._configuration: Any = None
        self._tls: tuple[object, ssl.SSLContext] | None = None

    async def access(self, *, afresh: bool) -> Access:
        """The way in, as of now.

        Args:
            afresh: Trust nothing from before, for the cluster refused it; else only renew what expires.

        Raises:
            SinkUnavailable: There is no usable configuration, or a plugin failed. Says which.
        """
        where = await asyncio.to_thread(self._kubeconfig)
        library, configuration = await asyncio.to_thread(_library)
        if afresh or self._configuration is None:
            self._configuration, self._loader = configuration(), None
        try:
            if where is None:
                await asyncio.to_thread(library.load_incluster_config, self._configuration)
            elif self._loader is None:
                self._loader = await log_in(
                    library.load_kube_config(
                        config_file=where,
                        context=self._settings.context,
                        client_configuration=self._configuration,
                        persist_config=False,
                    )
                )
            else:
                await log_in(self._loader.load_and_set(self._configuration))
            return await asyncio.to_thread(self._describe)
        except (
            library.ConfigException,
            yaml.YAMLError,
            OSError,
            ArithmeticError,
            AssertionError,
            AttributeError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:  # the library checks little: a wrong file shows as any of these
            said = f"{type(error).__name__}: {error}"[:300]
            source = "the pod's account" if where is None else where
            raise SinkUnavailable(f"no access to a cluster by {source}: {said}") from error

    def _kubeconfig(self) -> str | None:
        """The kubeconfig (or several, as ``$KUBECONFIG`` may name them); None: the pod's own account."""
        named = str(self._settings.kubeconfig or "") or os.environ.get("KUBECONFIG", "")
        if not named and not self._settings.context and (ACCOUNT / "token").exists():
            return None
        where = named or "~/.kube/config"
        if not any(Path(part).expanduser().is_file() for part in where.split(os.pathsep) if part):
            raise SinkUnavailable(f"no access to a cluster: there is no file {where}")
        return where

    def _describe(self) -> Access:
        found = self._configuration
        if self._loader is None:
            namespace: str = (ACCOUNT / "namespace").read_text("utf-8").strip()
        else:
            namespace = ((self._loader.current_context or {}).get("context") or {}).get("namespace", "")
        token = found.api_key.get("BearerToken")
        return Access(
            url=found.host,
            namespace=self._settings.namespace or namespace or "default",
            authorization=token.strip() if token else None,
            tls=self._same_tls(found) if found.host.startswith("https:") else None,
            server_name=found.tls_server_name,
            proxy=found.proxy or _proxy(found.host),
        )

    def _same_tls(self, found: Any) -> ssl.SSLContext:  # noqa: ANN401 - kubernetes_asyncio's Configuration
        """The context of before while its files say the same: a new one would mean new connections."""
        files = (found.ssl_ca_cert, found.cert_file, found.key_file)
        sign = (found.verify_ssl, *(Path(file).read_bytes() if file else None for file in files))
        if self._tls is None or self._tls[0] != sign:
            made = ssl.create_default_context(cafile=found.ssl_ca_cert)
            if found.cert_file:
                made.load_cert_chain(found.cert_file, keyfile=found.key_file)
            if not found.verify_ssl:
                made.check_hostname = False
                made.verify_mode = ssl.CERT_NONE
            self._tls = (sign, made)
        return self._tls[1]


def _proxy(url: str) -> str | None:
    """As the environment says. Asked once: asking per request costs more than the request's own header."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)


class ClusterSession:
    """Requests to one API server. Opens at the first; many may use it at the same time.

    For paths see :class:`~dcnios_daemon.kubernetes.calls.Call`. Any call raises the errors of
    :mod:`dcnios_daemon.kubernetes.answers`, or SinkUnavailable when there is no answer.
    """

    def __init__(self, settings: KubernetesSettings, clock: Clock) -> None:
        self._login = Login(settings)
        self._clock = clock
        self._access: Access | None = None
        self._renew_at = 0.0
        self._renewing = asyncio.Lock()
        self._http: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        query: Mapping[str, str] | None = None,
        seconds: float = REQUEST_SECONDS,
    ) -> bytes:
        """The body of a successful answer; to a POST or PATCH (a JSON merge patch) the object's metadata."""
        return await self._read(Call(method, path, query, body, _limits(seconds)))

    async def apply(self, path: str, body: bytes, query: Mapping[str, str]) -> bytes:
        """Server-side apply of an object; the metadata of what it is now.

        Args:
            path: The object's.
            body: All that we want to be so, as JSON.
            query: ``fieldManager``, and perhaps ``force`` and ``dryRun``.

        Raises:
            Contested: Others want it otherwise, and ``force`` is not given.
        """
        return await self._read(Call("PATCH", path, query, body, _limits(REQUEST_SECONDS), APPLY_PATCH))

    async def _read(self, call: Call) -> bytes:
        try:
            async with await self._answer(call) as answer:
                return await answer.read()
        except _UNANSWERED as error:
            raise _unanswered(call.path, error) from error

    async def end_of(self, path: str, query: Mapping[str, str], *, most: int, seconds: float) -> bytes:
        """The last ``most`` bytes of a successful answer, however long it is."""
        try:
            async with await self._answer(Call("GET", path, query, None, _limits(seconds))) as answer:
                end = bytearray()
                async for chunk in answer.content.iter_any():
                    end += chunk
                    del end[:-most]
                return bytes(end)
        except _UNANSWERED as error:
            raise _unanswered(path, error) from error

    async def lines(self, path: str, query: Mapping[str, str], *, quiet: float) -> AsyncGenerator[bytes]:
        """The lines of an endless answer, until the server ends it or says nothing for ``quiet`` seconds."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=quiet)
        begun: list[bytes] = []
        try:
            async with await self._answer(Call("GET", path, query, None, limits)) as answer:
                try:
                    async for chunk in answer.content.iter_any():
                        *ended, rest = chunk.split(b"\n")
                        for line in ended:
                            yield b"".join((*begun, line))
                            begun.clear()
                        begun.append(rest)
                        if sum(map(len, begun)) > LONGEST_LINE:
                            raise SinkUnavailable(f"{path}: a line of over {LONGEST_LINE} bytes")
                except aiohttp.ServerTimeoutError:
                    return
        except _UNANSWERED as error:
            raise _unanswered(path, error) from error

    async def namespace(self) -> str:
        """Where Jobs are made."""
        return (await self._current()).namespace

    async def aclose(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def _answer(self, call: Call) -> aiohttp.ClientResponse:
        """A successful answer, its body not read. A credential that is refused is renewed, once."""
        access = await self._current()
        try:
            return await self._send(access, call)
        except Unrecognised:
            return await self._send(await self._renew(access, afresh=True), call)

    async def _send(self, access: Access, call: Call) -> aiohttp.ClientResponse:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        answer = await self._http.request(
            call.method,
            access.url + call.address(access.namespace),
            params=call.query,
            data=call.stream(),
            headers=call.headers(access.authorization),
            timeout=call.limits,
            ssl=access.tls or True,
            server_hostname=access.server_name,
            proxy=access.proxy,
            allow_redirects=False,
        )
        if answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return answer
        async with answer:
            raise failure(answer.status, await answer.read(), retry_after=answer.headers.get("Retry-After"))

    async def _current(self) -> Access:
        access = self._access
        if access is None:
            return await self._renew(None, afresh=True)
        if self._clock.monotonic() >= self._renew_at and not self._renewing.locked():
            return await self._renew(access, afresh=False)
        return access

    async def _renew(self, old: Access | None, *, afresh: bool) -> Access:
        """A newer way in than ``old``. Many may ask at once: one finds out, the others take what it found."""
        async with self._renewing:
            if self._access is not None and self._access is not old:
                return self._access
            self._renew_at = self._clock.monotonic() + RENEW_SECONDS
            try:
                self._access = await self._login.access(afresh=afresh)
            except SinkUnavailable:
                if afresh or old is None:
                    raise
                return old  # it may still be good: the cluster will say when it is not
            return self._access


@functools.lru_cache(maxsize=8)
def _limits(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS)


def _unanswered(path: str, error: BaseException) -> SinkUnavailable:
    """The library's error as ours."""
    said = str(error) or type(error).__name__
    return SinkUnavailable(f"the cluster does not answer for {path.partition('/')[0]}: {said}")
