"""Whose turn it is: the highest priority among the routes that could go, and among equals by weight.

Priority is strict, as it is in a queue of Kueue or NiFi: while a route of a higher one may go, no lower one
does. What holds an urgent route back is its own rate and cap, and a route that has no room stands in nobody's
way; so with either, it leaves the others what is beyond it.

Among equals it is start-time fair queueing (Goyal, Vin, Cheng 1996). Let ``most`` be the largest number of
orders of one turn. From the moment at which a route of weight w has work and may go, and as long as it does:

- when its next turn comes after it has had ``n`` orders, another of weight v has had no more than
  ``most + (n + most) * v / w`` since, however much that one has queued;
- any two that have work all the time are never further apart than one turn of each, by weight.

``tests/property/test_fairness.py`` holds it to both.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import msgspec


class Share(msgspec.Struct, frozen=True):
    """What a route may ask for when several compete."""

    weight: float = 1
    priority: int = 0


class Turns:
    """Gives each route a share of the orders in proportion to its weight while several compete.

    Each order moves its route's mark on by ``1 / weight``; of the highest priority, the lowest mark goes
    next. A route that had nothing to do starts again at its priority's present: it cannot save up turns.
    """

    def __init__(self, shares: Mapping[str, Share]) -> None:
        self._shares: dict[str, Share] = {}
        self._marks: dict[str, float] = {}
        self._presents: defaultdict[int, float] = defaultdict(float)
        self.change(shares)

    def change(self, shares: Mapping[str, Share]) -> None:
        """Take new shares. A route that is new to its priority starts at the present."""
        for route, share in shares.items():
            known = self._shares.get(route)
            if known is None or known.priority != share.priority:
                self._marks[route] = self._presents[share.priority]
            self._shares[route] = share

    def next(self, candidates: Iterable[str]) -> str | None:
        """The candidate whose turn it is; None when there is none."""
        return min(candidates, key=self._place, default=None)

    def went(self, route: str, orders: int) -> None:
        """The route used that many turns."""
        share = self._shares[route]
        start = self._presents[share.priority] = self._mark(route)
        self._marks[route] = start + orders / share.weight

    def _place(self, route: str) -> tuple[int, float]:
        return -self._shares[route].priority, self._mark(route)

    def _mark(self, route: str) -> float:
        return max(self._marks[route], self._presents[self._shares[route].priority])
