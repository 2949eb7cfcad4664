"""What a service has that is not part of running it per event: said truly, with what to do instead."""

import math

from dcnios_daemon.importers.fdl.sources import Service
from dcnios_daemon.importers.fields import Block

_QUANTITIES = {"m": 0.001, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_ACCESS = "who may do what is the store's and the cluster's to say, not this daemon's"
_PLAIN = {
    "alpine": "no supervisor is put into the image, so that any image will do",
    "log_level": "there is no supervisor to log: see daemon.log.level for the daemon's own",
    "cluster_id": "all that is imported runs on one cluster, the one in kubernetes",
    "image_prefetch": "a node pulls the image when it first needs it",
}
_GONE = {
    "vo": _ACCESS,
    "owner": _ACCESS,
    "visibility": _ACCESS,
    "allowed_users": _ACCESS,
    "delegation": "nothing is handed on to other clusters: give each its own daemon and the events to both",
    "rescheduler_threshold": "nothing is handed on to other clusters",
    "replicas": "nothing is handed on to other clusters: give each its own daemon and the events to both",
    "federation": "nothing is handed on to other clusters: give each its own daemon and the events to both",
    "mount": "needs a privileged container beside the run: fetch by stage_in, or mount a claim as a volume",
    "kserve": "the model server is not made here: make the InferenceService with KServe itself",
    "volume_status": "is what OSCAR observed, not a setting",
    "deployment": "is what OSCAR observed, not a setting",
    "namespace": "kubernetes.namespace says where Jobs run",
}


def tell(service: Service) -> None:
    """Report all that does not become a part of the route."""
    block = service.block
    for key, what in _PLAIN.items():
        if block.given(key):
            service.notes.differently(block.where(key), what)
    for key, what in _GONE.items():
        if block.given(key):
            service.notes.cannot(block.where(key), what)
    for key in ("token", "isolation_level", "bucket_list"):
        block.texts(key)
    if block.given("token") and service.inputs:
        service.notes.cannot(block.where("token"), "calls to /job are not taken: add a cloudevents source")
    _synchronous(service, block.block("synchronous"))
    _expose(service, block.block("expose"))
    for key in (*_PLAIN, *_GONE):
        block.forget(key)


def in_flight(service: Service) -> int | None:
    """How many may run at once, from what YuniKorn was to grant them in all."""
    block = service.block
    ratios = []
    for key, default in (("cpu", "0.2"), ("memory", "256Mi")):
        total, one = block.text(f"total_{key}"), block.text(key) or default
        if total is None:
            continue
        whole, part = _amount(total), _amount(one)
        if whole and part and whole / part < 1e6:  # noqa: PLR2004 - a limit that is none
            ratios.append(whole / part)
        else:
            service.notes.cannot(block.where(f"total_{key}"), "says nothing that could be a limit: left out")
    if not ratios:
        return None
    most = max(1, math.floor(min(ratios) + 1e-9))
    for key in ("cpu", "memory"):
        if block.given(f"total_{key}"):
            service.notes.differently(block.where(f"total_{key}"), f"in_flight {most}: no YuniKorn is needed")
    return most


def _amount(quantity: str) -> float:
    number = quantity.rstrip("mkKMGTPEi")
    unit = quantity[len(number) :]
    try:
        return float(number) * (_QUANTITIES | _BINARY | {"K": 1e3}).get(unit, math.nan)
    except ValueError:
        return 0.0


def _synchronous(service: Service, block: Block) -> None:
    if any(block.given(key) for key in block.names()):
        what = "calls that wait for their answer (POST /run) are not taken: each event is a Job"
        service.notes.cannot(block.path, what)
    block.close()


def _expose(service: Service, block: Block) -> None:
    """Of one that is no server, or is a route: what is a server has been told of."""
    if not block.names() or service.notes.tells_of(block.path):
        block.forget_all()
    elif any(port.strip("0") for port in [*block.texts("api_port"), *block.texts("port")]):
        block.forget_all()
        what = "it has inputs, and is a route: if it is a server, too, write that as a service"
        service.notes.cannot(block.path, f"{what} (docs/services.md)")
    else:
        service.notes.differently(block.path, "has no api_port: OSCAR exposes nothing, and so it is here")
    block.close()
