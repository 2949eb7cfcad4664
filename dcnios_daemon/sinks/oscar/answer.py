"""What OSCAR's answer to ``POST /job`` means for the order. Pure.

OSCAR has few answers (``pkg/handlers/job.go``, 4.1): 201 is yes, and 500 is nearly everything else, the words
of Kubernetes among them, so that these have to be read. One that is taken for a failure that passes, and is
none, would be sent for ever; one that is taken for the event's own, and is none, would bury it.
"""

from http import HTTPStatus

from dcnios_daemon.core.errors import OrderRefused, SinkBusy, SinkError, SinkMisconfigured
from dcnios_daemon.sinks.http.answer import Answer
from dcnios_daemon.sinks.http.answer import failure as http_failure

_WORDS = 500
_ROUTE_S_OWN = {
    HTTPStatus.BAD_REQUEST: "correct token: OSCAR knows no such issuer, or several services have this name",
    HTTPStatus.UNAUTHORIZED: "correct token, or service: of one that it does not know OSCAR says so, too",
    HTTPStatus.FORBIDDEN: "the token's user has no access to MinIO yet: call OSCAR directly once",
    HTTPStatus.NOT_FOUND: "correct service or endpoint, or ask for access to it",
}


def failure(answer: Answer, *, where: str, job: str, user: str, now: float) -> SinkError | None:
    """The error for an answer; None when it is a yes.

    Args:
        answer: What came back.
        where: The service, for the message.
        job: The name that the job was to have: that there is one already is a yes.
        user: Of MinIO, by whom the event says it was made; empty: it does not say.
        now: Seconds since the epoch.
    """
    if answer.status == HTTPStatus.CREATED:
        return None
    said = " ".join(answer.words.decode(errors="replace").split())
    words = f"{where} answers {answer.status}{': ' if said else ''}{said[:_WORDS]}"
    if answer.status == HTTPStatus.INTERNAL_SERVER_ERROR and (known := _of_kubernetes(said, job, user)):
        return None if known is True else _made(known, words)
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return SinkMisconfigured(f"{where} answers {answer.status}, where OSCAR says 201: correct endpoint")
    if answer.status in _ROUTE_S_OWN:
        return SinkMisconfigured(f"{words}: {_ROUTE_S_OWN[HTTPStatus(answer.status)]}")
    if answer.status == HTTPStatus.BAD_GATEWAY and "oidc manager" in said:
        return SinkMisconfigured(f"{words}: correct token: it is neither the service's nor one of OpenID")
    return http_failure(answer, where=where, now=now)


def _of_kubernetes(said: str, job: str, user: str) -> type[SinkError] | bool:
    """What Kubernetes told OSCAR: True is a yes, False nothing that would be known."""
    if f'jobs.batch "{job}" already exists' in said:
        return True
    if "exceeded quota" in said:
        return SinkBusy
    if f'"{job}" is invalid' in said or "denied the request" in said or "too large" in said:
        return OrderRefused
    if "error ensuring credentials for user" in said and "not found" in said:
        return OrderRefused if user and f"for user {user}:" in said else SinkMisconfigured
    return SinkMisconfigured if "is forbidden" in said else False


def _made(kind: type[SinkError], words: str) -> SinkError:
    if kind is OrderRefused:
        return OrderRefused(words, answered=True)
    return SinkBusy(words) if kind is SinkBusy else kind(f"{words}: grant or make it in OSCAR's cluster")
