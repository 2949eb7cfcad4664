"""What deploy/ says about Kubernetes, put together by the real kustomize and applied to a real API server."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.servers import golang
from tests.servers.access import ApiError, ClusterAccess, JsonObject
from tests.servers.cache import Cache
from tests.servers.commands import run
from tests.servers.workspace import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
_GROUPS = {
    "v1": "/api/v1",
    "apps/v1": "/apis/apps/v1",
    "policy/v1": "/apis/policy/v1",
    "rbac.authorization.k8s.io/v1": "/apis/rbac.authorization.k8s.io/v1",
}


def render(folder: Path) -> list[JsonObject]:
    """The objects of a folder with a kustomization."""
    text = run([str(golang.kustomize(Cache())), "build", str(folder)])
    return list(yaml.safe_load_all(text))


def overlay(folder: Path, base: str, **more: Any) -> list[JsonObject]:
    """The objects of an overlay over ``deploy/<base>``, as a site would write one."""
    folder.mkdir(parents=True, exist_ok=True)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(DEPLOY / base, folder)],
        **more,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(folder)


def path_of(thing: JsonObject, namespace: str) -> str:
    """Where the object is, at the API server."""
    kind = thing["kind"].lower()
    plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    where = "" if kind.startswith("cluster") else f"namespaces/{namespace}/"
    return f"{_GROUPS[thing['apiVersion']]}/{where}{plural}/{thing['metadata']['name']}"


def apply(access: ClusterAccess, namespace: str, things: Sequence[JsonObject]) -> None:
    """Apply on the server's side, strictly: an unknown field is an error.

    Raises:
        ApiError: The server refused one.
    """
    for thing in things:
        query = "fieldManager=test&fieldValidation=Strict"
        request = urllib.request.Request(
            f"{access.url}{path_of(thing, namespace)}?{query}",
            method="PATCH",
            data=json.dumps(thing).encode(),
            headers={
                "Authorization": f"Bearer {access.token}",
                "Content-Type": "application/apply-patch+yaml",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=30, context=access.ssl_context):
                pass
        except urllib.error.HTTPError as error:
            with error:
                raise ApiError(error.code, error.read().decode(errors="replace")) from error
