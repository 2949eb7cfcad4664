"""What a call of the client may raise, beside ``ValueError`` for arguments that can never be right."""

from collections.abc import Sequence

from dcnios_daemon.client.delivery import Delivery
from dcnios_daemon.core.errors import DcniosError


class ClientError(DcniosError):
    """The daemon did not do what was asked of it."""


class DaemonAway(ClientError):
    """The daemon was away, or failing, for all the time that there was."""

    retryable = True


class Refused(ClientError):
    """The daemon answered, and will not: no such thing, no right, a wrong question."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status."""


class NotRun(ClientError):
    """Nothing will be run for this event: no route takes it, or somebody dropped it."""

    def __init__(self, message: str, *, deliveries: Sequence[Delivery]) -> None:
        super().__init__(message)
        self.deliveries = deliveries


class DeliveryDead(ClientError):
    """A delivery cannot succeed and waits for replay. The message says why, with the log's last lines."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(_obituary(delivery))
        self.delivery = delivery
        """The dead one. Its ``outcome`` has failure, reason, exit code and the log's last lines."""


class NotYet(ClientError, TimeoutError):
    """It has not ended within the time that was given. It goes on: wait again."""

    retryable = True

    def __init__(self, message: str, *, deliveries: Sequence[Delivery]) -> None:
        super().__init__(message)
        self.deliveries = deliveries
        """As they stood last; none: the daemon has not seen the event."""


def _obituary(delivery: Delivery) -> str:
    said = f"{delivery.subject}: delivery {delivery.id} of route {delivery.route} is dead: {delivery.note}"
    log = delivery.outcome.log_tail.strip() if delivery.outcome else ""
    return f"{said}\n{log}" if log else said
