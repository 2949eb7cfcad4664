"""Ratios of paired blocks, and how they are told."""

import statistics
from collections.abc import Sequence
from typing import Any


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and number."""
    quartiles = statistics.quantiles(values, n=4, method="inclusive")
    return {
        "median": round(statistics.median(values), 4),
        "q1": round(quartiles[0], 4),
        "q3": round(quartiles[2], 4),
        "n": len(values),
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the others does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def table(rows: Sequence[tuple[str, dict[str, Any], str]]) -> str:
    """What was measured, what came out, what is wanted."""
    lines = [f"{'':44} {'median':>9} {'q1..q3':>19} {'n':>4}   wanted"]
    for name, found, wanted in rows:
        spread = f"{found['q1']:.3f}..{found['q3']:.3f}" if "q1" in found else ""
        lines.append(f"{name:44} {found['median']:9.3f} {spread:>19} {found.get('n', 1):4}   {wanted}")
    return "\n".join(lines)
