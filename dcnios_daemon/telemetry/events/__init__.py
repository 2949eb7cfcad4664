"""Everything the daemon says, as types: ``SourceConnected(source="uploads").emit()``.

One type gives the log line (its ``name`` and fields) and the metric, so that neither can drift. Levels: ERROR
means that an operator must act, WARNING that one may want to, INFO is a change of state, DEBUG is what each
event makes us say, however it goes: its order is submitted, put off, ended. Only ``OrderRehearsed`` is INFO,
for it is all that a dry run does.

A new one goes into the module of what it tells of, not of who says it, and into the list here:

- ``life``: the daemon as a whole;
- ``sources``: any source; ``files`` and ``kafka``: sources of one sort;
- ``journal``: the journal and its gate;
- ``dispatch``: an order's way, the same for every sink, and routes that are paused or fall back;
- ``sinks``: a sink, its neighbour, and what runs leave behind;
- ``staging``: stores, and the leave that they give.
"""

from dcnios_daemon.telemetry.events.dispatch import (
    AttemptEnded,
    DeliveriesDied,
    OrderFellBack,
    OrderPutOff,
    OrderSubmitted,
    RouteFellBack,
    RoutePaused,
    RouteRecovered,
    RouteResumed,
    SubmissionsPaused,
    SubmissionsResumed,
    SubmissionsSlowed,
)
from dcnios_daemon.telemetry.events.files import (
    DirectoriesWatched,
    FilesKept,
    FilesMoved,
    ListingFailed,
    TapeMemoryFull,
    WatchesExhausted,
    WatchRefused,
)
from dcnios_daemon.telemetry.events.journal import (
    EventsAccepted,
    GateOpened,
    GateShut,
    JournalFailed,
    JournalLogStuck,
    JournalRecovered,
)
from dcnios_daemon.telemetry.events.kafka import (
    OffsetsLost,
    PartitionsAssigned,
    TopicReplaced,
    ValuesKept,
)
from dcnios_daemon.telemetry.events.life import (
    Listening,
    PhaseEntered,
    Reloaded,
    ReloadRefused,
    StopAsked,
    TaskFailed,
)
from dcnios_daemon.telemetry.events.signal import Signal
from dcnios_daemon.telemetry.events.sinks import (
    LogUnavailable,
    MarkerUnseen,
    OrderRehearsed,
    PayloadLeft,
    RunFolderLeft,
    SinkFailed,
    SinkWatching,
    SubmissionStuck,
    VirtualNodeAway,
    VirtualNodeReady,
)
from dcnios_daemon.telemetry.events.sources import (
    ChannelContested,
    InputMalformed,
    SourceCloseFailed,
    SourceConnected,
    SourceFailed,
    SourcePaused,
    SourcePolls,
    SourceRelisted,
    SourceResumed,
    StreamLost,
    VersionsHidden,
)
from dcnios_daemon.telemetry.events.staging import LeaveIsShort

__all__ = [
    "AttemptEnded",
    "ChannelContested",
    "DeliveriesDied",
    "DirectoriesWatched",
    "EventsAccepted",
    "FilesKept",
    "FilesMoved",
    "GateOpened",
    "GateShut",
    "InputMalformed",
    "JournalFailed",
    "JournalLogStuck",
    "JournalRecovered",
    "LeaveIsShort",
    "Listening",
    "ListingFailed",
    "LogUnavailable",
    "MarkerUnseen",
    "OffsetsLost",
    "OrderFellBack",
    "OrderPutOff",
    "OrderRehearsed",
    "OrderSubmitted",
    "PartitionsAssigned",
    "PayloadLeft",
    "PhaseEntered",
    "ReloadRefused",
    "Reloaded",
    "RouteFellBack",
    "RoutePaused",
    "RouteRecovered",
    "RouteResumed",
    "RunFolderLeft",
    "Signal",
    "SinkFailed",
    "SinkWatching",
    "SourceCloseFailed",
    "SourceConnected",
    "SourceFailed",
    "SourcePaused",
    "SourcePolls",
    "SourceRelisted",
    "SourceResumed",
    "StopAsked",
    "StreamLost",
    "SubmissionStuck",
    "SubmissionsPaused",
    "SubmissionsResumed",
    "SubmissionsSlowed",
    "TapeMemoryFull",
    "TaskFailed",
    "TopicReplaced",
    "ValuesKept",
    "VersionsHidden",
    "VirtualNodeAway",
    "VirtualNodeReady",
    "WatchRefused",
    "WatchesExhausted",
]
