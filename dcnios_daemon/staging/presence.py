"""Whether an object is there, by the same leave as anybody's who would read it."""

import yarl

from dcnios_daemon.core.errors import StoreError
from dcnios_daemon.core.ports import Store
from dcnios_daemon.staging.transfer import (
    TRANSPORT_ERRORS,
    Missing,
    open_session,
    refusal,
    shown,
    trust,
    unreachable,
)

_LEAVE_SECONDS = 300.0
_OK = 200


async def is_there(store: Store, target: str, name: str) -> bool:
    """Whether what was put there as ``name`` is there.

    Args:
        store: Has it, or not.
        target: As :meth:`~dcnios_daemon.core.ports.Store.upload` takes it: ``s3://bucket/prefix/``,
            ``dav:/path/``.
        name: Relative to that.

    Raises:
        StoreUnavailable, StoreError: It cannot be told, now or ever.
    """
    download = await store.download(f"{_subject(target)}/{name}", valid_for=_LEAVE_SECONDS)
    what, tls = shown(download.url), await trust(download.authorities)
    try:
        async with (
            open_session() as session,
            session.get(
                yarl.URL(download.url, encoded=True), headers=dict(download.headers), ssl=tls
            ) as response,
        ):
            if response.status == _OK:
                return True
            raise refusal(what, response.status, await response.content.read(4096))
    except Missing:
        return False
    except TRANSPORT_ERRORS as error:
        raise unreachable(what, error) from error


def _subject(target: str) -> str:
    """What a download calls the place.

    >>> _subject("s3://bucket/done/"), _subject("s3://bucket"), _subject("dav:/data/done/")
    ('bucket/done', 'bucket', '/data/done')
    """
    scheme, colon, place = target.partition(":")
    if not colon:
        raise StoreError(f"{target!r} is no place of a store")
    return (place.removeprefix("//") if scheme == "s3" else place).rstrip("/")
