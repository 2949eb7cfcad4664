"""What happened, held against what was promised. Pure: from the cluster's own records to violations.

The order of creations and ends is etcd's, by resource version: *live at the same time* needs no clock.
The rate is judged by when the API server received each request that created a Job, as its audit log says.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

SLACK = 0.01
"""Orders. What rounding adds up to in a bucket."""


@dataclass(frozen=True)
class Limit:
    """What was configured. None: no limit."""

    rate: float | None
    burst: float
    in_flight: int | None


@dataclass
class Job:
    """One Job that was in the cluster."""

    name: str
    route: str
    mark: str
    """Which of the harness's events it is for."""
    key: str
    attempt: int
    created: int
    """Resource version."""
    ended: int | None = None
    """Resource version of the change that said so."""
    failed: bool = False


@dataclass(frozen=True)
class Creation:
    """An entry of the audit log."""

    name: str
    received: float
    """Seconds since the epoch."""
    is_sure: bool = True
    """False: it was answered with 504, for its client was gone. The Job may be there or not."""

    @property
    def route(self) -> str:
        """The order's name without its hash."""
        return self.name.rpartition("-")[0]


@dataclass
class Ledger:
    """All that is to be judged.

    Args:
        happened: How many events each mark stands for: one, unless a producer had to send twice.
        jobs: Every Job that ever was.
        creations: The audit log.
        limits: By route; "" is over all.
        dead: Marks whose delivery is dead: given up for all to see, not lost.
        replayed: Marks that were replayed by hand: another attempt without a failed one is right.
    """

    happened: Mapping[str, int]
    jobs: list[Job]
    creations: list[Creation]
    limits: Mapping[str, Limit]
    dead: frozenset[str] = frozenset()
    replayed: frozenset[str] = frozenset()
    found: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def judge(self) -> dict[str, list[str]]:
        """Violations by kind; empty if all was kept."""
        self.found.clear()
        by_key: dict[str, list[Job]] = defaultdict(list)
        for job in self.jobs:
            by_key[job.key].append(job)
        self._resolve()
        self._names()
        self._lost(by_key)
        for jobs in by_key.values():
            self._attempts(sorted(jobs, key=lambda job: job.created))
        for route, limit in self.limits.items():
            self._slots(route, limit)
            self._rate(route, limit)
        return dict(self.found)

    def _resolve(self) -> None:
        """Of the creations that nobody is sure of keep those whose Job was seen."""
        missing = Counter(job.name for job in self.jobs)
        missing.subtract(each.name for each in self.creations if each.is_sure)
        kept = []
        for each in self.creations:
            if not each.is_sure:
                missing[each.name] -= 1
            if each.is_sure or missing[each.name] >= 0:
                kept.append(each)
        self.creations = kept

    def _names(self) -> None:
        """A name is made once in all time, even when its first Job is long gone; and nobody was missed."""
        audit = Counter(creation.name for creation in self.creations)
        seen = Counter(job.name for job in self.jobs)
        for name, count in audit.items():
            if count > 1:
                self.found["doubled"].append(f"{name} was created {count} times")
        for name in audit.keys() ^ seen.keys():
            self.found["harness"].append(f"{name}: {audit[name]} in the audit log, {seen[name]} seen")

    def _lost(self, by_key: Mapping[str, list[Job]]) -> None:
        keys: dict[str, set[str]] = defaultdict(set)
        for key, jobs in by_key.items():
            keys[jobs[0].mark].add(key)
        for mark, count in self.happened.items():
            have = len(keys[mark])
            if have > count:
                self.found["doubled"].append(f"{mark} happened {count} times and has {have} keys")
            elif have < count and mark not in self.dead:
                self.found["lost"].append(f"{mark} happened {count} times and has {have} keys with a Job")
        for mark in keys.keys() - self.happened.keys():
            self.found["invented"].append(f"{mark} never happened")

    def _attempts(self, jobs: list[Job]) -> None:
        """One Job per attempt; the next only after the last one failed."""
        for number, job in enumerate(jobs, 1):
            if job.attempt != number and job.mark not in self.replayed:
                self.found["doubled"].append(f"{job.mark}: Job {number} is attempt {job.attempt}: {job.name}")
        for before, after in itertools.pairwise(jobs):
            told = before.ended is not None and before.ended < after.created and before.failed
            if not told and before.mark not in self.replayed:
                self.found["doubled"].append(f"{before.mark}: {after.name} though {before.name} did not fail")
        last = jobs[-1]
        if (last.failed or last.ended is None) and last.mark not in self.dead:
            state = "failed" if last.failed else "did not end"
            self.found["lost"].append(f"{last.mark}: its last Job {last.name} {state}")

    def _slots(self, route: str, limit: Limit) -> None:
        if limit.in_flight is not None and (most := self.most_live(route)) > limit.in_flight:
            self.found["slots"].append(f"{route or 'all'}: {most} at once, {limit.in_flight} allowed")

    def most_live(self, route: str) -> int:
        """The most Jobs of the route ("" is all) that had been made and not ended at the same time."""
        changes = []
        for job in self.jobs:
            if route in {"", job.route}:
                changes.append((job.created, 1))
                if job.ended is not None:
                    changes.append((job.ended, -1))
        live = most = 0
        for _, change in sorted(changes):
            live += change
            most = max(most, live)
        return most

    def _rate(self, route: str, limit: Limit) -> None:
        if limit.rate is not None and (most := self.fullest(route, limit.rate)) > limit.burst + SLACK:
            self.found["rate"].append(f"{route or 'all'}: {most:.2f} in the bucket, {limit.burst:g} allowed")

    def fullest(self, route: str, rate: float) -> float:
        """The highest level of a bucket that leaks at this rate: over the burst if and only if some window
        of t seconds held more than ``burst + rate * t`` creations."""
        level = most = 0.0
        before: float | None = None
        for moment in sorted(each.received for each in self.creations if route in {"", each.route}):
            level = max(0.0, level - rate * (moment - (before if before is not None else moment))) + 1
            before = moment
            most = max(most, level)
        return most

    def figures(self) -> dict[str, Any]:
        """What there was of everything, for the table."""
        attempts = Counter(job.key for job in self.jobs)
        return {
            "events": sum(self.happened.values()),
            "jobs": len(self.jobs),
            "keys": len(attempts),
            "keys_by_jobs": dict(sorted(Counter(attempts.values()).items())),
            "failed_jobs": sum(job.failed for job in self.jobs),
            "dead": len(self.dead),
            "replayed": len(self.replayed),
            "live_at_most": {
                route or "all": f"{self.most_live(route)} of {limit.in_flight}"
                for route, limit in self.limits.items()
            },
            "bucket_at_most": {
                route or "all": f"{self.fullest(route, limit.rate):.2f} of {limit.burst:g}"
                for route, limit in self.limits.items()
                if limit.rate is not None
            },
        }


def violations(found: Mapping[str, Iterable[str]]) -> int:
    """How many there are."""
    return sum(len(list(each)) for each in found.values())
