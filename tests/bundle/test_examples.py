"""The monitoring example is read by the programs that it is for, where they are."""

from __future__ import annotations

import io
import json
import re
import runpy
import shutil
import subprocess
import threading
import urllib.request
from http.server import HTTPServer
from typing import TYPE_CHECKING, Any

from bundle import monitoring, sources

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

EXAMPLE = sources.ROOT / "examples" / "monitoring"
COMPOSE = sources.load(EXAMPLE / "compose.yaml")["services"]


def test_prometheus_reads_its_configuration(tmp_path: Path) -> None:
    """Promtool accepts the file, with the rules where it looks for them."""
    shutil.copy(EXAMPLE / "prometheus.yml", tmp_path)
    shutil.copytree(sources.ROOT / "alerts", tmp_path / "rules")

    done = subprocess.run(
        [monitoring.find("promtool"), "check", "config", tmp_path / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "rule files" in done.stdout


def test_everything_that_is_mounted_exists() -> None:
    """No container starts with an empty directory in place of a file."""
    for name, service in COMPOSE.items():
        for mount in service.get("volumes", ()):
            assert (EXAMPLE / mount.split(":")[0]).exists(), (name, mount)


def test_addresses_are_names_of_containers() -> None:
    """Prometheus, Alertmanager and Grafana look for services that compose starts."""
    texts = [
        (EXAMPLE / "prometheus.yml").read_text(encoding="utf-8"),
        (EXAMPLE / "alertmanager.yml").read_text(encoding="utf-8"),
        (EXAMPLE / "grafana/provisioning/datasources/prometheus.yaml").read_text(),
    ]

    hosts = {h for t in texts for h in re.findall(r"(?:http://|\[|, )(\w+):\d", t)}

    assert {"cascade", "alertmanager", "webhook", "prometheus"} == hosts - {"localhost"}
    assert hosts - {"localhost"} <= COMPOSE.keys()


def test_inhibition_names_alerts_that_exist() -> None:
    """Routing and inhibition are about alerts and labels of the rules."""
    text = (EXAMPLE / "alertmanager.yml").read_text(encoding="utf-8")

    names = {
        n for m in re.findall(r'alertname=~?"([\w|]+)"', text) for n in m.split("|")
    }
    severities = set(re.findall(r'severity="(\w+)"', text))

    assert names <= set(sources.alert_names())
    assert severities <= {rule["labels"]["severity"] for rule in sources.alerts()}


def test_dashboard_is_provisioned_from_where_it_is_mounted() -> None:
    """Grafana's provider reads the directory into which the file is mounted."""
    provider = sources.load(EXAMPLE / "grafana/provisioning/dashboards/resilience.yaml")
    path = provider["providers"][0]["options"]["path"]

    assert any(
        f":{path}/resilience-api-health.json" in m
        for m in COMPOSE["grafana"]["volumes"]
    )


def test_webhook_prints_what_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """One line an alert: where, whether it ended, which and what."""
    webhook: Any = runpy.run_path(str(EXAMPLE / "webhook.py"))["Webhook"]
    told = {
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": "CircuitBreakerOpen"},
                "annotations": {"summary": "it is open"},
            }
        ]
    }
    with HTTPServer(("127.0.0.1", 0), webhook) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        body = io.BytesIO(json.dumps(told).encode()).getvalue()
        url = f"http://127.0.0.1:{server.server_address[1]}/pager"
        with urllib.request.urlopen(url, data=body, timeout=5):
            thread.join()

    assert "/pager firing CircuitBreakerOpen it is open\n" == capsys.readouterr().out
