"""What one order's staging needs, as data: made by the daemon, carried to the pod, used by ``dcnios stage``.

It holds leave (presigned URLs, macaroons) for this one object and these prefixes, and never a credential.
Whoever has it can do just that for as long as it is valid: it belongs in a Secret or a private file. It
stands apart from what makes it, so that ``dcnios stage`` starts without a template engine.
"""

import msgspec

from dcnios_daemon.core.errors import StoreError
from dcnios_daemon.core.ports import Download, Upload


class Outlet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One place that results go to."""

    name: str
    """Its name in the route's ``stage_out``."""
    upload: Upload
    prefix: tuple[str, ...] = ()
    """Only files whose name, folders included, begins with one of these; none: all."""
    suffix: tuple[str, ...] = ()

    def takes(self, name: str) -> bool:
        """Whether a file of this name, relative to the output folder, goes there."""
        return name.startswith(self.prefix or "") and name.endswith(self.suffix or "")


class StagingPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole of an order's staging."""

    download: Download | None = None
    local_name: str = ""
    """The input file's name in the work directory's ``input`` folder."""
    uploads: tuple[Outlet, ...] = ()

    def encode(self) -> bytes:
        """As JSON, for the file that ``dcnios stage --plan`` reads."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, raw: bytes) -> "StagingPlan":
        """The reverse of :meth:`encode`.

        Raises:
            StoreError: It is no plan.
        """
        try:
            return msgspec.json.decode(raw, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StoreError(f"the staging plan cannot be read: {error}") from error
