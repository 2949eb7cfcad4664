"""Looks whether a Kafka source could work: without joining the group, which would move its partitions."""

from collections.abc import Mapping, Sequence

from dcnios_daemon.core.clock import SystemClock
from dcnios_daemon.core.errors import Disconnected, Rejected
from dcnios_daemon.sources.kafka.membership import Membership
from dcnios_daemon.sources.kafka.settings import KafkaSettings
from dcnios_daemon.sources.kafka.values import Values


async def check(
    *,
    name: str,
    settings: KafkaSettings,
    instance: str,
    targets: Mapping[str, str],  # noqa: ARG001 - all kinds are asked alike
) -> Sequence[str]:
    """What is missing. See :class:`~dcnios_daemon.sources.registry.SourceKind`."""
    group = settings.group or f"dcnios-{instance}"
    where = ", ".join(settings.bootstrap)
    membership = Membership(settings=settings, group=group, client=f"dcnios-{name}-check")
    values = Values(source=name, settings=settings.registry, clock=SystemClock())
    try:
        await membership.connect()
        findings = [
            f"topic {topic!r} does not exist on {where}, or must not be seen: create it, "
            f"or correct sources.{name}.topics"
            for topic in await membership.topics.missing()
        ]
        if settings.pattern is not None and not await membership.topics.found():
            findings.append(
                f"no topic on {where} that may be seen matches {settings.pattern!r} as a whole: create one, "
                f"or correct sources.{name}.pattern"
            )
        findings += [
            f"topic {topic!r} on {where} may be seen but not read: grant the right to read it"
            for topic in await membership.topics.unreadable()
        ]
        try:
            await membership.try_group()
        except Rejected as error:
            findings.append(f"{error}: grant it, or correct sources.{name}.group")
        try:
            await values.check()
        except (Disconnected, Rejected) as error:
            findings.append(f"{error} (sources.{name}.registry)")
    finally:
        await values.aclose()
        await membership.leave()
    return findings
