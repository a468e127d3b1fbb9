"""Draw how the cost of a call grows with the work: an SVG, written by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.harness.statistics import BARE, BARE_AGAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.harness.report import Result

CONTROL: Final = " controls"
"""How the rows end that say what the same growth costs without the agent."""

_WIDTH: Final = 220
_HEIGHT: Final = 150
_LEFT: Final = 40
_TOP: Final = 34


def draw(results: Sequence[Result]) -> str:
    """Return one panel a result: the cost relative to its smallest size."""
    width = _LEFT + len(results) * (_WIDTH + _LEFT)
    height = _TOP + _HEIGHT + 30
    name_space = "http://www.w3.org/2000/svg"
    lines = [
        f'<svg xmlns="{name_space}" viewBox="0 0 {width} {height}" font-size="11">',
        "<style>text{font-family:sans-serif}</style>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for index, result in enumerate(results):
        lines += _panel(result, _LEFT + index * (_WIDTH + _LEFT))
    return "\n".join([*lines, "</svg>", ""])


def _panel(result: Result, left: int) -> Iterable[str]:
    sizes = [name for name in result.samples if name not in {BARE, BARE_AGAIN}]
    ours = [name for name in sizes if not name.endswith(CONTROL)]
    control = [name for name in sizes if name.endswith(CONTROL)]
    ratios = _ratios(result, ours)
    top = 2.0 if max(ratios) <= 2.0 else 4.0
    yield f'<text x="{left}" y="{_TOP - 14}" font-weight="bold">{result.name}</text>'
    for part in range(4):
        y = _height(part / 4 * top, top)
        mark = f"{part / 4 * top:.1f}"
        yield f'<path d="M{left} {y:.0f}h{_WIDTH}" stroke="#ddd"/>'
        yield f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{mark}</text>'
    if control:
        yield from _line(_ratios(result, control), left, top, "#999")
        label = '<text fill="#999" text-anchor="end"'
        yield f'{label} x="{left + _WIDTH}" y="{_TOP - 14}">grey: the control</text>'
    yield from _line(ratios, left, top, "#0a6")
    for x, name, ratio in zip(_places(left, ours), ours, ratios, strict=True):
        y, size = _height(ratio, top), name.split()[0]
        middle = f'<text x="{x:.0f}" text-anchor="middle"'
        yield f'{middle} y="{y - 8:.0f}">{ratio:.2f}</text>'
        yield f'{middle} y="{_TOP + _HEIGHT + 16}">{size}</text>'


def _ratios(result: Result, names: Sequence[str]) -> list[float]:
    values = [result.samples[name].least for name in names]
    return [value / values[0] for value in values]


def _places(left: int, points: Sequence[object]) -> list[float]:
    step = _WIDTH / len(points)
    return [left + step * (index + 0.5) for index in range(len(points))]


def _height(ratio: float, top: float) -> float:
    return _TOP + _HEIGHT - min(ratio, top) / top * _HEIGHT


def _line(ratios: Sequence[float], left: int, top: float, colour: str) -> Iterable[str]:
    points = [
        (x, _height(ratio, top))
        for x, ratio in zip(_places(left, ratios), ratios, strict=True)
    ]
    path = " L".join(f"{x:.0f} {y:.0f}" for x, y in points)
    yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for x, y in points:
        yield f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="{colour}"/>'
