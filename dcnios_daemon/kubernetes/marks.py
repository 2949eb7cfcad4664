"""The labels and annotations by which what we made is known again."""

MANAGED_BY, MANAGER = "app.kubernetes.io/managed-by", "dcnios-daemon"
INSTANCE, ROUTE, KEY = "dcnios-daemon/instance", "dcnios-daemon/route", "dcnios-daemon/key"
ATTEMPT = "dcnios-daemon/attempt"
SINK = "dcnios-daemon/sink"
"""The kind of ``run``, on what is not an ordinary Job's."""
SERVICE = "dcnios-daemon/service"
"""The exposed service's name, on all that makes it."""
ORDINARY = "job"
"""The kind of those that do not say so."""
CARRIER = "dcnios-daemon/payload"
"""``secret`` on a Job whose payload is in a Secret of its name."""
QUEUE = "kueue.x-k8s.io/queue-name"


def selector(instance: str) -> str:
    """The label selector of all that this daemon has made."""
    return f"{MANAGED_BY}={MANAGER},{INSTANCE}={instance}"


def route_label(route: str) -> str:
    """The route's name as a label value, which may not end with a hyphen: no two routes share one."""
    return f"{route}_1" if route.endswith("-") else route
