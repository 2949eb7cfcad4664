"""``make test-crash``: a storm of the wanted size around the real daemon and real servers.

``SEED=7 KILLS=50 OUTAGES=30 EVENTS=5000 make test-crash`` repeats one. The same seed draws the same troubles,
but not the same instants: the machine has a word in those. What is needed to look into a violation (ledger,
journal, the daemon's log, the API server's audit log) stays in the folder that is named at the end.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.crash.storm import Plan, weather


def main() -> int:
    """Run the command line; 1 says that a promise was broken."""
    given = _arguments()
    plan = Plan(seed=given.seed, kills=given.kills, outages=given.outages, events=given.events)
    folder = given.keep or Path(tempfile.mkdtemp(prefix=f"dcnios-crash-{plan.seed}-"))
    print(f"SEED={plan.seed} KILLS={plan.kills} OUTAGES={plan.outages} EVENTS={plan.events}: in {folder}")
    sys.stdout.flush()
    ledger = asyncio.run(_talking(plan, folder))
    print(table(ledger))
    print(f"ledger, journal, log and audit log: {folder}")
    return 1 if ledger["violations"] else 0


async def _talking(plan: Plan, folder: Path) -> dict[str, Any]:
    """A storm that says what it waits for when it gets SIGUSR1."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, _tell_tasks)
    return await weather(plan, folder)


def _tell_tasks() -> None:
    for task in asyncio.all_tasks():
        task.print_stack(file=sys.stderr)


def _arguments() -> argparse.Namespace:
    def size(name: str, default: int) -> dict[str, Any]:
        return {"type": int, "default": int(os.environ.get(name) or default), "help": f"or ${name}"}

    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--seed", **size("SEED", random.randrange(1_000_000)))
    parser.add_argument("--kills", **size("KILLS", 1000))
    parser.add_argument("--outages", **size("OUTAGES", 200))
    parser.add_argument("--events", **size("EVENTS", 100_000))
    parser.add_argument("--keep", type=Path, help="a folder for what is left, in place of a temporary one")
    return parser.parse_args()


def table(ledger: dict[str, Any]) -> str:
    """The ledger for people."""
    rows = []
    for name, value in ledger.items():
        if name == "violations":
            continue
        told = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        rows.append(f"{name.replace('_', ' '):>22}  {told}")
    for kind, found in ledger["violations"].items():
        rows.append(f"{'VIOLATION ' + kind:>22}  {len(found)}: {'; '.join(found[:5])}")
    if not ledger["violations"]:
        rows.append(f"{'violations':>22}  none")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
