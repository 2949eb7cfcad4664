"""What a source wants, in the words of the stores' own filters: they know fewer than we do, so the store is
asked for all that is wanted and as little else as it can say; the rest is left out here. Pure.
"""

import msgspec

from dcnios_daemon.sources.minio.settings import MinioSettings

_FAMILIES = (
    "s3:ObjectAccessed:*",
    "s3:ObjectCreated:*",
    "s3:ObjectRemoved:*",
    "s3:ObjectRestore:*",
    "s3:ObjectTransition:*",
    "s3:Replication:*",
)
"""The globs that MinIO knows (``internal/event/name.go``)."""
_LONGEST_FILTER = 1024


class Wanted(msgspec.Struct, frozen=True):
    """What a store is to tell of."""

    events: tuple[str, ...]
    prefix: str
    suffix: str


def wanted_of(settings: MinioSettings) -> Wanted:
    """What to ask for."""
    prefix, suffix = settings.prefix, settings.suffix
    may_have_suffix = _is_filter(suffix) and not _overlap(prefix, suffix)
    return Wanted(
        events=tuple(dict.fromkeys(name for glob in settings.events for name in _names(glob))),
        prefix=prefix if _is_filter(prefix) else "",
        suffix=suffix if may_have_suffix else "",
    )


def _names(glob: str) -> list[str]:
    """The names or globs of the stores' that cover one of ours."""
    head = glob[: min((glob.index(char) for char in "*?[" if char in glob), default=len(glob))]
    if head == glob or glob in _FAMILIES:
        return [glob]
    covering = [known for known in _FAMILIES if known.startswith(head) or head.startswith(known[:-1])]
    return covering or [glob]


def _is_filter(text: str) -> bool:
    """Whether MinIO takes it (``ValidateFilterRuleValue``)."""
    odd = "\\" in text or {".", ".."} & set(text.split("/"))
    return bool(text) and not odd and len(text.encode()) <= _LONGEST_FILTER


def _overlap(prefix: str, suffix: str) -> bool:
    """Whether a key may begin and end so without having both beside each other, as MinIO's pattern wants."""
    return any(prefix.endswith(suffix[:length]) for length in range(1, len(suffix) + 1))
