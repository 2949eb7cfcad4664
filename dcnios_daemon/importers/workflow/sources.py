"""DCNiOS's sources as ours."""

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from dcnios_daemon.importers.addresses import address
from dcnios_daemon.importers.draft import Draft
from dcnios_daemon.importers.workflow.destinations import aws_source
from dcnios_daemon.importers.workflow.elements import Element

_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_BROKER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/,]+):\d{1,5}")
_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_QUEUE_URL = re.compile(r"https://sqs\.[a-z0-9-]{1,40}\.amazonaws\.com/\d{12}/[\w-]{1,80}")


def _dcache(draft: Draft, element: Element) -> str | None:
    block = element.block
    url, folder = address(block, "endpoint", default="https"), block.text("folder")
    user, password = block.text("user"), block.raw("password")
    if block.given("statefile"):
        element.notes.differently(block.where("statefile"), "where it was is kept in the journal")
        block.forget("statefile")
    parts = [part for part in (folder or "").split("/") if part]
    if url is None or not parts or {".", ".."} & set(parts):
        element.notes.cannot("", "has no endpoint or no folder")
        return None
    name = draft.names.give(element.name)
    file = f"{name}-password"
    if not user or password is None:
        element.notes.to_do(block.where("password"), f"user or password is missing: see {draft.place(file)}")
    draft.sources[name] = {
        "kind": "dcache",
        "url": url,
        "watch": {"input": {"path": "/" + "/".join(parts)}},
        "on": ["created"],
        "username": user or "nobody",
        "password_file": draft.secret(file, password) if password else draft.place(file),
        "reconcile": "15m",
    }
    what = "files that are moved into the folder count too, and listings find what the stream has lost"
    element.notes.differently(block.where("folder"), what)
    return name


def _kafka(draft: Draft, element: Element) -> str | None:
    block = element.block
    brokers = re.split(r"[,\s]+", block.text("bootstrap_servers") or "")
    bootstrap, topic = [broker for broker in brokers if _BROKER.fullmatch(broker)], block.text("topic") or ""
    topics = [name for name in re.split(r"[,\s]+", topic) if _TOPIC.fullmatch(name)]
    group = block.text("group_id")
    if not bootstrap or not topics:
        element.notes.cannot("", "has no bootstrap_servers (host:port) or no topic")
        return None
    name = draft.names.give(element.name)
    source: dict[str, Any] = {"kind": "kafka", "bootstrap": bootstrap, "topics": topics}
    if group and len(group) <= 255:  # noqa: PLR2004 - Kafka's limit for groups
        source["group"] = group
        element.notes.carried(block.where("group_id"), "goes on where the group is: stop the NiFi flow first")
    source["start"] = "latest"
    element.notes.carried(
        block.where("topic"), "start is latest, as there; earliest would take what is older"
    )
    source["security"] = _security(draft, element, name)
    if block.flag("separate_by_key") or block.given("message_demarcator"):
        element.notes.differently(block.where("separate_by_key"), "each record is an event of its own")
    block.forget("message_demarcator")
    draft.sources[name] = source
    return name


def _security(draft: Draft, element: Element, name: str) -> dict[str, Any]:
    block = element.block
    protocol = (block.text("security_protocol") or "SASL_SSL").upper()
    mechanism = (block.text("sasl_mechanism") or "PLAIN").upper()
    user, password = block.text("sasl_username"), block.raw("sasl_password")
    if protocol not in _PROTOCOLS:
        element.notes.cannot(block.where("security_protocol"), "is not known: SASL_SSL is taken")
        protocol = "SASL_SSL"
    made: dict[str, Any] = {"protocol": protocol}
    if protocol.startswith("SASL"):
        if mechanism not in _MECHANISMS:
            element.notes.cannot(block.where("sasl_mechanism"), "is not offered: PLAIN is taken")
            mechanism = "PLAIN"
        file = f"{name}-password"
        made |= {"mechanism": mechanism, "username": user or "nobody"}
        made["password_file"] = draft.secret(file, password) if password else draft.place(file)
        if not user or not password:
            element.notes.to_do(
                block.where("sasl_password"), f"the login is missing: see {draft.place(file)}"
            )
        if block.given("sasl_mechanism"):
            element.notes.differently(block.where("sasl_mechanism"), f"{mechanism}, which DCNiOS ignored")
    _truststore(draft, element, name, protocol)
    return made


def _truststore(draft: Draft, element: Element, name: str, protocol: str) -> None:
    """Certificates are PEM here; the conversion needs the file, which lies in NiFi's container."""
    context = element.block.block("ssl_context")
    store, password = context.text("Truststore_Filename"), context.raw("Truststore_Password")
    for key in context.names():
        context.forget(key)
    if store is None or not protocol.endswith("SSL"):
        return
    ca, file = draft.place(f"{name}-ca.pem"), f"{name}-truststore-password"
    reading = f" -passin file:{draft.secret(file, password)}" if password else ""
    what = f"openssl pkcs12 -in {shlex.quote(store)} -nokeys{reading} -out {ca}, then take the # off ca_file"
    element.notes.differently(context.path, "certificates are PEM here; without ca_file the system's count")
    element.notes.to_do(context.path, what)
    draft.commented_out("sources", name, "security", lines=[f"ca_file: {ca}"])


def _s3(draft: Draft, element: Element) -> str | None:
    bucket = element.block.text("AWS_S3_BUCKET")
    return _queue(draft, element, bucket=bucket, queue=f"{bucket}_events")


def _sqs(draft: Draft, element: Element) -> str | None:
    queue = element.block.text("queue_name")
    bucket = element.block.text("AWS_S3_BUCKET") or draft.options.buckets.get(element.name)
    if bucket is None:
        what = (
            f"only the queues of buckets can be read: say which one tells it (--bucket {element.name}=BUCKET)"
        )
        element.notes.cannot(element.block.where("queue_name"), what)
        element.block.forget_all()
        return None
    return _queue(draft, element, bucket=bucket, queue=queue)


def _queue(draft: Draft, element: Element, *, bucket: str | None, queue: str | None) -> str | None:
    """By way of the queue where its address can be known, else by listing, which misses nothing either."""
    if not bucket or "/" in bucket:
        element.notes.cannot("", "has no AWS_S3_BUCKET")
        element.block.forget_all()
        return None
    name = draft.names.give(element.name)
    source = aws_source(draft, element, name, endpoint=None) | {"buckets": [bucket]}
    account, region = draft.options.aws_account, source.get("region", "us-east-1")
    url = f"https://sqs.{region}.amazonaws.com/{account}/{queue}"
    by_queue = {"receive": ["sqs"], "queue_url": url, "reconcile": "1h"}
    known = bool(queue and account and _QUEUE_URL.fullmatch(url))
    draft.sources[name] = source | (by_queue if known else {"receive": [], "reconcile": "1m"})
    if not known:
        what = f"the bucket is listed every minute: {queue} has no address without --aws-account NUMBER"
        element.notes.differently("", what)
    what = "no queue and no notification is made or deleted here: keep DCNiOS's, or see dcnios sources setup"
    element.notes.differently("", what)
    return name


def _rucio(_draft: Draft, element: Element) -> None:
    element.notes.cannot(
        "", "there is no Rucio (AMQP) source here: let Rucio write to Kafka, or to a webhook"
    )
    element.block.forget_all()


SOURCES: Mapping[str, Callable[[Draft, Element], str | None]] = {
    "dcache": _dcache,
    "kafka": _kafka,
    "gets3": _s3,
    "s3": _s3,
    "getsqs": _sqs,
    "sqs": _sqs,
    "rucio": _rucio,
}
"""By its name in a workflow, in small letters."""
