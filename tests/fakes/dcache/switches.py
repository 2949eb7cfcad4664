"""Every way in which the fake frontend can be made to misbehave, in one place.

The defaults are a healthy dCache 12; each field is also a command-line flag of
``python -m tests.fakes.dcache``. Tests may change fields while the server runs.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any


def _switch(default: Any, what: str) -> Any:
    """Return a dataclass field that carries its own help text."""
    return dataclasses.field(default=default, metadata={"help": what})


@dataclasses.dataclass(slots=True)
class Switches:
    """What the server does differently; see dcache-events.md, "Test-server switches"."""

    # The wire, section 1
    standard_base64: bool = _switch(
        default=True, what="subscription ids in the standard alphabet (dCache >= 11.2)"
    )
    legacy_errors: bool = _switch(default=False, what="error bodies as before dCache 8.2")
    http_locations: bool = _switch(
        default=False, what="http:// in every URL we hand out, as behind a TLS proxy"
    )
    ambiguous_is_stream: bool = _switch(default=False, what="Accept: */* on a channel opens the stream")

    # Subscriptions, sections 1 to 3
    merge_answers_303: bool = _switch(default=True, what="a second watch of one inode answers 303, else 201")
    mask_add_bug: bool = _switch(
        default=True, what="IN_MASK_ADD shows the union but watches only the new flags"
    )
    hold_201: float = _switch(
        default=0.0, what="hold the 201 this long, or until the subscription sent an event"
    )
    closed_before_ignored: bool = _switch(default=True, what="SUBSCRIPTION_CLOSED precedes IN_IGNORED")
    arming_delay: float = _switch(default=0.0, what="seconds until PnfsManager and doors know a watch")
    arming_delay_pools: float = _switch(default=0.0, what="seconds until the pools know a watch")
    watch_limit: int = _switch(default=49_900, what="watched inodes that fit into the ZooKeeper node")
    zookeeper_fails: int = _switch(
        default=0, what="that many next subscriptions answer 500 and leave a ghost"
    )

    # Loss and disorder, section 3
    drop_queue_on_change: bool = _switch(
        default=False, what="any change of watches drops the sources' unsent events"
    )
    delay_pnfsmanager: float = _switch(default=0.0, what="seconds that PnfsManager's events are late")
    delay_pools: float = _switch(default=0.0, what="seconds that the pools' events are late")
    delay_nfs: float = _switch(default=0.0, what="seconds that the NFS doors' events are late")
    sender_jitter: float = _switch(default=0.0, what="seconds a subscription's sender may start late")
    dispatch_queue: int = _switch(
        default=1000, what="events each source queues before it overflows for everybody"
    )
    subscription_queue: int = _switch(
        default=1000, what="events one subscription queues before IN_Q_OVERFLOW"
    )

    # Channels and streams, section 2
    backlog: int = _switch(default=16_383, what="events in a channel's ring buffer")
    quota: int = _switch(default=128, what="channels per user before the JSON 429")
    default_timeout: int = _switch(default=300, what="seconds an unconnected channel lives")
    maximum_timeout: int = _switch(default=86_400, what="the longest timeout PATCH accepts")
    expiry_scale: float = _switch(default=1.0, what="factor on the life of unconnected channels")
    metronome_scale: float = _switch(default=1.0, what="factor on the delay of metronomes")
    shutdown_grace: float = _switch(default=0.0, what="seconds between SHUTDOWN and the end (dCache: 2)")
    half_open_after: int = _switch(
        default=0, what="a stream goes silent, unclosed, after that many events (0: never)"
    )
    drop_after: int = _switch(default=0, what="a stream breaks inside the event after that many (0: never)")
    lose_every: int = _switch(
        default=0, what="every that many events is lost on its way, which leaves a gap in the ids (0: none)"
    )
    socket_buffer: int = _switch(
        default=0, what="send buffer of streams in bytes, so that slow readers block (0: big)"
    )

    # Login and limits, sections 1 and 4
    bearer_needs_tls: bool = _switch(default=False, what="bearer tokens over plain HTTP answer 401")
    refuse_logins: int = _switch(default=0, what="that many next requests with a login answer 401")
    limit_errors: int = _switch(
        default=0, what="401s until the client's address is blocked (dCache: 3; 0: never)"
    )
    limit_rate: float = _switch(
        default=0.0, what="requests per second and client address (dCache: 250; 0: any)"
    )
    limit_block: float = _switch(default=10.0, what="seconds a blocked client gets 429")
    limit_retry_after: bool = _switch(default=True, what="send Retry-After with the plain-text 429")

    # Files, sections 3 and 5
    early_404: int = _switch(default=0, what="the first GETs of every new file on the door that answer 404")
    redirect_reads: bool = _switch(
        default=False, what="the door answers GET by 302 to a pool, as dCache does by default"
    )
    stale_stats: int = _switch(default=0, what="the first stats of every new file that say incomplete")
    omit_entries: float = _switch(
        default=0.0, what="the share of entries that a listing leaves out without a word (they failed)"
    )
    shuffle_pages: bool = _switch(default=False, what="every listing comes in another order")
    abort_leaves_entry: bool = _switch(
        default=False, what="an aborted upload leaves an entry without size or replica"
    )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add one flag per switch."""
    for field in dataclasses.fields(Switches):
        flag = "--" + field.name.replace("_", "-")
        text = f"{field.metadata['help']} (default: {field.default})"
        if isinstance(field.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default, help=text)
        else:
            parser.add_argument(flag, type=type(field.default), default=field.default, help=text)


def from_flags(arguments: argparse.Namespace) -> Switches:
    """Return the switches that the parsed command line asks for."""
    return Switches(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Switches)})
