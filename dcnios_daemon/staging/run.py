"""The two steps around a run: its input in, its results out. The same code beside a process and in a pod.

``main_in`` and ``main_out`` are what ``dcnios stage in|out`` calls; they say on standard error what went
wrong, naming the file and the store, never the leave.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from dcnios_daemon.core.errors import DcniosError
from dcnios_daemon.staging.contract import INPUT, OUTPUT
from dcnios_daemon.staging.deliver import deliver
from dcnios_daemon.staging.document import StagingPlan
from dcnios_daemon.staging.fetch import fetch
from dcnios_daemon.staging.output import results
from dcnios_daemon.staging.transfer import Patience, on_disk, open_session

DONE = 0
REFUSED = 1
"""Another attempt would fail alike."""
TRY_LATER = 75
"""``EX_TEMPFAIL`` of sysexits.h: another attempt may succeed."""


async def stage_in(plan: StagingPlan, work_dir: Path, *, patience: Patience | None = None) -> int:
    """Make the work directory's ``input`` and ``output``, and fetch the object into the first.

    Safe to repeat. Returns the object's size in bytes; 0 if the plan has none.

    Raises:
        StoreUnavailable: Another attempt may succeed.
        StoreError: It never will.
    """
    await on_disk(work_dir, _prepare, work_dir)
    if plan.download is None:
        return 0
    target = work_dir / INPUT / plan.local_name
    async with open_session() as session:
        return await fetch(session, plan.download, target, patience or Patience())


async def stage_out(plan: StagingPlan, work_dir: Path, *, patience: Patience | None = None) -> int:
    """Put what is in the work directory's ``output`` where the plan says, file after file, sorted by name.

    Safe to repeat: files are overwritten. Returns how many were put.

    Raises:
        StoreUnavailable: Another attempt may succeed.
        StoreError: It never will.
    """
    if not plan.uploads:
        return 0
    found = await asyncio.to_thread(results, work_dir / OUTPUT, allowed=(work_dir / INPUT,))
    put = 0
    async with open_session() as session:
        for outlet in plan.uploads:
            for result in found:
                if outlet.takes(result.name):
                    await deliver(session, outlet.upload, result, patience or Patience())
                    put += 1
    return put


def main_in(plan_path: Path, work_dir: Path) -> int:
    """Stage in by the plan in that file. Returns the exit code: 0 done, 1 never, 75 try again later."""
    return _main(plan_path, "stage in", lambda plan: stage_in(plan, work_dir), "{} bytes fetched")


def main_out(plan_path: Path, work_dir: Path) -> int:
    """Stage out by the plan in that file. Returns the exit code, as :func:`main_in`."""
    return _main(plan_path, "stage out", lambda plan: stage_out(plan, work_dir), "{} files put")


def _main(plan_path: Path, what: str, step: Callable[[StagingPlan], Awaitable[int]], done: str) -> int:
    async def run() -> int:
        return await step(StagingPlan.decode(await asyncio.to_thread(plan_path.read_bytes)))

    try:
        amount = asyncio.run(run())
    except OSError as error:
        sys.stderr.write(f"dcnios {what}: {plan_path}: {error.strerror}\n")
        return TRY_LATER
    except DcniosError as error:
        sys.stderr.write(f"dcnios {what}: {_printable(str(error))}\n")
        return TRY_LATER if error.retryable else REFUSED
    sys.stdout.write(f"dcnios {what}: {done.format(amount)}\n")
    return DONE


def _printable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _prepare(work_dir: Path) -> None:
    """The run may be another user's: it must be able to read its input and to write its output."""
    (work_dir / INPUT).mkdir(parents=True, exist_ok=True)
    output = work_dir / OUTPUT
    output.mkdir(exist_ok=True)
    output.chmod(0o777)
