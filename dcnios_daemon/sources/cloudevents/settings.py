"""What can be said of a CloudEvents source in the configuration."""

from typing import Annotated

from pydantic import Field, StringConstraints

from dcnios_daemon.core.settings import Secret, Settings

Origin = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9*?._:-]{1,253}$")]
"""A glob over the name by which a sender calls itself."""


class CloudEventsSettings(Settings):
    """CloudEvents at ``POST /sources/<name>``."""

    token: Secret | None = None
    """What callers must present as ``Authorization: Bearer`` or as ``access_token`` in the query. The OPTIONS
    handshake, by which a sender finds out whether it is welcome at all, needs none."""
    allowed_origins: Annotated[tuple[Origin, ...], Field(min_length=1)] = ("*",)
    """Globs over the names by which senders call themselves (``WebHook-Request-Origin``). Any other gets no
    permission by the handshake, and its events are answered 403. That protects senders, not us: a name
    proves nothing, and who gives none is judged by the token alone."""
    retired: bool = False
    """Answer 410 to all events: senders that know what it means stop for good."""
