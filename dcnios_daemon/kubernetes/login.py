"""Who we are at a Kubernetes cluster, and where it is.

``kubernetes_asyncio`` reads the configuration (kubeconfig, the pod's own account, exec plugins, OIDC) and
nothing else: its 700 model classes are 65 MB that no line here needs.
"""

import asyncio
import importlib.util
import os
import ssl
import sys
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import yaml

from dcnios_daemon.core.errors import SinkUnavailable
from dcnios_daemon.core.settings import Settings
from dcnios_daemon.kubernetes.plugins import log_in

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds the account that it runs as."""


class KubernetesSettings(Settings):
    """The cluster that ``job`` and ``interlink`` runs go to, and services."""

    namespace: str | None = None
    """Where Jobs are made. Default: the pod's own in a cluster, else the context's, else ``default``."""
    kubeconfig: Path | None = None
    """Default: the pod's own account in a cluster, else ``$KUBECONFIG``, else ``~/.kube/config``."""
    context: str | None = None
    """A context of the kubeconfig. Default: its current one."""
    staging_image: str | None = None
    """The image of this very program, for containers that fetch inputs and store results, and for those that
    put services to sleep."""


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
