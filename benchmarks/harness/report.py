"""Results as a table for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.harness.statistics import TOLERANCE, band, compare, noise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.harness.statistics import Row, Sample


@dataclass(frozen=True)
class Result:
    """One benchmark: several stacks, the same work, the same run.

    Attributes:
        name: What was done.
        unit: What the numbers are, such as `ns a call`.
        samples: What each stack needed.
        higher_is_better: Whether a larger number is the better one.
        notes: What else is to be known.
    """

    name: str
    unit: str
    samples: Mapping[str, Sample]
    higher_is_better: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """Every stack beside the bare call."""
        return compare(self.samples, higher_is_better=self.higher_is_better)

    @property
    def noise(self) -> float | None:
        """How far the two rows of the bare call differ, None where there is one."""
        return noise(self.samples, higher_is_better=self.higher_is_better)

    @property
    def band(self) -> float:
        """Within what share of a value nothing can be told from noise."""
        return band(self.samples, higher_is_better=self.higher_is_better)

    @property
    def is_void(self) -> bool:
        """Whether the noise check says that these numbers prove nothing."""
        found = self.noise
        return found is not None and found > TOLERANCE

    def text(self) -> str:
        """Return the table."""
        title = f"{self.name} ({self.unit})"
        lines = ["", title, "-" * len(title)]
        lines.append(
            f"{'':24}{'best':>12}{'median':>12}{'spread':>8}{'ratio':>9}"
            f"{'added':>12}{'W':>8}"
        )
        for row in self.rows:
            in_w = "" if row.in_w is None else f"{row.in_w:.2f}"
            lines.append(
                f"{row.stack:24}{row.best:12,.0f}{row.sample.median:12,.0f}"
                f"{row.sample.spread:8.1%}{row.ratio:9.3f}{row.added:+12,.0f}{in_w:>8}"
            )
        found = self.noise
        if found is not None:
            word = "VOID: too much noise" if self.is_void else "noise check passed"
            lines.append(f"{word}, the two bare rows differ by {found:.1%}")
        lines += self.notes
        return "\n".join(lines)

    def data(self) -> dict[str, Any]:
        """Return the same for JSON."""
        return {
            "name": self.name,
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
            "void": self.is_void,
            "noise": self.noise,
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "notes": self.notes,
        }


def machine() -> dict[str, Any]:
    """Return what the numbers were taken on; without it they mean nothing."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "load": list(os.getloadavg()),
    }
