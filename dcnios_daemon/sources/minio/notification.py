"""A bucket's notification configuration: whom it tells of what. Read, and added to. Pure.

By "PutBucketNotificationConfiguration" of the S3 API reference: it is one document, set as a whole. So what
is there goes back as it came, also what we do not know of, with our rule behind it.
"""

import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence

import msgspec

from dcnios_daemon.core.errors import StoreError
from dcnios_daemon.sources.minio.filters import Wanted

_XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"
_TARGETS = {
    "QueueConfiguration": "Queue",
    "TopicConfiguration": "Topic",
    "CloudFunctionConfiguration": "CloudFunction",
}
_ID_HEX = 8


class Rule(msgspec.Struct, frozen=True):
    """Who is told of what."""

    id: str
    arn: str
    wanted: Wanted

    def __str__(self) -> str:
        """For people."""
        filters = [("prefix", self.wanted.prefix), ("suffix", self.wanted.suffix)]
        said = "".join(f", {name} {text!r}" for name, text in filters if text)
        return f"{', '.join(self.wanted.events)}{said} to {self.arn}"


class Notification:
    """What a bucket's configuration says.

    Raises:
        StoreError: It is none.
    """

    def __init__(self, document: bytes) -> None:
        try:
            self._root = ET.fromstring(document)  # noqa: S314 - the operator's own store; expat bounds expansion
        except ET.ParseError as error:
            raise StoreError(f"the notification configuration is no XML: {error}") from error
        for element in self._root.iter():
            element.tag = element.tag.rpartition("}")[2]

    def rules(self) -> list[Rule]:
        """Whom the bucket tells of what."""
        return [
            _rule(element, element.findtext(target) or "")
            for element in self._root
            for kind, target in _TARGETS.items()
            if element.tag == kind
        ]

    def with_rule(self, rule: Rule) -> bytes:
        """The document with one more."""
        root = ET.fromstring(ET.tostring(self._root))  # noqa: S314 - our own text
        root.set("xmlns", _XMLNS)
        kind = "TopicConfiguration" if ":sns:" in rule.arn else "QueueConfiguration"
        made = ET.SubElement(root, kind)
        ET.SubElement(made, "Id").text = rule.id
        ET.SubElement(made, _TARGETS[kind]).text = rule.arn
        for event in rule.wanted.events:
            ET.SubElement(made, "Event").text = event
        filters = [("prefix", rule.wanted.prefix), ("suffix", rule.wanted.suffix)]
        if any(text for _, text in filters):
            keys = ET.SubElement(ET.SubElement(made, "Filter"), "S3Key")
            for name, text in filters:
                if text:
                    filter_rule = ET.SubElement(keys, "FilterRule")
                    ET.SubElement(filter_rule, "Name").text = name
                    ET.SubElement(filter_rule, "Value").text = text
        # The kinds stand beside each other in the schema of AWS.
        root[:] = sorted(root, key=lambda element: element.tag)
        return ET.tostring(root)


def _rule(element: ET.Element, arn: str) -> Rule:
    filters = {
        (part.findtext("Name") or "").lower(): part.findtext("Value") or ""
        for part in element.iter("FilterRule")
    }
    events = tuple(part.text or "" for part in element.findall("Event"))
    wanted = Wanted(events, filters.get("prefix", ""), filters.get("suffix", ""))
    return Rule(element.findtext("Id") or "", arn, wanted)


def rule_for(name: str, arn: str, wanted: Wanted) -> Rule:
    """Ours, with an id that says whose it is and changes with what is wanted.

    Args:
        name: The source's.
        arn: Who is to be told.
        wanted: Of what.
    """
    digest = hashlib.sha256(msgspec.json.encode([arn, wanted])).hexdigest()
    return Rule(f"dcnios-{name}-{digest[:_ID_HEX]}", arn, wanted)


def is_same(one: str, other: str) -> bool:
    """Whether two ARNs mean the same: MinIO takes them with its region and without."""
    return _without_region(one) == _without_region(other)


def _without_region(arn: str) -> str:
    parts = arn.split(":")
    return ":".join([*parts[:3], "", *parts[4:]]) if parts[1:3] == ["minio", "sqs"] else arn


def untold(rules: Sequence[Rule], wanted: Wanted, *, is_us: Callable[[str], bool]) -> tuple[str, ...]:
    """The event names that are wanted, of which nobody tells us for all keys that are wanted."""
    ours = [rule.wanted for rule in rules if is_us(rule.arn)]
    wide = [
        rule for rule in ours if wanted.prefix.startswith(rule.prefix) and wanted.suffix.endswith(rule.suffix)
    ]
    told = [event for rule in wide for event in rule.events]
    return tuple(event for event in wanted.events if not any(_covers(other, event) for other in told))


def overlapping(rules: Sequence[Rule], wanted: Wanted) -> list[Rule]:
    """The rules that could tell of the same object for the same reason: AWS takes no two such rules."""
    return [rule for rule in rules if _overlap(rule.wanted, wanted)]


def _covers(wide: str, event: str) -> bool:
    return wide == event or (wide.endswith(":*") and event.startswith(wide[:-1]))


def _overlap(one: Wanted, other: Wanted) -> bool:
    events = any(_covers(a, b) or _covers(b, a) for a in one.events for b in other.events)
    prefixes = one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)
    suffixes = one.suffix.endswith(other.suffix) or other.suffix.endswith(one.suffix)
    return events and prefixes and suffixes
