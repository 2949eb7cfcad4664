"""How a service is reached, and how many pods it has: Ingress or HTTPRoute, autoscaler, CronJobs. Pure."""

from dcnios_daemon.core.errors import ConfigError
from dcnios_daemon.core.units import duration_text
from dcnios_daemon.exposed.settings import Container, Expose, Notebook, NotebookSleep, Service
from dcnios_daemon.kubernetes.marks import MANAGED_BY, MANAGER, SERVICE
from dcnios_daemon.kubernetes.pods import Json

PORT = 80
"""Of every Service, whatever the program listens on."""
STATUS_URL, STATUS_TOKEN = "NOTEBOOK_STATUS_URL", "NOTEBOOK_TOKEN"
"""By these the CronJob's pod learns whom to ask whether the notebook is idle."""


def inside(name: str) -> Json:
    """The Service's spec."""
    return {
        "selector": {SERVICE: name},
        "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}],
    }


def entrance(name: str, expose: Expose) -> tuple[str, Json]:
    """The kind and the spec of what leads in from outside."""
    return ("httproutes", _route(name, expose)) if expose.gateway else ("ingresses", _ingress(name, expose))


def _ingress(name: str, expose: Expose) -> Json:
    backend = {"service": {"name": name, "port": {"name": "http"}}}
    paths = [{"path": expose.path, "pathType": "Prefix", "backend": backend}]
    spec: Json = {"rules": [{"host": expose.host, "http": {"paths": paths}}]}
    if expose.tls_secret:
        spec["tls"] = [{"hosts": [expose.host], "secretName": expose.tls_secret}]
    if expose.ingress_class:
        spec["ingressClassName"] = expose.ingress_class
    return spec


def _route(name: str, expose: Expose) -> Json:
    namespace, _, gateway = str(expose.gateway).rpartition("/")
    parent = {"name": gateway, **({"namespace": namespace} if namespace else {})}
    return {
        "parentRefs": [parent],
        "hostnames": [expose.host],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": expose.path}}],
                "backendRefs": [{"name": name, "port": PORT}],
            }
        ],
    }


def autoscaler(name: str, service: Service) -> Json | None:
    """The spec of the HorizontalPodAutoscaler. It rests while a sleeping service has no pods."""
    if not isinstance(service, Container) or (service.replicas.max or 0) <= service.replicas.min:
        return None
    target = {"type": "Utilization", "averageUtilization": service.replicas.cpu_percent}
    return {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": service.replicas.min,
        "maxReplicas": service.replicas.max,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }


def cron_jobs(name: str, service: Service, *, image: str | None) -> dict[str, Json]:
    """CronJob name to its spec: this program, which scales the Deployment.

    Raises:
        ConfigError: There is no image of this program.
    """
    sleep = service.sleep
    if sleep is None:
        return {}
    if not image:
        raise ConfigError(
            f"services.{name}.sleep: its CronJobs need kubernetes.staging_image, the image of this program"
        )
    awake = service.replicas.min if isinstance(service, Container) else 1
    idle = sleep.idle_for if isinstance(sleep, NotebookSleep) else None
    words = ["0"] if idle is None else ["0", "--if-idle", duration_text(idle)]
    found = {f"{name}-sleep": (sleep.at, words)}
    if sleep.wake is not None:
        found[f"{name}-wake"] = (sleep.wake, [str(awake)])
    specs = {}
    for job, (schedule, scale) in found.items():
        pod = _scaling_pod(name, service, image=image, words=scale, account=sleep.service_account)
        specs[job] = _cron_job(schedule, sleep.time_zone, pod)
    return specs


def _cron_job(schedule: str, time_zone: str, pod: Json) -> Json:
    # Without the service's own label: these are none of its pods.
    template = {"metadata": {"labels": {MANAGED_BY: MANAGER}}, "spec": pod}
    return {
        "schedule": schedule,
        "timeZone": time_zone,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 600,
        "successfulJobsHistoryLimit": 1,
        "failedJobsHistoryLimit": 1,
        "jobTemplate": {
            "spec": {"backoffLimit": 2, "activeDeadlineSeconds": 300, "template": template},
        },
    }


def _scaling_pod(name: str, service: Service, *, image: str, words: list[str], account: str) -> Json:
    namespace = {"fieldRef": {"fieldPath": "metadata.namespace"}}
    env: list[Json] = [{"name": "DCNIOS_KUBERNETES__NAMESPACE", "valueFrom": namespace}]
    if "--if-idle" in words and isinstance(service, Notebook):
        path = service.expose.path.rstrip("/") if service.expose else ""
        env += [
            {"name": STATUS_URL, "value": f"http://{name}:{PORT}{path}/api"},
            {
                "name": STATUS_TOKEN,
                "valueFrom": {"secretKeyRef": {"name": f"{name}-token", "key": "token"}},
            },
        ]
    container: Json = {
        "name": "scale",
        "image": image,
        "command": ["dcnios", "services", "scale", name, *words],
        "env": env,
        "resources": {"limits": {"cpu": "500m", "memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return {
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "serviceAccountName": account,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
