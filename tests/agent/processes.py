"""Starts real processes under the launcher and watches them from outside."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import http.server
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from prometheus_client import parser

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping, Sequence

BIN = Path(sys.executable).parent
PATIENCE = 170.0

# A check for a child to make of itself, and to print.
GOVERNED = """\
import requests
from resilience_instrument.integrations._patch import is_ours
function = wrapped = vars(requests.Session)["send"]
while function and not is_ours(function):
    function = getattr(function, "__wrapped__", None)
print(function is not None)
"""


class Done(NamedTuple):
    """How a process ended and what it said."""

    code: int
    out: str
    err: str


def environment(**variables: str) -> dict[str, str]:
    """Return what a user's environment might be, without any setting of ours."""
    kept = ("HOME", "LANG", "TMPDIR")
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name in kept or name.startswith("COVERAGE_")
    }
    inherited["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return inherited | variables


def bare(**variables: str) -> dict[str, str]:
    """Return an environment in which nobody measures coverage, to count things in."""
    found = environment(**variables)
    return {k: v for k, v in found.items() if not k.startswith("COVERAGE_")}


def run(
    *command: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    say: str | None = None,
) -> Done:
    """Run a command to its end."""
    done = subprocess.run(
        [str(word) for word in command],
        env=dict(environment() if env is None else env),
        cwd=cwd,
        input=say,
        stdin=subprocess.DEVNULL if say is None else None,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def governed(
    *command: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    say: str | None = None,
) -> Done:
    """Run a command to its end under the launcher."""
    return run(BIN / "resilience-instrument", *command, env=env, cwd=cwd, say=say)


class Running:
    """A process that is not over yet.

    Args:
        process: The process.
        log: The file that gets what it says.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.pid = process.pid
        self._log = log

    @property
    def said(self) -> str:
        """What it has said so far, on both streams."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def said_something(self) -> str:
        """Return what it has said so far, without the ends of lines."""
        return self.said.strip()

    def stop(self, how: int = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(PATIENCE)


@contextlib.contextmanager
def running(
    *command: str | Path,
    log: Path,
    env: Mapping[str, str],
    cwd: Path | None = None,
) -> Iterator[Running]:
    """Have a command run under the launcher while the block runs."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(word) for word in (BIN / "resilience-instrument", *command)],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    found = Running(process, log)
    try:
        yield found
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        # Whatever it left behind is in its session.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)


def wait_until(met: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait until `met` returns something true, and return that."""
    end = time.monotonic() + patience
    while True:
        found = met()
        if found:
            return found
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.02)


_PORTS = itertools.count(21000 + os.getpid() % 500 * 20)


def free_port() -> int:
    """Return a port that is free, and that no other test gets."""
    while True:
        port = next(_PORTS)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                with contextlib.suppress(OSError):
                    probe.close()
                    with socket.socket() as listener:
                        listener.bind(("127.0.0.1", port))
                    return port


class Service:
    """A service on loopback that answers as it is told and notes what it was asked.

    Args:
        statuses: What it answers, the last one from then on.
        tls: How to encrypt, if it shall.
    """

    def __init__(self, *statuses: int, tls: ssl.SSLContext | None = None) -> None:
        self._statuses = list(statuses or (200,))
        self._lock = threading.Lock()
        self.asked: list[tuple[str, dict[str, str]]] = []
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # One packet an answer: a second small one waits 40 ms for its turn.
            wbufsize = -1

            def do_GET(self) -> None:
                self.send_response(service.answer(self.path, dict(self.headers)))
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", "0")))
                self.do_GET()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Say nothing of clients that were killed."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.name = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http{'s' if tls else ''}://{self.name}/"
        if tls:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )

    def answer(self, path: str, headers: dict[str, str]) -> int:
        """Note a request and return the status that it gets."""
        with self._lock:
            self.asked.append((path, headers))
            index = min(len(self.asked), len(self._statuses)) - 1
            return self._statuses[index]

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Scrape(NamedTuple):
    """What a metrics port answered."""

    body: bytes
    headers: dict[str, str]

    @property
    def text(self) -> str:
        """The body as it was before it was compressed."""
        packed = self.headers.get("Content-Encoding") == "gzip"
        return (gzip.decompress(self.body) if packed else self.body).decode()

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the samples that have these labels."""
        return sum(
            sample.value
            for family in parser.text_string_to_metric_families(self.text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def labels(self, name: str) -> list[dict[str, str]]:
        """Return the labels of every sample of this name."""
        return [
            sample.labels
            for family in parser.text_string_to_metric_families(self.text)
            for sample in family.samples
            if sample.name == name
        ]


def scrape(port: int, path: str = "/metrics", **headers: str) -> Scrape:
    """Ask a port, as Prometheus does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", path, headers=named)
        answer = connection.getresponse()
        return Scrape(answer.read(), dict(answer.getheaders()))


def try_scrape(port: int) -> Scrape | None:
    """Ask a port that may not be there."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return scrape(port)
    return None


def get(port: int, path: str = "/") -> tuple[int, str]:
    """Ask an app for a page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def is_up(port: int) -> bool:
    """Tell whether somebody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def lines(text: str) -> Sequence[str]:
    """Return the lines of a text that say something."""
    return [line for line in text.splitlines() if line.strip()]
