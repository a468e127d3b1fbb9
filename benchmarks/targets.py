"""What is called: from a function that does nothing to a server on loopback.

A target is prepared before any stack touches its library, so that every stack
wraps the same stub. It counts the calls that arrive: a stack that is fast because
it does not call is found out.
"""

from __future__ import annotations

import importlib
import itertools
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

BODY: Final = b'{"ok": true}'
_HEADERS: Final = {"Content-Type": "application/json", "Content-Length": "12"}
URL: Final = "http://api.example.test/orders/4711"


class Target:
    """One kind of call.

    Attributes:
        library: The library that is called, empty for none.
        is_async: Whether the call is awaited.
        attach: Owner and name of the method below which nothing of the library
            lies, for a wrapper that does nothing; None where it is no Python.
    """

    library = ""
    is_async = False
    attach: tuple[Any, str] | None = None

    def __init__(self) -> None:
        self._arrivals = itertools.count()
        # One call into C: as cheap as counting gets, and whole under threads.
        self.tick: Callable[[], int] = self._arrivals.__next__

    @property
    def arrived(self) -> int | None:
        """How many calls arrived, None where they leave this process."""
        found: Any = self._arrivals.__reduce__()[1]
        count: int = found[0]
        return count

    def clock(self) -> float:
        """Read the clock that fits: processor time, as nothing here waits."""
        return time.process_time()

    def prepare(self) -> None:
        """Load the library and put the stub in."""

    def open(self) -> Callable[[], Any]:
        """Return the call as an app would make it."""
        raise NotImplementedError

    def check(self, result: Any) -> None:
        """Make sure that `result` is what the call gives."""
        raise NotImplementedError


class Nothing(Target):
    """A function that does nothing but count that it was called."""

    def open(self) -> Callable[[], Any]:
        """Return the function."""
        tick = self.tick

        def nothing() -> bytes:
            tick()
            return BODY

        return nothing

    def check(self, result: Any) -> None:
        """Make sure that the function's own object came back."""
        assert result is BODY


class AsyncNothing(Nothing):
    """The same, awaited."""

    is_async = True

    def open(self) -> Callable[[], Any]:
        """Return the coroutine function."""
        tick = self.tick

        async def nothing() -> bytes:
            tick()
            return BODY

        return nothing


class Nap(Nothing):
    """A call of one millisecond that leaves the interpreter to others meanwhile."""

    def clock(self) -> float:
        """Read the time that passes."""
        return time.perf_counter()

    def open(self) -> Callable[[], Any]:
        """Return a function that sleeps."""
        tick, sleep = self.tick, time.sleep

        def nap() -> bytes:
            sleep(0.001)
            tick()
            return BODY

        return nap


class AsyncNap(AsyncNothing):
    """A call that gives way to other tasks once."""

    def open(self) -> Callable[[], Any]:
        """Return a coroutine function that yields to the loop."""
        tick = self.tick
        sleep = importlib.import_module("asyncio").sleep

        async def nap() -> bytes:
            await sleep(0)
            tick()
            return BODY

        return nap


class Requests(Target):
    """`requests.Session.send`, answered in the process by the adapter."""

    library = "requests"

    def prepare(self) -> None:
        """Replace what would send by what answers at once."""
        requests: Any = importlib.import_module("requests")
        tick = self.tick

        def send(  # noqa: PLR0913, PLR0917 - the signature of HTTPAdapter.send
            self: Any,  # noqa: ARG001
            request: Any,
            stream: Any = False,  # noqa: ARG001, FBT002
            timeout: Any = None,  # noqa: ARG001
            verify: Any = True,  # noqa: ARG001, FBT002
            cert: Any = None,  # noqa: ARG001
            proxies: Any = None,  # noqa: ARG001
        ) -> Any:
            tick()
            response = requests.Response()
            response.status_code = 200
            response.headers.update(_HEADERS)
            response._content = BODY  # noqa: SLF001
            response._content_consumed = True  # noqa: SLF001
            response.url = request.url
            response.request = request
            return response

        adapter = requests.adapters.HTTPAdapter
        send.__qualname__ = "HTTPAdapter.send"
        adapter.send = send
        self.attach = (adapter, "send")

    def open(self) -> Callable[[], Any]:
        """Return a prepared GET through a session that is kept."""
        requests: Any = importlib.import_module("requests")
        session = requests.Session()
        # Else requests looks through every variable of the environment each time.
        session.trust_env = False
        prepared = session.prepare_request(requests.Request("GET", URL))
        return lambda: session.send(prepared)

    def check(self, result: Any) -> None:
        """Make sure that the answer is whole."""
        assert (result.status_code, result.content) == (200, BODY)


class Httpx(Target):
    """`httpx.Client.get`, answered in the process by the transport."""

    library = "httpx"

    def prepare(self) -> None:
        """Replace what would send by what answers at once."""
        httpx: Any = importlib.import_module("httpx")
        tick = self.tick

        def handle_request(self: Any, request: Any) -> Any:  # noqa: ARG001
            tick()
            return httpx.Response(200, headers=_HEADERS, stream=httpx.ByteStream(BODY))

        async def handle_async_request(self: Any, request: Any) -> Any:
            return handle_request(self, request)

        httpx.HTTPTransport.handle_request = handle_request
        httpx.AsyncHTTPTransport.handle_async_request = handle_async_request
        if self.is_async:
            self.attach = (httpx.AsyncHTTPTransport, "handle_async_request")
        else:
            self.attach = (httpx.HTTPTransport, "handle_request")

    def open(self) -> Callable[[], Any]:
        """Return a GET through a client that is kept."""
        client = importlib.import_module("httpx").Client()
        return lambda: client.get(URL)

    def check(self, result: Any) -> None:
        """Make sure that the answer is whole."""
        assert (result.status_code, result.content) == (200, BODY)


class AsyncHttpx(Httpx):
    """`httpx.AsyncClient.get`, answered in the process by the transport."""

    is_async = True

    def open(self) -> Callable[[], Any]:
        """Return a GET through a client that is kept."""
        client = importlib.import_module("httpx").AsyncClient()
        return lambda: client.get(URL)


class Loopback(Target):
    """The same two libraries, with a server in another process behind them."""

    @property
    def arrived(self) -> int | None:
        """Not known here: the calls arrive in another process."""
        return None

    def clock(self) -> float:
        """Read the time that passes: most of it is waiting."""
        return time.perf_counter()

    def prepare(self) -> None:
        """Load the library and start the server."""
        importlib.import_module(self.library)
        self._server = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness.server"],
            stdin=subprocess.PIPE,  # it ends when this process does
            stdout=subprocess.PIPE,
            text=True,
        )
        port = self._server.stdout.readline() if self._server.stdout else ""
        self.url = f"http://127.0.0.1:{int(port)}/orders/4711"

    def open(self) -> Callable[[], Any]:
        """Return a GET through a session or client that is kept."""
        module: Any = importlib.import_module(self.library)
        made = module.Session() if self.library == "requests" else module.Client()
        made.trust_env = False
        url = self.url
        return lambda: made.get(url)

    def check(self, result: Any) -> None:
        """Make sure that the answer is whole."""
        assert (result.status_code, result.content) == (200, BODY)


class LoopbackRequests(Loopback):
    """`requests` over loopback."""

    library = "requests"


class LoopbackHttpx(Loopback):
    """`httpx` over loopback."""

    library = "httpx"


class Sqlite(Target):
    """`sqlite3`: a cursor, `SELECT 1`, its row, and the cursor's end."""

    library = "sqlite3"

    @property
    def arrived(self) -> int | None:
        """Not known: the statements arrive in the database."""
        return None

    def prepare(self) -> None:
        """Load the library."""
        self.module: Any = importlib.import_module(self.library)

    def _connect(self) -> Any:
        return self.module.connect(":memory:")

    def open(self) -> Callable[[], Any]:
        """Return a query through a connection that is kept."""
        connection = self._connect()

        def query() -> Any:
            cursor = connection.cursor()
            cursor.execute("SELECT 1")
            row = cursor.fetchone()
            cursor.close()
            return row

        return query

    def check(self, result: Any) -> None:
        """Make sure that the row came."""
        assert result == (1,)


class Served(Sqlite):
    """The same against a server on this machine, each statement a transaction."""

    def clock(self) -> float:
        """Read the time that passes: most of it is waiting."""
        return time.perf_counter()


class Psycopg2(Served):
    """`psycopg2`, against the PostgreSQL of `BENCHMARK_POSTGRESQL`."""

    library = "psycopg2"

    def _connect(self) -> Any:
        connection = self.module.connect(os.environ["BENCHMARK_POSTGRESQL"])
        connection.autocommit = True
        return connection


class Psycopg(Served):
    """psycopg 3, likewise."""

    library = "psycopg"

    def _connect(self) -> Any:
        dsn = os.environ["BENCHMARK_POSTGRESQL"]
        return self.module.connect(dsn, autocommit=True)


class PyMySQL(Served):
    """PyMySQL, against the server behind the socket `BENCHMARK_MYSQL`."""

    library = "pymysql"

    def _connect(self) -> Any:
        path, user = os.environ["BENCHMARK_MYSQL"], {"user": "app", "password": "pw"}
        return self.module.connect(unix_socket=path, autocommit=True, **user)


TARGETS: Final[dict[str, type[Target]]] = {
    "nothing": Nothing,
    "async nothing": AsyncNothing,
    "nap": Nap,
    "async nap": AsyncNap,
    "requests": Requests,
    "httpx": Httpx,
    "async httpx": AsyncHttpx,
    "requests loopback": LoopbackRequests,
    "httpx loopback": LoopbackHttpx,
    "sqlite3": Sqlite,
    "psycopg2": Psycopg2,
    "psycopg": Psycopg,
    "pymysql": PyMySQL,
}
