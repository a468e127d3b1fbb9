"""What the bundle is made of, read from wherever this copy was installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

_HERE: Final = Path(__file__).resolve()
_IN_WHEEL: Final = _HERE.parent / "data"
_IN_CHECKOUT: Final = _HERE.parents[3]

DASHBOARD_UID: Final = "resilience-api-health"
RULES_FILE: Final = "resilience.rules.yml"
DASHBOARD_FILE: Final = f"{DASHBOARD_UID}.json"


def root() -> Path:
    """Return the directory that has `alerts/`, `dashboards/` and the rest."""
    return _IN_WHEEL if _IN_WHEEL.is_dir() else _IN_CHECKOUT


def read(path: str) -> str:
    """Return the text of a file of the bundle."""
    return (root() / path).read_text(encoding="utf-8")


def rules() -> str:
    """Return the rules as they stand in `alerts/`."""
    return read(f"alerts/{RULES_FILE}")


def dashboard() -> dict[str, Any]:
    """Return the dashboard as it stands in `dashboards/`."""
    document: dict[str, Any] = json.loads(read(f"dashboards/{DASHBOARD_FILE}"))
    return document


def runbooks() -> dict[str, str]:
    """Return every runbook by the name of its file."""
    pages = sorted((root() / "docs" / "runbooks").glob("*.md"))
    return {page.name: page.read_text(encoding="utf-8") for page in pages}
