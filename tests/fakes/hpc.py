"""What really runs on a pretend HPC, and what becomes of it: by the order's name, so that tests know it."""

import enum
import random
from collections import Counter

import msgspec

from dcnios_daemon.core.ports import Failure

TIME_LIMIT = "SLURM job reached its time limit and was terminated"


class Fate(enum.Enum):
    """What becomes of a job on the HPC, how interLink tells of it, and what that means."""

    DONE = (0, "done", 0, "", None)
    SCRIPT = (7, "run", 7, "", Failure.SCRIPT)
    CODE_LOST = (0, "run", 7, "", Failure.SCRIPT)
    STAGING = (75, "stage-out", 75, "", Failure.INFRASTRUCTURE)
    TIME_LIMIT = (15, "run", 143, TIME_LIMIT, Failure.DEADLINE)
    NODE_DOWN = (15, "", 0, "", Failure.INFRASTRUCTURE)
    MEMORY = (9, "", 0, "", Failure.SCRIPT)
    CANCELLED = (0, "", 0, "", Failure.SUSPICIOUS)
    """While it was pending: nothing ran, and it is called a success."""
    NO_CONTAINERS = (None, "done", 0, "", None)
    """Succeeded, zero of zero."""
    REFUSED = (1, "", 0, "sbatch: error: Batch job submission failed: QOS limit", Failure.INFRASTRUCTURE)
    REPLY_LOST = (1, "", 0, "timeout awaiting response headers", Failure.UNKNOWN)
    """It is queued, runs, and nobody knows."""

    def __init__(self, shown: int | None, step: str, code: int, message: str, means: Failure | None) -> None:
        self.shown = shown
        self.step = step
        self.code = code
        self.message = message
        self.means = means

    @property
    def is_provider(self) -> bool:
        """Whether the submission fails, or seems to."""
        return self in {Fate.REFUSED, Fate.REPLY_LOST}


WEIGHTS = {Fate.DONE: 12}
"""How often; once for those that are not here."""


class Hpc(msgspec.Struct):
    """What really runs, on all nodes together."""

    seed: int
    running: dict[str, str] = msgspec.field(default_factory=dict)
    """Key to the order that runs."""
    submitted: Counter[str] = msgspec.field(default_factory=Counter)
    wrong: list[str] = msgspec.field(default_factory=list)
    """What must never happen."""

    def fate(self, order: str) -> Fate:
        """The same each time it is asked."""
        fates = list(Fate)
        dice = random.Random(f"{self.seed} {order}")
        return dice.choices(fates, [WEIGHTS.get(fate, 1) for fate in fates])[0]

    def begin(self, key: str, order: str) -> None:
        """A job of that key is with the batch system."""
        if (other := self.running.get(key)) not in {None, order}:
            self.wrong.append(f"{order} begins while {other} of the same key runs")
        self.running[key] = order
        self.submitted[order] += 1

    def end(self, key: str) -> None:
        """It is no longer."""
        self.running.pop(key, None)
