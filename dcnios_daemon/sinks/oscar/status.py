"""What OSCAR's list of jobs says of one. Pure.

It has the phase of the job's first pod (``pkg/handlers/logs.go``), ``Suspended`` if there is none yet, and
when the container began and ended. An exit code it has not; and OSCAR's supervisor hides the script's: a job
that succeeded has staged, called the script and staged again, no more.
"""

import contextlib
from collections.abc import Mapping
from datetime import datetime

import msgspec

from dcnios_daemon.core.errors import SinkUnavailable
from dcnios_daemon.core.ports import Failure, Outcome


class JobInfo(msgspec.Struct, frozen=True):
    """A job in the list. Times as RFC 3339."""

    status: str = ""
    start_time: str | None = None
    finish_time: str | None = None


class Page(msgspec.Struct, frozen=True):
    """Some of the jobs, and where the next ones are."""

    jobs: Mapping[str, JobInfo] | None = None
    next_page: str = ""


_DECODER = msgspec.json.Decoder(Page)


def read_page(body: bytes, *, where: str) -> Page:
    """A page of the list.

    Raises:
        SinkUnavailable: It is none.
    """
    try:
        return _DECODER.decode(body)
    except msgspec.DecodeError as error:
        raise SinkUnavailable(f"{where} answers what is no list of jobs: {error}") from error


def outcome(order: str, job: str, info: JobInfo) -> Outcome | None:
    """How it ended; None while it lives."""
    if info.status not in {"Succeeded", "Failed"}:
        return None
    failure = None
    if info.status == "Failed":  # without an end of its container it was the node's or the cluster's doing
        failure = Failure.SCRIPT if info.finish_time else Failure.INFRASTRUCTURE
    return Outcome(
        order=order,
        failure=failure,
        reason=info.status,
        message=f"OSCAR's job {job}",
        started=_seconds(info.start_time),
        ended=_seconds(info.finish_time),
    )


def _seconds(text: str | None) -> float | None:
    with contextlib.suppress(ValueError):
        return None if text is None else datetime.fromisoformat(text).timestamp()
    return None
