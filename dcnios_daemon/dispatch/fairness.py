"""Whose turn it is: stride scheduling, by weight, among the routes that could go."""

from collections.abc import Iterable, Mapping


class Turns:
    """Gives each route a share of the orders in proportion to its weight while several compete.

    Each order moves its route's mark on by ``1 / weight``; the lowest mark goes next. A route that had
    nothing to do starts again at the present: it cannot save up turns.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = dict(weights)
        self._marks = dict.fromkeys(weights, 0.0)
        self._present = 0.0

    def _mark(self, route: str) -> float:
        return max(self._marks[route], self._present)

    def change(self, weights: Mapping[str, float]) -> None:
        """Take new weights; routes that are new start at the present."""
        self._weights.update(weights)
        for route in weights:
            self._marks.setdefault(route, self._present)

    def next(self, candidates: Iterable[str]) -> str | None:
        """The candidate whose turn it is; None when there is none."""
        return min(candidates, key=self._mark, default=None)

    def went(self, route: str, orders: int) -> None:
        """The route used that many turns."""
        self._present = self._mark(route)
        self._marks[route] = self._present + orders / self._weights[route]
