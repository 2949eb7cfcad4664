"""Which kinds of ``run`` there are. A new one is a module or package beside this and one line here."""

from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from dcnios_daemon.core.ports import Sink
from dcnios_daemon.core.settings import Settings
from dcnios_daemon.kafka.settings import addresses
from dcnios_daemon.sinks.dry_run import DryRun, DryRunSink
from dcnios_daemon.sinks.http import HttpRun, HttpSink
from dcnios_daemon.sinks.http import check as http_check
from dcnios_daemon.sinks.http import neighbour as http_neighbour
from dcnios_daemon.sinks.interlink import InterlinkRun, InterlinkSink
from dcnios_daemon.sinks.interlink import check as interlink_check
from dcnios_daemon.sinks.interlink import neighbour as interlink_neighbour
from dcnios_daemon.sinks.job import JobRun, JobSink
from dcnios_daemon.sinks.job import check as job_check
from dcnios_daemon.sinks.kafka import KafkaRun, KafkaSink
from dcnios_daemon.sinks.kafka import check as kafka_check
from dcnios_daemon.sinks.kafka import neighbour as kafka_neighbour
from dcnios_daemon.sinks.oscar import OscarRun, OscarSink
from dcnios_daemon.sinks.oscar import check as oscar_check
from dcnios_daemon.sinks.oscar import neighbour as oscar_neighbour
from dcnios_daemon.sinks.process import ProcessRun, ProcessSink
from dcnios_daemon.sinks.spec import SinkContext


class SinkKind(msgspec.Struct, frozen=True, kw_only=True):
    """All that the daemon knows of a kind of ``run``."""

    settings: type[Settings]
    """A route's ``run`` block, without ``kind``."""
    build: Callable[[SinkContext], Sink]
    """Makes the one sink that serves all routes of the kind."""
    check: Callable[..., Awaitable[Sequence[str]]] | None = None
    """``check(kubernetes=…, any_payload=…, runs=…)`` goes to the neighbour and says what is missing there and
    what would help, a sentence each; it changes nothing and raises any of our errors where it gets no
    further.
    ``any_payload``: whether orders may hold what is no text, or more than an annotation takes. ``runs``: the
    blocks of this kind by their place in the configuration."""
    writes_to: Callable[[Any], Sequence[str]] = lambda _: ()
    """From a ``run`` block: the addresses that a source could read again what it writes from
    (``kafka://broker:9092/topic``)."""
    neighbour: Callable[[Any], str] | None = None
    """From a ``run`` block: whom it talks to, where not all of the kind talk to the same. When one of them is
    away, only its own routes wait."""
    at_once: int | None = None
    """How many submissions may wait for such a neighbour at the same time, where that is known: each of them
    keeps a place that others could use."""
    is_by_name: bool = False
    """Whether its orders are Jobs of their names in the one cluster, so that none can be there twice, however
    many such kinds it goes to."""
    keep: Callable[[Any], float] | None = None
    """From a ``run`` block: for how many seconds the neighbour keeps what has ended, where the sink looks for
    it there after a restart."""


KINDS: dict[str, SinkKind] = {
    "job": SinkKind(
        settings=JobRun, build=JobSink, check=job_check, keep=attrgetter("keep"), is_by_name=True
    ),
    "interlink": SinkKind(
        settings=InterlinkRun,
        build=InterlinkSink,
        check=interlink_check,
        neighbour=interlink_neighbour,
        at_once=4,  # their turn comes one by one
        keep=attrgetter("keep"),
        is_by_name=True,
    ),
    "http": SinkKind(
        settings=HttpRun,
        build=HttpSink,
        check=http_check,
        neighbour=http_neighbour,
        writes_to=lambda run: (run.url,),
    ),
    "kafka": SinkKind(
        settings=KafkaRun,
        build=KafkaSink,
        check=kafka_check,
        neighbour=kafka_neighbour,
        writes_to=lambda run: addresses(run.bootstrap, run.topic),
    ),
    "oscar": SinkKind(
        settings=OscarRun,
        build=OscarSink,
        check=oscar_check,
        neighbour=oscar_neighbour,
        at_once=4,  # OSCAR itself asks Kubernetes for no more than a few things a second
        keep=attrgetter("keep"),
    ),
    "process": SinkKind(settings=ProcessRun, build=ProcessSink),
    "dry-run": SinkKind(settings=DryRun, build=DryRunSink),
}
