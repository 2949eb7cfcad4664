"""DCNiOS's destinations as ``run`` blocks."""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from dcnios_daemon.importers.addresses import address
from dcnios_daemon.importers.draft import Draft, as_literal
from dcnios_daemon.importers.workflow.elements import Element

_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHORTEST, _LONGEST = 0.01, 86400.0
"""Seconds between two calls that make a rate."""
_KEEP_DATA = 'cp "$DCNIOS_EVENT_FILE" "$TMP_OUTPUT_DIR/$DCNIOS_KEY"\n'


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """What a route to it runs."""

    run: Mapping[str, Any]
    rate: str | None = None
    lacking: tuple[str, ...] = ()
    """Lines of that block that wait for somebody."""


def _oscar(draft: Draft, element: Element) -> Destination | None:
    block = element.block
    endpoint, service = address(block, "endpoint", default="https"), block.text("service")
    token, user, password = block.text("token"), block.text("user"), block.raw("password")
    rate = element.components({"InvokeOSCAR": "its seconds are the route's rate: one event each"})
    if endpoint is None or service is None or not _SERVICE.fullmatch(service):
        element.notes.cannot("", "has no endpoint or no service that could be called")
        return None
    url = f"{endpoint}/job/{quote(service)}"
    what = "each event's data is POSTed to /job/<service> (a run of kind http) until that is answered 201"
    element.notes.differently("", f"{what}; certificates are verified, which DCNiOS did not")
    run: dict[str, Any] = {"kind": "http", "url": url}
    label = draft.names.give(f"{element.name}-oscar")
    if token and not (user and password):
        run["token_file"] = draft.secret(f"{label}-token", token)
        return Destination(run=run, rate=_rate(rate))
    file = draft.place(f"{label}-token")
    what = f"OSCAR's /job takes no password but the service's token: write it into {file} and take the # away"
    if user and password:
        login = draft.secret(f"{label}-curl", f'user = "{_in_curl(user)}:{_in_curl(password)}"\n')
        what += f" (curl -K {login} {endpoint}/system/services/{service} shows it)"
        element.notes.differently(block.where("password"), f"is in {login}, for that call only")
    element.notes.to_do(block.where("token"), what)
    if token:
        draft.secret(f"{label}-token", token)
    return Destination(run=run, rate=_rate(rate), lacking=(f"token_file: {file}",))


def _in_curl(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


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
    return Destination(run=run)


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
