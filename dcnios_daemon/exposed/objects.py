"""From a service's block to its Kubernetes objects. Pure, but for a random token and secrets in files."""

import base64
import functools
import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from dcnios_daemon.core.errors import ConfigError
from dcnios_daemon.core.settings import REDACTED, Secret
from dcnios_daemon.exposed import jupyter
from dcnios_daemon.exposed.reach import autoscaler, cron_jobs, entrance, inside
from dcnios_daemon.exposed.settings import Container, Notebook, Service
from dcnios_daemon.kubernetes.calls import api_version
from dcnios_daemon.kubernetes.marks import MANAGED_BY, MANAGER, SERVICE
from dcnios_daemon.kubernetes.pods import (
    Json,
    from_secret,
    literal,
    merge,
    mounts,
    volume_source,
    with_gpu,
)

MAIN = "service"
"""The container's name."""
CONFIG_FOLDER, CONFIG_VOLUME = "/etc/dcnios-notebook", "dcnios-config"
MADE_OF = "dcnios-daemon/made-of"
"""A pod's annotation: versions of the Secrets and ConfigMaps that it was started with, so that a change of
them starts new pods."""
_KINDS = {
    "secrets": "Secret",
    "configmaps": "ConfigMap",
    "deployments": "Deployment",
    "services": "Service",
    "ingresses": "Ingress",
    "httproutes": "HTTPRoute",
    "horizontalpodautoscalers": "HorizontalPodAutoscaler",
    "cronjobs": "CronJob",
}
_TOKEN_BYTES = 32


class Object(msgspec.Struct, frozen=True, kw_only=True):
    """One object as it should be."""

    resource: str
    """Its kind, as in the API's addresses: ``deployments``."""
    body: Json
    made_once: bool = False
    """Left as it is where it is there already: a random token."""

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.body["metadata"]["name"])

    @property
    def path(self) -> str:
        """Its address below the namespace."""
        return f"{self.resource}/{self.name}"

    @property
    def is_read_at_start(self) -> bool:
        """Whether pods read it when they start."""
        return self.resource in {"secrets", "configmaps"}

    def shown(self) -> Json:
        """The same without secrets, for people."""
        if self.resource != "secrets":
            return self.body
        return {**self.body, "data": dict.fromkeys(self.body["data"], REDACTED)}


def places(name: str) -> list[str]:
    """The addresses of all that a service of this name may consist of, whatever its settings say."""
    return [
        f"cronjobs/{name}-sleep",
        f"cronjobs/{name}-wake",
        f"horizontalpodautoscalers/{name}",
        f"ingresses/{name}",
        f"httproutes/{name}",
        f"services/{name}",
        f"deployments/{name}",
        f"configmaps/{name}-config",
        f"secrets/{name}-token",
        f"secrets/{name}-keys",
    ]


def build(name: str, service: Service, *, image: str | None) -> list[Object]:
    """All objects of a service, in the order in which they are applied.

    Args:
        name: The service's name.
        service: Its settings. Secrets that are files are read.
        image: This program's, for the CronJobs (``kubernetes.staging_image``).

    Raises:
        ConfigError: It cannot work; names the key.
        OSError: A secret's file cannot be read.
    """
    refuse(name, service, image=image)
    if not service.image:
        raise ConfigError(f"services.{name}.image: is missing: only `dcnios services run` can do without")
    make = functools.partial(_object, name)
    found = [*_secrets(make, name, service), *_config(make, name, service)]
    found.append(make("deployments", name, spec=_deployment(name, service), annotations=service.annotations))
    found.append(make("services", name, spec=inside(name)))
    if service.expose is not None:
        resource, spec = entrance(name, service.expose)
        found.append(make(resource, name, spec=spec, annotations=service.expose.annotations))
    if (scaler := autoscaler(name, service)) is not None:
        found.append(make("horizontalpodautoscalers", name, spec=scaler))
    jobs = cron_jobs(name, service, image=image)
    return [*found, *(make("cronjobs", job, spec=spec) for job, spec in jobs.items())]


def refuse(name: str, service: Service, *, image: str | None) -> None:
    """Say whether the parts cannot fit each other, without reading a secret.

    Raises:
        ConfigError: See :func:`build`.
    """
    if name.endswith("-"):
        raise ConfigError(
            f"services.{name}: objects are called so, and their names end with a letter or digit"
        )
    _environment(name, service)
    cron_jobs(name, service, image=image)


def _labels(name: str) -> dict[str, str]:
    return {MANAGED_BY: MANAGER, SERVICE: name}


def _object(
    service: str,
    resource: str,
    name: str,
    *,
    annotations: Mapping[str, str] | None = None,
    made_once: bool = False,
    **parts: Any,  # noqa: ANN401 - spec or data
) -> Object:
    meta: Json = {"name": name, "labels": _labels(service)}
    if annotations:
        meta["annotations"] = dict(annotations)
    body = {"apiVersion": api_version(resource), "kind": _KINDS[resource], "metadata": meta, **parts}
    return Object(resource=resource, body=body, made_once=made_once)


def _secrets(make: Any, name: str, service: Service) -> list[Object]:  # noqa: ANN401 - a partial
    found = []
    if _token_variable(service) is not None:
        made_up = Secret(secrets.token_urlsafe(_TOKEN_BYTES))
        data = {"token": _encoded(revealed(service.token or made_up, f"services.{name}.token"))}
        found.append(make("secrets", f"{name}-token", data=data, made_once=service.token is None))
    if isinstance(service, Notebook) and service.access_key and service.secret_key:
        data = {
            "access_key": _encoded(revealed(service.access_key, f"services.{name}.access_key")),
            "secret_key": _encoded(revealed(service.secret_key, f"services.{name}.secret_key")),
        }
        found.append(make("secrets", f"{name}-keys", data=data))
    return found


def revealed(secret: Secret, where: str) -> str:
    """The secret itself.

    Raises:
        ConfigError: Its file is empty: a program that is told an empty token lets everybody in.
        OSError: Its file cannot be read.
    """
    text = secret.reveal()
    if not text:
        raise ConfigError(f"{where}: {secret.path} is empty")
    return text


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _token_variable(service: Service) -> str | None:
    return jupyter.TOKEN if isinstance(service, Notebook) else service.token_variable


def _config(make: Any, name: str, service: Service) -> list[Object]:  # noqa: ANN401 - a partial
    if not isinstance(service, Notebook):
        return []
    text = jupyter.config(service, ip="", base=_base(service))
    return [make("configmaps", f"{name}-config", data={jupyter.CONFIG_NAME: text})]


def _base(service: Service) -> str:
    return service.expose.path if service.expose else "/"


def _deployment(name: str, service: Service) -> Json:
    labels = {**service.labels, **_labels(name)}
    meta: Json = {"labels": labels}
    if service.annotations:
        meta["annotations"] = dict(service.annotations)
    spec: Json = {
        "selector": {"matchLabels": {SERVICE: name}},
        "template": {"metadata": meta, "spec": _pod(name, service)},
        "revisionHistoryLimit": 3,
    }
    if isinstance(service, Notebook):
        spec["strategy"] = {"type": "Recreate"}  # two servers on one volume would be one too many
    # Where others scale (the autoscaler, the hours of sleep, people), the number is theirs.
    if isinstance(service, Container) and service.sleep is None and service.replicas.min > 1:
        is_scaled = (service.replicas.max or 0) > service.replicas.min
        spec |= {} if is_scaled else {"replicas": service.replicas.min}
    return spec


def _pod(name: str, service: Service) -> Json:
    volumes = [{"name": volume, **volume_source(given)} for volume, given in service.volumes.items()]
    container = _container(name, service)
    if isinstance(service, Notebook):
        volumes.append({"name": CONFIG_VOLUME, "configMap": {"name": f"{name}-config"}})
        mount = {"name": CONFIG_VOLUME, "mountPath": CONFIG_FOLDER, "readOnly": True}
        container["volumeMounts"] = [*container["volumeMounts"], mount]
    pod: Json = {"enableServiceLinks": False, "containers": [container], "volumes": volumes}
    if service.service_account:
        pod["serviceAccountName"] = service.service_account
    else:
        pod["automountServiceAccountToken"] = False
    if service.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret} for secret in service.image_pull_secrets]
    merged: Json = merge(pod, service.pod)
    return merged


def _container(name: str, service: Service) -> Json:
    container: Json = {
        "name": MAIN,
        "image": service.image,
        "ports": [{"name": "http", "containerPort": service.port, "protocol": "TCP"}],
        "env": _environment(name, service),
        "volumeMounts": mounts(service.volumes),
        "readinessProbe": {**_probe(service), "periodSeconds": 5, "timeoutSeconds": 5},
        "securityContext": {"allowPrivilegeEscalation": False},
    }
    if wanted := with_gpu(service.resources):
        container["resources"] = {"limits": wanted}
    return container | _words(service)


def _words(service: Service) -> Json:
    if isinstance(service, Notebook):
        file = f"{CONFIG_FOLDER}/{jupyter.CONFIG_NAME}"
        return {"command": [literal(word) for word in jupyter.command("jupyter-lab", file, service.args)]}
    given = {"command": service.command, "args": service.args}
    return {key: [literal(word) for word in words] for key, words in given.items() if words}


def _environment(name: str, service: Service) -> list[Json]:
    values = dict(service.env)
    held = dict(service.secrets)
    variable = _token_variable(service)
    if variable is not None:
        held[variable] = f"{name}-token/token"
    if isinstance(service, Notebook):
        values = {**jupyter.variables(service), **values}
        keys = service.keys or (f"{name}-keys" if service.access_key else None)
        if keys is not None:
            held |= {jupyter.ACCESS_KEY: f"{keys}/access_key", jupyter.SECRET_KEY: f"{keys}/secret_key"}
    if twice := set(values) & set(held):
        raise ConfigError(f"services.{name}.env: {', '.join(sorted(twice))}: comes from a Secret")
    plain = [{"name": variable, "value": literal(value)} for variable, value in values.items()]
    return [*plain, *(from_secret(variable, address) for variable, address in held.items())]


def _probe(service: Service) -> Json:
    if isinstance(service, Notebook):
        path: str | None = f"{_base(service).rstrip('/')}/api"
    else:
        path = service.health_path
    return {"httpGet": {"path": path, "port": "http"}} if path else {"tcpSocket": {"port": "http"}}
