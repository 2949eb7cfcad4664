"""What OSCAR says to a call, and what that means for the order."""

import pytest

from dcnios_daemon.core.errors import OrderRefused, SinkBusy, SinkError, SinkMisconfigured, SinkUnavailable
from dcnios_daemon.sinks.http.answer import Answer
from dcnios_daemon.sinks.oscar.answer import failure

JOB = "edgan3-0123"


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (201, "", None),
        (500, f'jobs.batch "{JOB}" already exists', None),
        (500, f'object is being deleted: jobs.batch "{JOB}" already exists', None),
        (500, 'jobs.batch "another-0123" already exists', SinkUnavailable),
        (500, 'error ensuring credentials for user u: secrets "u" already exists', SinkUnavailable),
        (500, "", SinkUnavailable),
        (500, "etcdserver: request timed out", SinkUnavailable),
        (500, "client rate limiter Wait returned an error: context deadline exceeded", SinkUnavailable),
        (500, f'jobs.batch "{JOB}" is forbidden: exceeded quota: q, requested: count/jobs.batch=1', SinkBusy),
        (500, 'jobs.batch is forbidden: User "system:serviceaccount:oscar" cannot create', SinkMisconfigured),
        (500, f'Job.batch "{JOB}" is invalid: metadata.labels: Invalid value: "a b"', OrderRefused),
        (500, "etcdserver: request is too large", OrderRefused),
        (500, 'admission webhook "policy" denied the request: no', OrderRefused),
        (500, 'error ensuring credentials for user u: secrets "u" not found', OrderRefused),
        (500, 'error ensuring credentials for user minio: secrets "minio" not found', SinkMisconfigured),
        (500, "error ensuring credentials for user u: etcdserver: request timed out", SinkUnavailable),
        (200, "<html>", SinkMisconfigured),
        (204, "", SinkMisconfigured),
        (302, "", SinkMisconfigured),
        (400, "Error getting oidc manager for issuer 'x'", SinkMisconfigured),
        (401, "", SinkMisconfigured),
        (403, "MinIO user not provisioned for u; submit a direct request first", SinkMisconfigured),
        (404, "", SinkMisconfigured),
        (413, "<html>nginx", OrderRefused),
        (502, "token is malformedError getting oidc manager for issuer ''", SinkMisconfigured),
        (502, "<html>502 Bad Gateway", SinkUnavailable),
        (503, "", SinkUnavailable),
        (504, "<html>nginx", SinkUnavailable),
    ],
)
def test_what_an_answer_means(status: int, words: str, kind: type[SinkError] | None) -> None:
    found = failure(
        Answer(status=status, words=words.encode()), where="https://o/job/s", job=JOB, user="u", now=0.0
    )
    assert type(found) is (kind or type(None))
    if found is not None:
        assert f"https://o/job/s answers {status}" in str(found)
    if isinstance(found, OrderRefused):
        assert found.answered


def test_a_gateway_in_front_may_ask_for_time() -> None:
    found = failure(Answer(status=429, retry_after="7"), where="https://o/job/s", job=JOB, user="u", now=0.0)
    assert isinstance(found, SinkBusy)
    assert found.retry_after == 7
