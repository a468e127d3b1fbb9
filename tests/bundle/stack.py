"""Prometheus, Alertmanager and a webhook on loopback, in a directory of their own."""

from __future__ import annotations

import http.server
import json
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

from bundle import monitoring, sources
from bundle.scaled import scale

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

EXAMPLE = sources.ROOT / "examples" / "monitoring" / "alertmanager.yml"
# In the rules' own time 50 s and 30 s. A scrape may take as long as its interval, which
# a busy machine needs.
SCRAPE = "500ms"
EVALUATION = "300ms"
PATIENCE = 20.0


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(
    holds: Callable[[], object],
    what: str,
    patience: float = PATIENCE,
    state: Callable[[], object] = str,
) -> None:
    """Return once `holds()` is true; fail after `patience` seconds, with `state()`."""
    end = time.monotonic() + patience
    while not holds():
        if time.monotonic() > end:
            message = f"waited {patience} s in vain for {what}: {state()}"
            raise AssertionError(message)
        time.sleep(0.1)


def is_ready(url: str) -> bool:
    """Say whether `url` answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class Webhook:
    """Receives what Alertmanager tells, and remembers it."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []
        webhook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for alert in json.loads(body)["alerts"]:
                    webhook.alerts.append(alert | {"path": self.path})
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Stack:
    """The rules at work: a real Prometheus that tells a real Alertmanager.

    Args:
        directory: Where configuration and data go.
        targets: The address of the metrics by the name of the job.
    """

    def __init__(self, directory: Path, targets: dict[str, str]) -> None:
        self.webhook = Webhook()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._directory = directory
        self._alertmanager = f"127.0.0.1:{free_port()}"
        self._prometheus = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self._prometheus}"
        (directory / "rules.yml").write_text(scale(sources.RULES.read_text()))
        (directory / "prometheus.yml").write_text(
            json.dumps(self._configuration(targets))
        )
        told = re.sub("webhook:9999", self.webhook.address, EXAMPLE.read_text())
        (directory / "alertmanager.yml").write_text(scale(told))

    def start(self) -> None:
        """Start both and wait until they are ready."""
        self._run(
            "prometheus-alertmanager",
            f"--config.file={self._directory}/alertmanager.yml",
            f"--storage.path={self._directory}/alertmanager",
            f"--web.listen-address={self._alertmanager}",
            "--cluster.listen-address=",
        )
        self._run(
            "prometheus",
            f"--config.file={self._directory}/prometheus.yml",
            f"--storage.tsdb.path={self._directory}/data",
            f"--web.listen-address={self._prometheus}",
            "--enable-feature=exemplar-storage",
        )
        for address in (self._alertmanager, self._prometheus):
            url = f"http://{address}/-/ready"
            wait_until(lambda url=url: is_ready(url), url)  # type: ignore[misc]

    def stop(self) -> None:
        """End what was started."""
        for process in self._processes:
            process.terminate()
            process.wait(PATIENCE)
        self.webhook.close()

    def series(self, expr: str, seconds: float) -> list[dict[str, Any]]:
        """Return the series of an expression over the last `seconds`."""
        now = time.time()
        window = {"start": f"{now - seconds:.3f}", "end": f"{now:.3f}"}
        found = self.ask("query_range", query=expr, step=EVALUATION, **window)
        return found["result"]  # type: ignore[no-any-return]

    def ask(self, path: str, **fields: str) -> Any:
        """Return the data of an answer of Prometheus's API; fail on an error."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(fields)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{fields}: {error.read().decode()}") from error

    def firing(self) -> list[dict[str, Any]]:
        """Return the alerts that fire at this moment."""
        alerts = self.ask("alerts")["alerts"]
        return [alert for alert in alerts if alert["state"] == "firing"]

    def _run(self, program: str, *arguments: str) -> None:
        log = (self._directory / f"{program}.log").open("wb")
        with log:
            self._processes.append(
                subprocess.Popen(
                    [monitoring.find(program), *arguments],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )

    def _configuration(self, targets: dict[str, str]) -> dict[str, Any]:
        def static(addresses: Iterable[str]) -> list[dict[str, Any]]:
            return [{"targets": list(addresses)}]

        return {
            "global": {"scrape_interval": SCRAPE, "evaluation_interval": EVALUATION},
            "rule_files": ["rules.yml"],
            "alerting": {
                "alertmanagers": [{"static_configs": static([self._alertmanager])}]
            },
            "scrape_configs": [
                {"job_name": job, "static_configs": static([address])}
                for job, address in targets.items()
            ],
        }
