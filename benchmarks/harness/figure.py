"""Draw how the cost of a call grows with the work: an SVG, written by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.harness.statistics import BARE, BARE_AGAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.harness.report import Result

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
    values = [result.samples[name].least for name in sizes]
    ratios = [value / values[0] for value in values]
    bottom = _TOP + _HEIGHT
    yield f'<text x="{left}" y="{_TOP - 14}" font-weight="bold">{result.name}</text>'
    for mark in (0.0, 0.5, 1.0, 1.5):
        y = bottom - mark / 2 * _HEIGHT
        yield f'<path d="M{left} {y:.0f}h{_WIDTH}" stroke="#ddd"/>'
        yield f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{mark}</text>'
    step = _WIDTH / len(sizes)
    points = [
        (left + step * (index + 0.5), bottom - min(ratio, 2.0) / 2 * _HEIGHT)
        for index, ratio in enumerate(ratios)
    ]
    path = " L".join(f"{x:.0f} {y:.0f}" for x, y in points)
    yield f'<path d="M{path}" fill="none" stroke="#0a6" stroke-width="2"/>'
    for (x, y), name, ratio in zip(points, sizes, ratios, strict=True):
        size = name.split()[0]
        yield f'<circle cx="{x:.0f}" cy="{y:.0f}" r="3" fill="#0a6"/>'
        middle = f'<text x="{x:.0f}" text-anchor="middle"'
        yield f'{middle} y="{y - 8:.0f}">{ratio:.2f}</text>'
        yield f'{middle} y="{bottom + 16}">{size}</text>'
