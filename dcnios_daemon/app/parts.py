"""All that runs, as one object: ``wiring`` makes it, ``life`` runs it, ``reload`` changes it."""

from collections.abc import Mapping

import msgspec

from dcnios_daemon.config.model import DaemonSettings
from dcnios_daemon.core.ports import Gate, Journal, Sink
from dcnios_daemon.dispatch.dispatcher import Dispatcher
from dcnios_daemon.sources.runner import SourceRunner
from dcnios_daemon.telemetry.health import Health


class Parts(msgspec.Struct, kw_only=True):
    """Everything that runs, wired."""

    settings: DaemonSettings
    journal: Journal
    gate: Gate
    sinks: Mapping[str, Sink]
    dispatcher: Dispatcher
    runners: Mapping[str, SourceRunner]
    health: Health
    phase: str = "starting"
    waiting_sinks: set[str] = msgspec.field(default_factory=set)
