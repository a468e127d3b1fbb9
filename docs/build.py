"""Write the pages that come from the code: `python docs/build.py [--check]`.

With `--check` nothing is written; the exit code is 1 if a page is out of date.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from resilience_instrument.signals import catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).resolve().parent

METRICS_INTRO = """\
# Metrics

Served at `http://127.0.0.1:9469/metrics` while a governed app runs, in the formats that
Prometheus reads. They lie in a store of the agent's own: an app that serves
`prometheus_client`'s registry finds nothing new in it.

Every child of a service exists with 0 as soon as the service is known, so that `rate()`
sees the first increment. `service` is `host` or `host:port` (the port where it is
not the scheme's own), at most 1024, then `other`. `endpoint` is a path with its
identifiers replaced, such as `/users/{id}`, at most 200 a service, then `other`. No
query string ever becomes a label.

<!-- Made by docs/build.py from the catalogue; edit that. -->
"""


def metrics() -> str:
    """Return the page of the metrics."""
    lines = [METRICS_INTRO, "| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in catalog.METRICS:
        labels = ", ".join(
            f"`{name}`" + (f" ({', '.join(values)})" if values else "")
            for name, values in metric.labels.items()
        )
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    bounds = ", ".join(f"{bound:g}" for bound in catalog.BUCKETS)
    lines += ["", "## Buckets", "", f"Both histograms end their buckets at {bounds} s."]
    return "\n".join(lines) + "\n"


def db_cases() -> str:
    """Return the page of the database drivers' cases."""
    script = Path(__file__).resolve().parent / "db_cases.py"
    return str(runpy.run_path(str(script))["page"]())


PAGES: dict[str, Callable[[], str]] = {
    "metrics.md": metrics,
    "db-cases.md": db_cases,
}


def main(arguments: Sequence[str]) -> int:
    """Write or check every page; return the exit code."""
    stale = []
    for name, make in PAGES.items():
        page, text = HERE / name, make()
        if "--check" not in arguments:
            page.write_text(text, encoding="utf-8")
        elif not page.exists() or page.read_text(encoding="utf-8") != text:
            stale.append(name)
    for name in stale:
        sys.stderr.write(f"docs/{name} is out of date; make docs writes it\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
