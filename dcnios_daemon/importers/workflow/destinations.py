"""DCNiOS's destinations as ``run`` blocks."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from dcnios_daemon.importers.addresses import address
from dcnios_daemon.importers.draft import Draft, as_literal
from dcnios_daemon.importers.workflow.elements import Element

_SERVICE = re.compile(r"[a-z0-9]([-a-z0-9]{0,37}[a-z0-9])?")
_SHORTEST, _LONGEST = 0.01, 86400.0
"""Seconds between two calls that make a rate."""
_KEEP_DATA = 'cp "$DCNIOS_EVENT_FILE" "$TMP_OUTPUT_DIR/$DCNIOS_KEY"\n'


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """What a route to it runs."""

    run: Mapping[str, Any]
    rate: str | None = None
    takes_batches: bool = False
    """Whether it can do with an order for several events what it did with what Merge made."""


def _oscar(draft: Draft, element: Element) -> Destination | None:
    block = element.block
    endpoint, service = address(block, "endpoint", default="https"), block.text("service")
    token, user, password = block.text("token"), block.text("user"), block.raw("password")
    rate = element.components({"InvokeOSCAR": "its seconds are the route's rate: one event each"})
    if endpoint is None or service is None or not _SERVICE.fullmatch(service):
        element.notes.cannot("", "has no endpoint or no service that could be called")
        return None
    what = "each event becomes one job, whatever is lost on the way"
    if not (user and password):
        what += "; with username and password_file of OSCAR's system user its end would be seen, too"
    what += "; certificates are verified, which DCNiOS did not"
    element.notes.differently("", what)
    run: dict[str, Any] = {"kind": "oscar", "endpoint": endpoint, "service": service}
    label = draft.names.give(f"{element.name}-oscar")
    if user and password:
        run |= {"username": user, "password_file": draft.secret(f"{label}-password", password)}
        what = "OSCAR is asked with it for the service's token, as DCNiOS did, and then how its jobs end"
        element.notes.carried(block.where("password"), what)
        if token:
            element.notes.differently(block.where("token"), "left out: user and password count, as there")
        return Destination(run=run, rate=_rate(rate))
    file = f"{label}-token"
    run["token_file"] = draft.secret(file, token) if token else draft.place(file)
    if not token:
        element.notes.to_do(
            block.where("token"), f"no login is in the file: write the token into {draft.place(file)}"
        )
    return Destination(run=run, rate=_rate(rate))


def _rate(components: Mapping[str, float]) -> str | None:
    """What is so short or so long that it was no limit, or a mistake, is none."""
    seconds = components.get("InvokeOSCAR", 0.0)
    return f"{86400 / seconds:.0f}/d" if _SHORTEST <= seconds <= _LONGEST else None


def _put_s3(draft: Draft, element: Element) -> Destination | None:
    block = element.block
    bucket, endpoint = block.text("AWS_S3_BUCKET"), address(block, "MinIO_Endpoint", default="http")
    element.components({})
    if bucket is None or "/" in bucket:
        element.notes.cannot("", "has no AWS_S3_BUCKET")
        return None
    name = draft.names.give(f"{element.name}-s3")
    draft.sources[name] = aws_source(draft, element, name, endpoint=endpoint) | {
        "buckets": [bucket],
        "receive": ["webhook"],
        "reconcile": "0s",
    }
    draft.comment("sources", name, lines=["Results are written by it; no route reads it."])
    what = "a small process writes each event's data there, under the event's key; NiFi made names of its own"
    element.notes.differently("", what)
    out = {"to": f"s3://{as_literal(bucket)}/", "using": name}
    run = {"kind": "process", "script": _KEEP_DATA, "stage_out": {"data": out}}
    return Destination(run=run, takes_batches=True)


def aws_source(draft: Draft, element: Element, name: str, *, endpoint: str | None) -> dict[str, Any]:
    """A ``minio`` source's address and keys. DCNiOS takes the environment's first, then those in its file."""
    block = element.block
    access, secret = block.raw("AWS_ACCESS_KEY_ID"), block.raw("AWS_SECRET_ACCESS_KEY")
    region = block.text("AWS_DEFAULT_REGION")
    source: dict[str, Any] = {"kind": "minio"}
    if endpoint:
        source["endpoint"] = endpoint
    elif region:
        source["region"] = region
    if access and secret:
        source["access_key_file"] = draft.secret(f"{name}-access-key", access)
        source["secret_key_file"] = draft.secret(f"{name}-secret-key", secret)
        element.notes.carried(block.where("AWS_SECRET_ACCESS_KEY"), "in a file, with AWS_ACCESS_KEY_ID")
    else:
        element.notes.carried("", "its keys come from the AWS chain, as with DCNiOS (AWS_ACCESS_KEY_ID …)")
    return source


DESTINATIONS: Mapping[str, Callable[[Draft, Element], Destination | None]] = {
    "oscar": _oscar,
    "puts3": _put_s3,
}
"""By its name in a workflow, in small letters."""
