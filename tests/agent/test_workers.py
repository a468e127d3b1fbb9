"""Scenarios 20 to 26: workers of every kind, and one port for all of them.

No coverage is measured in them: it would write to a database that is governed too.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import http.client
import os
import signal
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import trustme

from agent.processes import (
    Running,
    Service,
    bare,
    free_port,
    get,
    governed,
    is_up,
    run,
    running,
    scrape,
    try_scrape,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.scenario, pytest.mark.timeout(180)]

TOTAL = "api_request_total"

WSGI = """\
import os
import requests

session = requests.Session()

def app(environ, start_response):
    status = session.get(os.environ["SERVICE"] + "/orders/7").status_code
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{status} {os.getpid()}".encode()]
"""


class Site(NamedTuple):
    """A web server under the launcher."""

    server: Running
    port: int
    metrics: int
    runs: Path

    def ask(self, times: int, workers: int = 8) -> collections.Counter[int]:
        """Ask for pages; return how many each worker made."""
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            pages = list(pool.map(lambda _: get(self.port), range(times)))
        assert {(200, "200")} == {(code, page[:3]) for code, page in pages}
        return collections.Counter(int(page.split()[1]) for _, page in pages)

    def total(self) -> float:
        """Return how many calls the metrics port says there were."""
        return scrape(self.metrics).value(TOTAL)

    def serving(self) -> int:
        """Return the process that serves the metrics, by its listening socket."""
        table = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        rows = [line.split() for line in table]
        local = f":{self.metrics:04X}"
        (inode,) = {r[9] for r in rows if r[1].endswith(local) and r[3] == "0A"}
        found = {
            int(process.name)
            for process in Path("/proc").iterdir()
            if process.name.isdecimal() and f"socket:[{inode}]" in sockets(process)
        }
        (pid,) = found
        return pid

    def files(self) -> list[str]:
        """Return the names of the files in the run's directory."""
        return [path.name for path in self.runs.glob("*/*")]


def sockets(process: Path) -> set[str]:
    """Return what the descriptors of a process stand for."""
    found = set()
    with contextlib.suppress(OSError):
        for link in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(str(link.readlink()))
    return found


@contextlib.contextmanager
def site(
    tmp_path: Path,
    service: Service,
    *command: str,
    app: str = WSGI,
    **variables: str,
) -> Iterator[Site]:
    """Have a web server run under the launcher while the block runs."""
    port, metrics = free_port(), free_port()
    (tmp_path / "wsgi.py").write_text(app)
    runs = tmp_path / "runs"
    runs.mkdir()
    env = bare(
        SERVICE=service.url.rstrip("/"),
        PYTHONUNBUFFERED="1",
        RESILIENCE_METRICS_PORT=str(metrics),
        RESILIENCE_RUN_DIR=str(runs),
        **variables,
    )
    words = [word.replace("PORT", str(port)) for word in command]
    with running(*words, log=tmp_path / "log", env=env, cwd=tmp_path) as server:
        wait_until(lambda: is_up(port), f"a server: {server.said}")
        yield Site(server, port, metrics, runs)


GUNICORN = ("gunicorn", "-b", "127.0.0.1:PORT", "--no-control-socket", "wsgi:app")


# -- 20, 21: gunicorn ----------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        ["-w", "3"],
        ["-w", "3", "--preload"],
        ["-w", "2", "-k", "gthread", "--threads", "4"],
    ],
    ids=" ".join,
)
def test_20_21_one_port_says_exactly_what_all_workers_did(
    tmp_path: Path, service: Service, options: list[str]
) -> None:
    """Also when the worker that serves it is killed, and until the master ends."""
    with site(tmp_path, service, *GUNICORN, *options) as found:
        workers = found.ask(200)
        assert 200 == found.total()
        assert 200 == sum(workers.values())

        os.kill(found.serving(), signal.SIGKILL)
        begun = time.monotonic()
        after = wait_until(lambda: try_scrape(found.metrics), "another leader")
        took = time.monotonic() - begun
        assert 200 == after.value(TOTAL)
        found.ask(50)
        assert 250 == found.total()

        assert 0 == found.server.stop()
        assert not is_up(found.metrics)
        said = found.server.said
    assert took < 5.0
    for word in ("DeprecationWarning", "resilience-instrument", "Traceback"):
        assert word not in said


def test_20_totals_are_exact_when_the_serving_worker_is_killed_under_load(
    tmp_path: Path, service: Service
) -> None:
    """2,000 requests, the leader killed between them: never less, exact at the end."""
    with site(tmp_path, service, *GUNICORN, "-w", "4") as found:
        found.ask(1000)
        before = found.total()
        os.kill(found.serving(), signal.SIGKILL)
        after = wait_until(lambda: try_scrape(found.metrics), "another leader", 10)
        found.ask(1000)

        assert 1000 == before == after.value(TOTAL)
        assert 2000 == found.total() == len(service.asked)


@pytest.mark.long
def test_20_after_many_recycles_the_totals_are_exact_and_the_files_few(
    tmp_path: Path, service: Service
) -> None:
    """200 workers come and go: what they counted stays, their files do not."""
    options = ("-w", "3", "--preload", "--max-requests", "2")
    with site(tmp_path, service, *GUNICORN, *options) as found:
        workers: collections.Counter[int] = collections.Counter()
        while len(workers) < 200:
            workers += found.ask(60, workers=4)
        shown = wait_until(
            # A worker that was forked and has made no call yet does not serve.
            lambda: (get(found.port), try_scrape(found.metrics))[1],
            "a leader",
        )

        assert len(service.asked) == shown.value(TOTAL)
        assert len(found.files()) < 32


def test_20_a_new_worker_serves_what_the_old_ones_counted(
    tmp_path: Path, service: Service
) -> None:
    """The only worker is gone, and the next one has not made a call yet."""
    with site(tmp_path, service, *GUNICORN, "-w", "1") as found:
        (old,) = found.ask(7)
        os.kill(old, signal.SIGKILL)
        shown = wait_until(lambda: try_scrape(found.metrics), "another leader")

        assert 7 == shown.value(TOTAL)
        assert old != found.serving()


# -- 22: gevent ----------------------------------------------------------------

GEVENT = """\
import os, ssl, time
import requests

def app(environ, start_response):
    begun = time.monotonic()
    url = os.environ["SERVICE"] + environ["PATH_INFO"]
    status = requests.get(url, verify=os.environ.get("CA") or True).status_code
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{status} {time.monotonic() - begun}".encode()]
"""


class FailsFirst(Service):
    """A service that answers 503 to the first request for each page but one."""

    def answer(self, path: str, headers: dict[str, str]) -> int:
        """Note a request and return the status that it gets."""
        first = path not in {asked for asked, _ in self.asked}
        super().answer(path, headers)
        return 503 if first and path != "/warm" else 200


def test_22_greenlets_wait_side_by_side(tmp_path: Path) -> None:
    """Twenty of them in back-off take as long as one; the port is a real thread's."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    settings: Any = {
        "CA": str(tmp_path / "ca.pem"),
        "RESILIENCE_BREAKER_CONSECUTIVE": "100",
        "RESILIENCE_BREAKER_MIN_CALLS": "1000",
        "RESILIENCE_RETRY_BASE_DELAY": "2.0",
        "RESILIENCE_RETRY_BUDGET_MIN": "100",
    }
    command = (*GUNICORN, "-k", "gevent", "-w", "2")
    with (
        FailsFirst(tls=tls) as service,
        site(tmp_path, service, *command, app=GEVENT, **settings) as found,
    ):
        get(found.port, "/warm")
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            begun = time.monotonic()
            paths = [f"/{name}" for name in "abcdefghijklmnopqrst"]
            pages = list(pool.map(lambda path: get(found.port, path), paths))
            took = time.monotonic() - begun
        shown = scrape(found.metrics)
        said = found.server.said

    assert {"200"} == {page[:3] for _, page in pages}
    waited = [float(page.split()[1]) for _, page in pages]
    # One after the other they would have taken the sum of what each waited.
    assert took < sum(waited) / 3
    assert 20 == shown.value("api_retry_total")
    assert 21 == shown.value(TOTAL)
    for word in ("Warning", "RecursionError", "Traceback", "resilience"):
        assert word not in said


# -- 23: uvicorn ---------------------------------------------------------------

ASGI = """\
import os
import httpx

client = httpx.AsyncClient()

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        return
    status = 200
    if scope["path"] != "/who":
        status = (await client.get(os.environ["SERVICE"] + "/orders/7")).status_code
    body = f"{status} {os.getpid()}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
UVICORN = ("uvicorn", "--port", "PORT", "--lifespan", "off", "wsgi:app")


def test_23_workers_of_uvicorn_share_a_port(tmp_path: Path, service: Service) -> None:
    """They are spawned, and governed all the same."""
    with site(tmp_path, service, *UVICORN, "--workers", "2", app=ASGI) as found:
        # Both listen before they are ready; whoever is asked early waits.
        found.ask(60)

        assert 60 == found.total()
        assert "Traceback" not in found.server.said


def test_23_a_reload_of_uvicorn_goes_on_counting(
    tmp_path: Path, service: Service
) -> None:
    """A new process takes the place of the old one, and the port with it."""
    with site(tmp_path, service, *UVICORN, "--reload", app=ASGI) as found:
        (old,) = found.ask(5)
        (tmp_path / "wsgi.py").write_text(ASGI + "\n# touched\n")
        wait_until(lambda: who(found.port) not in {0, old}, "a new process")
        found.ask(5)

        assert 10 == found.total()


def who(port: int) -> int:
    """Return who answers, 0 if nobody does at the moment; no call is made for that."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return int(get(port, "/who")[1].split()[1])
    return 0


# -- Django and Flask with their reloaders -------------------------------------

DJANGO = """\
import os, sys
import requests
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

settings.configure(
    DEBUG=True, ROOT_URLCONF=__name__, SECRET_KEY="x", ALLOWED_HOSTS=["*"]
)

def index(request):
    status = requests.get(os.environ["SERVICE"] + "/orders/7").status_code
    return HttpResponse(f"{status} {os.getpid()}")

def who(request):
    return HttpResponse(f"200 {os.getpid()}")

urlpatterns = [path("", index), path("who", who)]
if __name__ == "__main__":
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
"""
FLASK = """\
import os
import requests
from flask import Flask

app = Flask(__name__)

@app.get("/")
def index():
    status = requests.get(os.environ["SERVICE"] + "/orders/7").status_code
    return f"{status} {os.getpid()}"

@app.get("/who")
def who():
    return f"200 {os.getpid()}"
"""


@pytest.mark.parametrize(
    ("app", "command"),
    [
        (DJANGO, ("python", "wsgi.py", "runserver", "127.0.0.1:PORT")),
        (FLASK, ("flask", "--app", "wsgi", "run", "--debug", "--port", "PORT")),
    ],
    ids=["django", "flask"],
)
def test_a_reloader_is_no_obstacle(
    tmp_path: Path, service: Service, app: str, command: tuple[str, ...]
) -> None:
    """The server below the reloader is governed, before and after a reload."""
    with site(tmp_path, service, *command, app=app) as found:
        (old,) = found.ask(5, workers=1)
        assert 5 == found.total()
        (tmp_path / "wsgi.py").write_text(app + "\n# touched\n")
        wait_until(lambda: who(found.port) not in {0, old}, "a new process")
        found.ask(5, workers=1)

        assert 10 == found.total()


# -- 24: celery ----------------------------------------------------------------

CELERY = """\
import os
import requests
from celery import Celery

app = Celery("tasks", broker="filesystem://")
folder = os.environ["FOLDER"]
app.conf.broker_transport_options = {
    "data_folder_in": folder, "data_folder_out": folder, "control_folder": folder}

@app.task
def fetch():
    requests.get(os.environ["SERVICE"] + "/orders/7")
"""


def test_24_tasks_of_celery_are_counted(tmp_path: Path, service: Service) -> None:
    """In the children of its pool; a warm shutdown is as fast as ever."""
    folder, metrics = tmp_path / "queue", free_port()
    folder.mkdir()
    (tmp_path / "tasks.py").write_text(CELERY)
    env = bare(
        SERVICE=service.url.rstrip("/"),
        FOLDER=str(folder),
        RESILIENCE_METRICS_PORT=str(metrics),
        RESILIENCE_RUN_DIR=str(tmp_path),
        C_FORCE_ROOT="1",
    )
    send = "import tasks\nfor _ in range(12): tasks.fetch.delay()"
    assert 0 == run("python", "-c", send, env=env, cwd=tmp_path).code
    command = ("celery", "-A", "tasks", "worker", "-c", "2", "--without-gossip")
    with running(*command, log=tmp_path / "log", env=env, cwd=tmp_path) as worker:
        wait_until(lambda: len(service.asked) == 12, f"twelve tasks: {worker.said}")
        shown = wait_until(
            lambda: (s := try_scrape(metrics)) and s.value(TOTAL) == 12 and s,
            "twelve calls",
        )
        begun = time.monotonic()
        code = worker.stop()
        took = time.monotonic() - begun
        said = worker.said

    assert (0, 12) == (code, shown.value(TOTAL))
    assert took < 15
    assert "Traceback" not in said


# -- 25: multiprocessing -------------------------------------------------------

POOLS = """\
import multiprocessing, pickle, sqlite3, sys
import requests
from resilience_instrument.integrations._patch import is_ours

def call(url):
    governed = is_ours(vars(requests.Session)["send"])
    return governed, requests.get(url).status_code

def connected(connect):
    connect(":memory:").close()
    return is_ours(connect)

if __name__ == "__main__":
    url = sys.argv[2]
    context = multiprocessing.get_context(sys.argv[1])
    requests.get(url)
    with context.Pool(2) as pool:
        print(sorted(set(pool.map(call, [url] * 6))))
        print({r.status_code for r in pool.map(requests.get, [url] * 3)})
        session = pickle.loads(pickle.dumps(requests.Session().send))
        print(is_ours(pickle.loads(pickle.dumps(sqlite3.connect))))
        for connection in pool.map(connected, [sqlite3.connect] * 2):
            print(connection)
        import http.client
        metrics = http.client.HTTPConnection("127.0.0.1", int(sys.argv[3]))
        metrics.request("GET", "/metrics")
        lines = metrics.getresponse().read().decode().splitlines()
        lines = [line for line in lines if line.startswith("api_request_total")]
        print(sum(float(line.split()[-1]) for line in lines))
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_25_pools_are_governed_however_they_start(
    tmp_path: Path, service: Service, port: int, method: str
) -> None:
    """Their calls are counted, and what is wrapped can be pickled."""
    (tmp_path / "mp.py").write_text(POOLS)
    env = bare(RESILIENCE_METRICS_PORT=str(port), RESILIENCE_RUN_DIR=str(tmp_path))

    done = governed(
        "python", tmp_path / "mp.py", method, service.url, str(port), env=env
    )

    pickled = "True\nTrue\nTrue\n"
    assert (0, f"[(True, 200)]\n{{200}}\n{pickled}12.0\n", "") == done


# -- 26: fork storm ------------------------------------------------------------

STORM = """\
import os, sys, threading, warnings
import requests
warnings.simplefilter("ignore")
url, stop = sys.argv[1], threading.Event()
# requests imports a module in its first call: a fork in that moment hangs without us.
requests.get(url)

def hammer():
    with requests.Session() as session:
        while not stop.is_set():
            session.get(url)

threads = [threading.Thread(target=hammer) for _ in range(4)]
[thread.start() for thread in threads]
fates = []
for _ in range(100):
    pid = os.fork()
    if not pid:
        try:
            with requests.Session() as session:
                statuses = [session.get(url).status_code for _ in range(5)]
            os._exit(0 if statuses == [200] * 5 else 1)
        finally:
            os._exit(2)
    fates.append(os.waitpid(pid, 0)[1])
stop.set()
[thread.join() for thread in threads]
print(set(fates))
"""


def test_26_forks_among_threads_never_hang(
    tmp_path: Path, service: Service, port: int
) -> None:
    """A hundred children of a busy process make their calls."""
    (tmp_path / "storm.py").write_text(STORM)
    env = bare(RESILIENCE_METRICS_PORT=str(port), RESILIENCE_RUN_DIR=str(tmp_path))

    done = governed("python", tmp_path / "storm.py", service.url, env=env)

    assert (0, "{0}\n", "") == done
