"""kwok: pretend nodes, whose pods run for as long as they are told and use nothing.

https://kwok.sigs.k8s.io/. The control plane around them is real, so that Jobs end as they do on real nodes,
but by the thousands.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers import golang
from tests.servers.access import ClusterAccess
from tests.servers.process import Server
from tests.servers.workspace import Workspace

_MARK = "dcnios-test/pretend"
"""Annotation, label and taint of our nodes; its value says whose they are."""
_PODS_OF_A_NODE = 1000
_READY = """\
{{ $now := Now }}
phase: Running
startTime: {{ $now | Quote }}
conditions:
- {type: Initialized, status: "True", lastTransitionTime: {{ $now | Quote }}}
- {type: ContainersReady, status: "True", lastTransitionTime: {{ $now | Quote }}}
- {type: Ready, status: "True", lastTransitionTime: {{ $now | Quote }}}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: true
  restartCount: 0
  state: {running: {startedAt: {{ $now | Quote }}}}
{{ end }}
"""
_SUCCEEDED = """\
{{ $now := Now }}
phase: Succeeded
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: false
  restartCount: 0
  state:
    terminated:
      exitCode: 0
      reason: Completed
      startedAt: {{ $now | Quote }}
      finishedAt: {{ $now | Quote }}
{{ end }}
"""


_NODE_READY = """\
{{ $now := Now }}
conditions:
- type: Ready
  status: "True"
  reason: Pretend
  message: it is none
  lastHeartbeatTime: {{ $now | Quote }}
  lastTransitionTime: {{ $now | Quote }}
"""


class Kwok(Server):
    """Some nodes of a cluster, whose pods succeed after about `seconds`.

    Only pods with `pod` in their spec come here, so that the cluster may have real nodes beside them.
    """

    def __init__(self, space: Workspace, access: ClusterAccess, *, seconds: float, nodes: int = 4) -> None:
        super().__init__(space, "kwok")
        self._access = access
        self._seconds = seconds
        self._mark = space.path.name
        self._nodes = [f"pretend-{self._mark}-{number}" for number in range(nodes)]
        self._program = Path()

    @property
    def pod(self) -> Mapping[str, object]:
        """What a pod's spec must hold to come to these nodes."""
        return {
            "nodeSelector": {_MARK: self._mark},
            "tolerations": [{"key": _MARK, "operator": "Exists", "effect": "NoSchedule"}],
        }

    def prepare(self) -> None:
        """Builds kwok, says how its pods behave, and makes the nodes."""
        self._program = golang.kwok(self.space.cache)
        ready = '.status.conditions.[] | select( .type == "Ready" and .status == "True" )'
        stages = [
            _stage("Node", "ready", [{"key": ready, "operator": "DoesNotExist"}], _NODE_READY),
            _stage("Pod", "begin", [_is(".status.phase", "Pending")], _READY),
            _stage("Pod", "end", [_is(".status.phase", "Running")], _SUCCEEDED, after=self._seconds),
            _stage("Pod", "go", [{"key": ".metadata.deletionTimestamp", "operator": "Exists"}], None),
        ]
        # YAML documents, which JSON ones are too.
        (self.directory / "stages.yaml").write_text("\n---\n".join(map(json.dumps, stages)) + "\n")
        for name in self._nodes:
            self._access.call("POST", "/api/v1/nodes", _node(name, self._mark))

    def command(self) -> Sequence[str | Path]:
        """The command line."""
        return [
            self._program,
            f"--kubeconfig={self._access.kubeconfig}",
            f"--config={self.directory / 'stages.yaml'}",
            f"--manage-nodes-with-annotation-selector={_MARK}={self._mark}",
            "--node-lease-duration-seconds=40",
            "-v=WARN",
        ]

    def ready(self) -> bool:
        """Whether the cluster takes its nodes for ready."""
        return all(self._is_ready(name) for name in self._nodes)

    def _is_ready(self, name: str) -> bool:
        status = self._access.call("GET", f"/api/v1/nodes/{name}").get("status", {})
        return any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in status.get("conditions", ())
        )

    def stop(self, seconds: float = 5.0) -> None:
        """Ends it and takes its nodes out of the cluster."""
        super().stop(seconds)
        for name in self._nodes:
            self._access.call("DELETE", f"/api/v1/nodes/{name}")


def _is(key: str, value: str) -> dict[str, object]:
    return {"key": key, "operator": "In", "values": [value]}


def _stage(
    kind: str, name: str, when: Sequence[Mapping[str, object]], status: str | None, *, after: float = 0.0
) -> dict[str, object]:
    """A step in a pod's life: `status` None ends it."""
    alive = [] if status is None else [{"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}]
    spec: dict[str, object] = {
        "resourceRef": {"apiGroup": "v1", "kind": kind},
        "selector": {"matchExpressions": [*when, *alive]},
        "next": {"delete": True} if status is None else {"statusTemplate": status},
    }
    if after:
        milliseconds = round(after * 1000)
        spec["delay"] = {
            "durationMilliseconds": round(milliseconds * 0.8),
            "jitterDurationMilliseconds": round(milliseconds * 1.2),
        }
    metadata = {"name": f"{kind.lower()}-{name}"}
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": metadata, "spec": spec}


def _node(name: str, mark: str) -> dict[str, object]:
    room = {"cpu": "1000", "memory": "1Ti", "pods": str(_PODS_OF_A_NODE)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {_MARK: mark}, "annotations": {_MARK: mark}},
        "spec": {"taints": [{"key": _MARK, "value": mark, "effect": "NoSchedule"}]},
        "status": {"allocatable": room, "capacity": room},
    }
