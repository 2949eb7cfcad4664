"""What all that is said has in common: a name, a level, fields, and perhaps a metric."""

from functools import partial
from typing import ClassVar

import msgspec

from dcnios_daemon.telemetry.logging import say


class Signal(msgspec.Struct):
    """Something worth saying. Subclasses name it, give its level, and may count it."""

    name: ClassVar[str]
    level: ClassVar[str] = "info"

    def emit(self) -> None:
        """Count it, and log it."""
        self.measure()
        say(self.level, self.name, partial(msgspec.structs.asdict, self))

    def measure(self) -> None:
        """Bring the metrics up to date. By default there is none."""
