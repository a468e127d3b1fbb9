"""Draw how calls fare as the work grows: an SVG, written by hand.

One panel for each kind of growth. Its band says within what nothing can be told from
noise: a line that stays in it is flat.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks.harness.statistics import AGAIN, BARE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.harness.report import Result

CONTROL: Final = " controls"
"""How the rows end that say what the same growth costs without the agent."""

_COLUMNS: Final = 3
_WIDTH: Final = 210
_HEIGHT: Final = 120
_LEFT: Final = 62
_ABOVE: Final = 36
_BELOW: Final = 44
_LEGEND: Final = 44
_TICKS: Final = 4
_ROUND: Final = (1.0, 1.2, 1.6, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)
_THOUSAND: Final = 1000

# A reader's page is light or dark, and the picture stands in it as one of its own.
_STYLE: Final = """<style>
svg{--ink:#1f2328;--faint:#d8dee4;--page:#fff;--ours:#0a7f4f;--other:#8b949e}
@media (prefers-color-scheme:dark){svg{--ink:#e6edf3;--faint:#30363d;--page:#0d1117;
--ours:#3fb97f;--other:#8b949e}}
text{font-family:sans-serif;font-size:11px;fill:var(--ink)}
.name{font-weight:bold;font-size:12px}.page{fill:var(--page)}
.grid{stroke:var(--faint)}.band{fill:var(--ours);opacity:.18}
.ours{stroke:var(--ours)}.other{stroke:var(--other);stroke-dasharray:5 3}
.line{fill:none;stroke-width:2}
circle.ours{fill:var(--ours)}circle.other{fill:var(--other)}
</style>"""


class _Panel(NamedTuple):
    """One result, and where it is drawn.

    Attributes:
        result: What is shown.
        left: The left end of its axis.
        bottom: The height of the axis.
        scale: By what its values are divided.
        top: The value at the upper end.
    """

    result: Result
    left: float
    bottom: float
    scale: float
    top: float

    def x(self, index: int, count: int) -> float:
        """Return where one of `count` sizes lies."""
        return self.left + _WIDTH / count * (index + 0.5)

    def y(self, value: float) -> float:
        """Return how high a value lies."""
        return self.bottom - min(value / self.scale, self.top) / self.top * _HEIGHT


def draw(results: Sequence[Result]) -> str:
    """Return a panel for each result: its values by size, and the band of noise."""
    rows = math.ceil(len(results) / _COLUMNS)
    width = _COLUMNS * (_LEFT + _WIDTH) + 14
    height = _LEGEND + rows * (_ABOVE + _HEIGHT + _BELOW)
    name_space = "http://www.w3.org/2000/svg"
    lines = [
        f'<svg xmlns="{name_space}" viewBox="0 0 {width} {height}">',
        _STYLE,
        f'<rect class="page" width="{width}" height="{height}"/>',
        *_legend(),
    ]
    for index, result in enumerate(results):
        row, column = divmod(index, _COLUMNS)
        lines += _panel(result, row, column)
    return "\n".join([*lines, "</svg>", ""])


def _legend() -> Iterable[str]:
    yield f'<path class="ours line" d="M{_LEFT} 16h24"/>'
    yield f'<text x="{_LEFT + 30}" y="20">with the agent</text>'
    yield f'<path class="other line" d="M{_LEFT + 130} 16h24"/>'
    yield (
        f'<text x="{_LEFT + 160}" y="20">without it; of services with no library: '
        "the control, which adds to numbers</text>"
    )
    yield f'<rect class="band" x="{_LEFT}" y="26" width="24" height="12"/>'
    yield (
        f'<text x="{_LEFT + 30}" y="36">noise: the value at the smallest size, more or '
        "less what turns of the same differ by</text>"
    )


def _panel(result: Result, row: int, column: int) -> Iterable[str]:
    sizes = [
        name for name in result.samples if name != BARE and not name.endswith(AGAIN)
    ]
    ours = [name for name in sizes if not name.endswith(CONTROL)]
    control = [name for name in sizes if name.endswith(CONTROL)]
    values = _values(result, ours)
    highest = max(*values, *_values(result, control))
    scale = float(_THOUSAND) if highest >= _THOUSAND else 1.0
    panel = _Panel(
        result,
        left=_LEFT + column * (_LEFT + _WIDTH),
        bottom=_LEGEND + row * (_ABOVE + _HEIGHT + _BELOW) + _ABOVE + _HEIGHT,
        scale=scale,
        top=_above(1.1 * highest / scale),
    )
    yield from _axes(panel, ours)
    high = panel.y(values[0] * (1 + result.band))
    low = panel.y(values[0] * max(0.0, 1 - result.band))
    yield (
        f'<rect class="band" x="{panel.left}" y="{high:.1f}" width="{_WIDTH}" '
        f'height="{low - high:.1f}"/>'
    )
    yield from _line(panel, _values(result, control), "other")
    yield from _line(panel, values, "ours")
    for index, value in enumerate(values):
        x, y = panel.x(index, len(values)), panel.y(value)
        # Above the line where that is the higher one of two, else they meet.
        over = not control or value >= _values(result, control)[index]
        yield _text(x, y - 7 if over else y + 16, f"{value / scale:.3g}", "middle")


def _axes(panel: _Panel, ours: Sequence[str]) -> Iterable[str]:
    left, bottom, result = panel.left, panel.bottom, panel.result
    yield (
        f'<text class="name" x="{left}" y="{bottom - _HEIGHT - 14}">'
        f"{result.name}</text>"
    )
    for tick in range(_TICKS + 1):
        value = panel.top * tick / _TICKS
        y = panel.y(value * panel.scale)
        yield f'<path class="grid" d="M{left} {y:.1f}h{_WIDTH}"/>'
        yield _text(left - 6, y + 4, f"{value:.3g}", "end")
    middle = bottom - _HEIGHT / 2
    yield (
        f'<text text-anchor="middle" transform="translate({left - 40} {middle:.0f}) '
        f'rotate(-90)">{_unit(panel)}</text>'
    )
    for index, name in enumerate(ours):
        size = int(name.split()[0])
        yield _text(panel.x(index, len(ours)), bottom + 16, f"{size:,}", "middle")
    what = ours[0].split(maxsplit=1)[1]
    yield _text(left + _WIDTH / 2, bottom + 32, what, "middle")


def _unit(panel: _Panel) -> str:
    unit = panel.result.unit
    if panel.scale == 1.0:
        return unit
    if unit.startswith("ns "):
        return unit.replace("ns ", "microseconds ")
    return f"thousand {unit}"


def _above(value: float) -> float:
    """Return a round number that is not below a value."""
    power: float = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in _ROUND if step * power >= value)


def _values(result: Result, names: Sequence[str]) -> list[float]:
    higher = result.higher_is_better
    return [result.samples[name].best(higher_is_better=higher) for name in names]


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{words}</text>'


def _line(panel: _Panel, values: Sequence[float], kind: str) -> Iterable[str]:
    count = len(values)
    points = [(panel.x(i, count), panel.y(value)) for i, value in enumerate(values)]
    if not points:
        return
    path = " L".join(f"{x:.0f} {y:.1f}" for x, y in points)
    yield f'<path class="{kind} line" d="M{path}"/>'
    for x, y in points:
        yield f'<circle class="{kind}" cx="{x:.0f}" cy="{y:.1f}" r="2.5"/>'
