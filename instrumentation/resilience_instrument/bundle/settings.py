"""What a team bakes into its copy of the bundle: addresses, objective, labels."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from resilience_instrument.bundle import contents

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

GRAFANA_URL: Final = "http://localhost:3000"
RUNBOOK_URL: Final = "https://example.com/resilience/runbooks"
OBJECTIVE: Final = Decimal("99.9")

_URL: Final = re.compile(r"https?://[^\s\"'{}#]+")
_NAME: Final = re.compile(r"[a-zA-Z_]\w*", re.ASCII)
_TAKEN: Final = frozenset(
    ("alertname", "job", "service", "severity", "pattern", "long", "short")
)
_FASTEST: Final = Decimal("14.4")
_BUDGET: Final = "* 0.001\n"
_LABELS: Final = "        labels:\n"
_BURN_PANEL: Final = "Failed calls"


class SettingError(ValueError):
    """A setting that cannot be used; its text says why and what could be."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What differs from one team's bundle to another's.

    Attributes:
        grafana_url: Where the dashboard is, without a slash at the end.
        runbook_url: Where the runbooks are, likewise.
        objective: The share of calls that must not fail, in percent.
        labels: Labels that every alert gets.
    """

    grafana_url: str = GRAFANA_URL
    runbook_url: str = RUNBOOK_URL
    objective: Decimal = OBJECTIVE
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def budget(self) -> Decimal:
        """The share of calls that may fail, from 0 to 1."""
        return (100 - self.objective) / 100

    def rules(self) -> str:
        """Return the rules with these settings."""
        text = contents.rules().replace(GRAFANA_URL, self.grafana_url)
        text = text.replace(RUNBOOK_URL, self.runbook_url)
        text = text.replace(_BUDGET, f"* {self.budget:f}\n")
        lines = (f"          {k}: {json.dumps(v)}\n" for k, v in self.labels.items())
        return text.replace(_LABELS, _LABELS + "".join(lines))

    def dashboard(self) -> dict[str, Any]:
        """Return the dashboard with these settings."""
        text = json.dumps(contents.dashboard()).replace(RUNBOOK_URL, self.runbook_url)
        document: dict[str, Any] = json.loads(text)
        for panel in document["panels"]:
            if panel["title"] == _BURN_PANEL:
                burning = panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1]
                burning["value"] = float(_FASTEST * self.budget)
                panel["description"] = panel["description"].replace(
                    f"{OBJECTIVE} %", f"{self.objective:f} %"
                )
        return document


def url(text: str) -> str:
    """Return an address without a slash at its end; raise if it is none."""
    if not _URL.fullmatch(text):
        raise SettingError(f"{text!r} is no http or https address")
    return text.rstrip("/")


def objective(text: str) -> Decimal:
    """Return an objective in percent; raise if no alert could ever fire with it."""
    try:
        percent = Decimal(text.removesuffix("%").strip())
    except InvalidOperation:
        percent = Decimal(0)
    if not (percent.is_finite() and 0 < (100 - percent) * _FASTEST < 100):  # noqa: PLR2004 - percent
        raise SettingError(
            f"{text!r} is no objective: say a percentage above 93.06, where a burn of "
            "14.4 x the error budget is still possible, and below 100"
        )
    return percent


def labels(pairs: Iterable[str]) -> dict[str, str]:
    """Return labels from `name=value`; raise on one that is taken or none."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise SettingError(f"{pair!r} is no label: say name=value")
        if name in _TAKEN:
            raise SettingError(f"the label {name} is set by the rules themselves")
        found[name] = value
    return found
