"""The files of each format. Texts in, texts out; nothing is written here."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Final

from resilience_instrument.bundle import contents

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resilience_instrument.bundle.settings import Settings

_MONITORING: Final = "examples/monitoring"
_PROVISIONING: Final = (
    "grafana/provisioning/dashboards/resilience.yaml",
    "grafana/provisioning/datasources/prometheus.yaml",
)


def plain(settings: Settings, _: Mapping[str, str]) -> dict[str, str]:
    """Return rule file, Alertmanager example and runbooks."""
    pages = {f"runbooks/{name}": page for name, page in contents.runbooks().items()}
    return {
        f"rules/{contents.RULES_FILE}": settings.rules(),
        "alertmanager.yml": contents.read(f"{_MONITORING}/alertmanager.yml"),
    } | pages


def operator(settings: Settings, labels: Mapping[str, str]) -> dict[str, str]:
    """Return a `PrometheusRule` for the Prometheus Operator."""
    head = _resource("monitoring.coreos.com/v1", "PrometheusRule", labels)
    # Everything before `groups:` is comment.
    groups = settings.rules().partition("\ngroups:\n")[2]
    spec = "spec:\n  groups:\n" + textwrap.indent(groups, "  ")
    return {"kubernetes/prometheusrule.yaml": head + spec}


def configmap(settings: Settings, labels: Mapping[str, str]) -> dict[str, str]:
    """Return a ConfigMap that Grafana's sidecar loads the dashboard from."""
    head = _resource("v1", "ConfigMap", {"grafana_dashboard": "1"} | dict(labels))
    data = f"data:\n  {contents.DASHBOARD_FILE}: |\n"
    body = textwrap.indent(_dashboard(settings), "    ")
    return {"kubernetes/dashboard-configmap.yaml": head + data + body}


def provisioning(settings: Settings, _: Mapping[str, str]) -> dict[str, str]:
    """Return the files that Grafana loads from disk when it starts."""
    files = {name: contents.read(f"{_MONITORING}/{name}") for name in _PROVISIONING}
    return files | {
        f"grafana/dashboards/{contents.DASHBOARD_FILE}": _dashboard(settings)
    }


FORMATS: Final[dict[str, Callable[[Settings, Mapping[str, str]], dict[str, str]]]] = {
    "rules": plain,
    "operator": operator,
    "configmap": configmap,
    "provisioning": provisioning,
}


def _dashboard(settings: Settings) -> str:
    return json.dumps(settings.dashboard(), indent=2, sort_keys=True) + "\n"


def _resource(version: str, kind: str, labels: Mapping[str, str]) -> str:
    """Return the head of a Kubernetes resource."""
    every = {"app.kubernetes.io/part-of": "resilience-instrument"} | dict(labels)
    lines = "".join(f"    {name}: {json.dumps(v)}\n" for name, v in every.items())
    return (
        f"apiVersion: {version}\nkind: {kind}\nmetadata:\n"
        f"  name: {contents.DASHBOARD_UID}\n  labels:\n{lines}"
    )
