"""Programs built from Go modules."""

import json
from pathlib import Path

from tests.servers import versions
from tests.servers.cache import Cache
from tests.servers.commands import run, tool

SOURCES = Path(__file__).with_name("go")
STATIC = {"CGO_ENABLED": "0", "GOFLAGS": "-trimpath"}
"""Static, so that they run in any image, and the same from whichever folder they were built in."""


def _go() -> str:
    return tool("go", "Go")


def _install(target: Path, *packages: str, tags: str = "") -> None:
    run(
        [_go(), "install", "-tags", tags, "-ldflags", "-s -w", *packages],
        env={**STATIC, "GOBIN": str(target)},
    )


def minio(cache: Cache, version: str = versions.MINIO) -> Path:
    """The MinIO server."""
    go_install = f"github.com/minio/minio@v{version}"
    return cache.entry("minio", version, lambda target: _install(target, go_install)) / "minio"


def containerd(cache: Cache) -> Path:
    """The folder with containerd, its shim and ctr."""
    prefix = "github.com/containerd/containerd/v2/cmd"
    packages = [
        f"{prefix}/{name}@v{versions.CONTAINERD}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    ]
    # The snapshotters left out would need the C headers of file systems that nobody uses here.
    tags = "no_btrfs no_devmapper no_zfs"
    return cache.entry(
        "containerd", versions.CONTAINERD, lambda target: _install(target, *packages, tags=tags)
    )


def kustomize(cache: Cache) -> Path:
    """The program that puts Kubernetes objects together."""
    package = f"sigs.k8s.io/kustomize/kustomize/v5@v{versions.KUSTOMIZE}"
    return (
        cache.entry("kustomize", versions.KUSTOMIZE, lambda target: _install(target, package)) / "kustomize"
    )


def kwok(cache: Cache) -> Path:
    """The program that pretends to be nodes."""
    package = f"sigs.k8s.io/kwok/cmd/kwok@v{versions.KWOK}"
    return cache.entry("kwok", versions.KWOK, lambda target: _install(target, package)) / "kwok"


def pause(cache: Cache) -> Path:
    """The program that holds a pod's namespaces."""

    def build(target: Path) -> None:
        run(
            [_go(), "build", "-ldflags", "-s -w", "-o", str(target / "pause"), str(SOURCES / "pause.go")],
            env=STATIC,
        )

    return cache.entry("pause", "1", build) / "pause"


def kubernetes(cache: Cache) -> Path:
    """The folder with the Kubernetes servers, which are links to one program that looks at its own name."""
    return cache.entry("kubernetes", versions.KUBERNETES, _build_kubernetes)


def _build_kubernetes(target: Path) -> None:
    source = target / "source"
    source.mkdir()
    (source / "main.go").write_text((SOURCES / "kubernetes.go").read_text())
    (source / "go.mod").write_text(_kubernetes_module())
    run([_go(), "mod", "tidy"], cwd=source)
    major, minor, _ = versions.KUBERNETES.split(".")
    package = "k8s.io/component-base/version"
    values = {"gitVersion": f"v{versions.KUBERNETES}", "gitMajor": major, "gitMinor": minor}
    flags = " ".join(["-s -w", *(f"-X {package}.{name}={value}" for name, value in values.items())])
    run([_go(), "build", "-ldflags", flags, "-o", str(target / "kubernetes"), "."], cwd=source, env=STATIC)
    for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"):
        (target / name).symlink_to("kubernetes")


def _kubernetes_module() -> str:
    """A go.mod that does what the published one's `replace` lines do with folders that are not published.

    `go install` refuses a module with such lines, so we are the main module and give the staging
    repositories their own versions: v1.X.Y of Kubernetes goes with v0.X.Y of each.
    """
    version = f"v{versions.KUBERNETES}"
    downloaded = json.loads(run([_go(), "mod", "download", "-json", f"k8s.io/kubernetes@{version}"]))
    published = json.loads(run([_go(), "mod", "edit", "-json", downloaded["GoMod"]]))
    staging = "v0." + versions.KUBERNETES.split(".", 1)[1]
    names = [replaced["Old"]["Path"] for replaced in published["Replace"]]
    return "\n".join(
        [
            "module dcnios.invalid/testbed",
            f"go {published['Go']}",
            f"require k8s.io/kubernetes {version}",
            *(f"replace {name} => {name} {staging}" for name in names),
            "",
        ]
    )
