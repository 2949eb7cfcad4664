"""What Prometheus is told. Counters are touched only by the typed events in ``telemetry.events``; levels are
taken when Prometheus asks, but
Kafka's lags when their source looks, and those of virtual nodes as they change.
"""

from collections.abc import Container, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

ACCEPTED = Counter("dcnios_events_accepted", "Events committed to the journal", ["source"], registry=REGISTRY)
DUPLICATES = Counter("dcnios_events_duplicate", "Happenings seen again", ["source"], registry=REGISTRY)
UNROUTED = Counter("dcnios_events_unrouted", "Events no route takes", ["source"], registry=REGISTRY)
MALFORMED = Counter("dcnios_events_malformed", "Unreadable input", ["source"], registry=REGISTRY)
GATE_SHUT = Gauge("dcnios_gate_shut", "1 while the journal takes nothing", registry=REGISTRY)
JOURNAL_FAILURES = Counter(
    "dcnios_journal_failures",
    "Times that the disk under the journal began to fail",
    registry=REGISTRY,
)
CONNECTED = Gauge("dcnios_source_connected", "1 while connected", ["source"], registry=REGISTRY)
FAILURES = Counter("dcnios_source_failures", "Times a source had to reconnect", ["source"], registry=REGISTRY)
STREAMS_LOST = Counter(
    "dcnios_source_streams_lost", "Streams of notifications that broke", ["source"], registry=REGISTRY
)
RELISTS = Counter("dcnios_source_relists", "Full listings, by cause", ["source", "cause"], registry=REGISTRY)
WATCHES = Gauge("dcnios_source_watches", "Directories watched", ["source"], registry=REGISTRY)
UNWATCHED = Gauge(
    "dcnios_source_unwatched_directories",
    "Directories that only listings tell of, for want of a watch",
    ["source"],
    registry=REGISTRY,
)
KAFKA_LOST = Counter(
    "dcnios_kafka_offsets_lost",
    "Offsets that brokers deleted before they were read",
    ["source", "topic"],
    registry=REGISTRY,
)
KAFKA_LAG = Gauge(
    "dcnios_kafka_lag",
    "Offsets after what was fetched, in the partitions that are ours",
    ["source", "topic", "partition"],
    registry=REGISTRY,
)
SUBMITTED = Counter("dcnios_orders_submitted", "Orders that a sink took", ["route"], registry=REGISTRY)
PUT_OFF = Counter("dcnios_orders_put_off", "Submissions put off", ["route"], registry=REGISTRY)
FELL_BACK = Counter(
    "dcnios_orders_fallen_back",
    "Orders that went to a route's fallback, by its kind",
    ["route", "to"],
    registry=REGISTRY,
)
ELSEWHERE = Gauge(
    "dcnios_route_fallen_back", "1 while a route's orders go to its fallback", ["route"], registry=REGISTRY
)
OUTCOMES = Counter("dcnios_outcomes", "Outcomes of attempts", ["route", "result"], registry=REGISTRY)
DEAD = Counter("dcnios_deliveries_dead", "Deliveries given up", ["route"], registry=REGISTRY)
WAIT = Histogram(
    "dcnios_event_to_submit_seconds",
    "From journal commit to the sink's yes",
    ["route"],
    registry=REGISTRY,
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
)
EVENTS = Gauge("dcnios_journal_events", "Events that are not settled", registry=REGISTRY)
BYTES = Gauge("dcnios_journal_bytes", "Their bytes", registry=REGISTRY)
LOG_BYTES = Gauge("dcnios_journal_log_bytes", "What the journal's log takes on the disk", registry=REGISTRY)
DELIVERIES = Gauge("dcnios_deliveries", "Deliveries by state", ["route", "state"], registry=REGISTRY)
SUSPENDED = Gauge(
    "dcnios_orders_suspended",
    "Orders that the sink's neighbour holds back (suspended Jobs); they count as running",
    ["route"],
    registry=REGISTRY,
)
PAUSED = Gauge("dcnios_route_paused", "1 while the route is paused", ["route"], registry=REGISTRY)
AT_ONCE = Gauge(
    "dcnios_submissions_at_once",
    "Submissions that a neighbour may have to answer at the same time, as it bears them",
    ["sink", "neighbour"],
    registry=REGISTRY,
)
UNANSWERED = Gauge(
    "dcnios_submissions_unanswered",
    "Submissions that it has to answer now",
    ["sink", "neighbour"],
    registry=REGISTRY,
)
LEFT_ALONE = Gauge(
    "dcnios_sink_failures",
    "How often it failed in a row: above 0 it is left alone, or tried by one submission",
    ["sink", "neighbour"],
    registry=REGISTRY,
)
NODE_READY = Gauge(
    "dcnios_virtual_node_ready", "1 while a virtual node takes pods", ["node"], registry=REGISTRY
)
NODE_PODS = Gauge(
    "dcnios_virtual_node_pods", "Pods of this daemon that live on it", ["node"], registry=REGISTRY
)
NODE_GPUS = Gauge(
    "dcnios_virtual_node_gpus_free", "GPUs that this daemon's pods leave free", ["node"], registry=REGISTRY
)
_NOW = ("queued", "submitting", "running", "dead")


def take_levels(
    *,
    events: int,
    size: int,
    log: int,
    deliveries: Mapping[str, Mapping[str, int]],
    routes: Iterable[str],
    paused: Container[str],
) -> None:
    """Bring the journal's levels up to date.

    Args:
        events: Events that are not settled.
        size: Their bytes.
        log: What the journal's log takes on the disk.
        deliveries: Route to state to count.
        routes: Those that are configured.
        paused: Those that are paused.
    """
    PAUSED.clear()
    for route in routes:
        PAUSED.labels(route).set(route in paused)
    EVENTS.set(events)
    BYTES.set(size)
    LOG_BYTES.set(log)
    for route, counts in deliveries.items():
        for state in _NOW if route else ():
            DELIVERIES.labels(route, state).set(counts.get(state, 0))


def take_suspended(counts: Mapping[str, int]) -> None:
    """Bring the levels of what is held back up to date: of these routes, and no others."""
    SUSPENDED.clear()
    for route, n in counts.items():
        SUSPENDED.labels(route).set(n)


def forget_paces() -> None:
    """Forget the levels of all neighbours: some may not matter any more."""
    for level in (AT_ONCE, UNANSWERED, LEFT_ALONE):
        level.clear()


def take_pace(sink: str, neighbour: str, *, at_once: int, unanswered: int, failures: int) -> None:
    """Bring the levels of one neighbour up to date."""
    AT_ONCE.labels(sink, neighbour).set(at_once)
    UNANSWERED.labels(sink, neighbour).set(unanswered)
    LEFT_ALONE.labels(sink, neighbour).set(failures)


class VirtualNodeLevels:
    """The levels of the virtual nodes that routes go to; of those that there are, and no others."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def show(self, nodes: Mapping[str, tuple[bool, int, int]]) -> None:
        """Bring them up to date.

        Args:
            nodes: Name to whether it is ready, how many pods live there, and how many GPUs are free.
        """
        for name in self._shown - nodes.keys():
            for gauge in (NODE_READY, NODE_PODS, NODE_GPUS):
                gauge.remove(name)
        for name, levels in nodes.items():
            for gauge, level in zip((NODE_READY, NODE_PODS, NODE_GPUS), levels, strict=True):
                gauge.labels(name).set(level)
        self._shown = set(nodes)


class Lags:
    """The lag of one source's partitions; of those that it has, and no others."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._shown: set[tuple[str, int]] = set()

    def show(self, lags: Mapping[tuple[str, int], int]) -> None:
        """Bring them up to date.

        Args:
            lags: Topic and partition to offsets.
        """
        for topic, partition in self._shown - lags.keys():
            KAFKA_LAG.remove(self._source, topic, str(partition))
        for (topic, partition), lag in lags.items():
            KAFKA_LAG.labels(self._source, topic, str(partition)).set(lag)
        self._shown = set(lags)
