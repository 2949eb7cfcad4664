"""The figures as one picture: each against its own mark, so that ratios, seconds and MiB go together."""

from collections.abc import Sequence
from typing import Any
from xml.sax.saxutils import escape

_WIDTH, _ROW, _TOP = 860, 26, 46
_LEFT, _RIGHT = 340, 700
"""Where the bars are; names stand left of them, numbers right."""
_MARK = _LEFT + (_RIGHT - _LEFT) * 2 / 3
"""Where every mark stands."""
_STYLE = """
  svg { background: #ffffff }
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .quiet { fill: #57606a }
  .good { fill: #2f7d4f } .missed { fill: #b3541e } .free { fill: #6e7781 }
  .spread { stroke: #24292f; stroke-width: 1.5 }
  .mark { stroke: #57606a; stroke-width: 1; stroke-dasharray: 3 3 }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117 }
    text { fill: #e6edf3 } .quiet { fill: #9198a1 }
    .good { fill: #3fa66b } .missed { fill: #d9772f } .free { fill: #848d97 }
    .spread { stroke: #e6edf3 } .mark { stroke: #9198a1 }
  }
"""


def wanted(row: dict[str, Any]) -> str:
    """The mark in words; nothing where there is none."""
    if "at_least" in row:
        return f"≥ {row['at_least']:g}"
    return f"≤ {row['at_most']:g}" if "at_most" in row else ""


def met(row: dict[str, Any]) -> bool | None:
    """Whether the mark is met; None where there is none."""
    if "at_least" in row:
        return bool(row["median"] >= row["at_least"])
    return bool(row["median"] <= row["at_most"]) if "at_most" in row else None


def drawn(rows: Sequence[dict[str, Any]]) -> str:
    """An SVG document, legible on light and on dark."""
    height = _TOP + _ROW * len(rows) + 14
    bars = "\n".join(_bar(row, _TOP + _ROW * number) for number, row in enumerate(rows))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"
     role="img" aria-label="What was measured, each against what is wanted">
<style>{_STYLE}</style>
<line class="mark" x1="{_MARK:.1f}" x2="{_MARK:.1f}" y1="{_TOP - 12}" y2="{height - 8}"/>
<text class="quiet" x="{_MARK:.1f}" y="{_TOP - 20}" text-anchor="middle">wanted</text>
<text class="quiet" x="{_RIGHT + 14}" y="{_TOP - 20}">measured (wanted)</text>
{bars}
</svg>
"""


def _bar(row: dict[str, Any], top: float) -> str:
    goal = row.get("at_least", row.get("at_most", row["median"] * 1.5))
    kind = {True: "good", False: "missed", None: "free"}[met(row)]
    end, middle = _place(row["median"], goal), top + _ROW / 2
    spread = ""
    if "q1" in row:
        first, last = _place(row["q1"], goal), _place(row["q3"], goal)
        spread = f'<line class="spread" x1="{first:.1f}" x2="{last:.1f}" y1="{middle}" y2="{middle}"/>'
    told = f"{row['median']:.3g}" if row["median"] < 100 else f"{row['median']:.0f}"
    if aim := wanted(row):
        told += f"  ({aim})"
    bar = f'x="{_LEFT}" y="{top + 5}" width="{end - _LEFT:.1f}" height="{_ROW - 10}" rx="2"'
    return (
        f'<text x="{_LEFT - 12}" y="{middle + 4}" text-anchor="end">{escape(row["name"])}</text>\n'
        f'<rect class="{kind}" {bar}/>{spread}\n'
        f'<text x="{_RIGHT + 14}" y="{middle + 4}">{escape(told)}</text>'
    )


def _place(value: float, goal: float) -> float:
    return min(_LEFT + (_MARK - _LEFT) * value / goal, float(_RIGHT))
