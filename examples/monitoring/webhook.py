"""Prints one line for every alert that Alertmanager tells."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer


class Webhook(BaseHTTPRequestHandler):
    """Takes Alertmanager's notifications."""

    def do_POST(self) -> None:
        """Print the alerts of one notification."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for alert in json.loads(body)["alerts"]:
            summary = alert["annotations"].get("summary", "")
            print(self.path, alert["status"], alert["labels"]["alertname"], summary)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet: the lines above are the log."""


if __name__ == "__main__":
    HTTPServer(("0.0.0.0", 9999), Webhook).serve_forever()
