"""What stands around a call: nothing, the agent in each mode, and the others.

Everybody gets the settings that their own documentation starts with, and no more
work than the agent does in the same row. Other libraries are loaded by name, so
that this file can be read, and checked, where they are not installed.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness.statistics import BARE, WRAPT

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.targets import Target

    Call = Callable[[], Any]


def _load(name: str) -> Any:
    return importlib.import_module(name)


class Stack:
    """Nothing at all: the bare call."""

    only_libraries = False
    """Whether it instruments libraries, and so has nothing for a plain function."""
    only_sync = False
    """Whether it has nothing for a call that is awaited."""

    def suits(self, target: Target) -> bool:
        """Tell whether this stack can stand around the target."""
        if self.only_libraries and not target.library:
            return False
        return not (self.only_sync and target.is_async)

    def activate(self, target: Target) -> None:
        """Change the library, which is loaded already."""

    def wrap(self, call: Call, target: Target) -> Call:  # noqa: ARG002
        """Return the call with this stack around it."""
        return call

    def counted(self) -> int | None:
        """Return how many calls the stack itself counted, None if it counts none."""
        return None


class Wrapt(Stack):
    """A `wrapt.FunctionWrapper` that does nothing: the unit W."""

    def suits(self, target: Target) -> bool:
        """Tell whether there is a Python function to wrap."""
        return target.library in {"", "requests", "httpx"}

    def activate(self, target: Target) -> None:
        """Wrap the library's method, where there is one."""
        if target.attach is not None:
            owner, name = target.attach
            setattr(owner, name, self._around(getattr(owner, name)))

    def wrap(self, call: Call, target: Target) -> Call:
        """Wrap the function itself, where there is no library."""
        return call if target.attach is not None else self._around(call)

    @staticmethod
    def _around(function: Any) -> Any:
        def pass_on(
            wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> Any:
            del instance
            return wrapped(*args, **kwargs)

        return _load("wrapt").FunctionWrapper(function, pass_on)


class Agent(Stack):
    """The agent as an app gets it, with everything that it does by default."""

    environ: Final[dict[str, str]] = {}
    mode: str | None = None
    # A connect is counted too, but only the calls through it are measured.
    _TOTAL = re.compile(
        r'^api_request_total\{(?!.*endpoint="CONNECT").*\} (\S+)$', re.MULTILINE
    )

    def __init__(self) -> None:
        self._port = 0

    def activate(self, target: Target) -> None:
        """Start the agent in this process."""
        self._port = _free_port()
        os.environ["RESILIENCE_METRICS_PORT"] = str(self._port)
        # As under the launcher: counted in a file, where other processes read it.
        # A number of a process is given again, and what it counted may still be there.
        os.environ["RESILIENCE_RUN_ID"] = f"bench-{os.getpid()}-{time.time_ns()}"
        if self.mode is not None:
            os.environ["RESILIENCE_MODE"] = self.mode
        del target
        _load("resilience_instrument.auto")

    def wrap(self, call: Call, target: Target) -> Call:
        """Govern a plain function, which no room of the agent's would find."""
        if target.library:
            return call
        governed: Call = _load("benchmarks.room").governed(call, target)
        return governed

    def counted(self) -> int | None:
        """Ask the agent's own metrics how many calls there were."""
        text = _scrape(self._port)
        return round(sum(float(value) for value in self._TOTAL.findall(text)))


class AgentObserving(Agent):
    """The agent measures and decides, and does nothing."""

    mode = "observe"


class AgentOff(Stack):
    """The agent, started and switched off."""

    only_libraries = True

    def activate(self, target: Target) -> None:
        """Start the agent with the switch off."""
        del target
        os.environ["RESILIENCE_ENABLED"] = "0"
        _load("resilience_instrument.auto")


class Spans:
    """A tracer provider whose processor does nothing but count."""

    def __init__(self) -> None:
        self.ended = 0
        trace, sdk = _load("opentelemetry.trace"), _load("opentelemetry.sdk.trace")
        outer = self

        class Counting(sdk.SpanProcessor):  # type: ignore[misc, name-defined]
            def on_end(self, span: object) -> None:  # noqa: ARG002
                outer.ended += 1

        provider = sdk.TracerProvider()
        provider.add_span_processor(Counting())
        trace.set_tracer_provider(provider)


class AgentWithSpans(Agent):
    """The agent in an app that records spans."""

    def activate(self, target: Target) -> None:
        """Set a provider up as an app would, and start the agent."""
        self.spans = Spans()
        super().activate(target)


class OpenTelemetry(Stack):
    """OpenTelemetry's instrumentation of the library, without an SDK."""

    only_libraries = True
    _names: Final = {
        "requests": "RequestsInstrumentor",
        "httpx": "HTTPXClientInstrumentor",
        "sqlite3": "SQLite3Instrumentor",
        "psycopg2": "Psycopg2Instrumentor",
        "psycopg": "PsycopgInstrumentor",
        "pymysql": "PyMySQLInstrumentor",
    }

    def activate(self, target: Target) -> None:
        """Instrument the library."""
        module = _load(f"opentelemetry.instrumentation.{target.library}")
        getattr(module, self._names[target.library])().instrument()


class OpenTelemetryWithSpans(OpenTelemetry):
    """The same in an app that records spans."""

    def activate(self, target: Target) -> None:
        """Set a provider up as an app would, and instrument the library."""
        self.spans = Spans()
        super().activate(target)

    def counted(self) -> int | None:
        """Return how many spans ended: one a call."""
        count: int = self.spans.ended
        return count


class Ddtrace(Stack):
    """ddtrace's integration of the library, with no agent to send to."""

    only_libraries = True

    def activate(self, target: Target) -> None:
        """Patch the library."""
        os.environ["DD_TRACE_ENABLED"] = "true"
        os.environ["DD_INSTRUMENTATION_TELEMETRY_ENABLED"] = "false"
        os.environ["DD_REMOTE_CONFIGURATION_ENABLED"] = "false"
        ddtrace = _load("ddtrace")
        writer = _load("ddtrace.trace")
        filters = writer.TraceFilter

        class Drop(filters):  # type: ignore[misc, valid-type]
            def process_trace(self, trace: object) -> None:  # noqa: ARG002
                return None

        writer.tracer.configure(trace_processors=[Drop()])
        ddtrace.patch(**{target.library: True})


class Tenacity(Stack):
    """tenacity: three attempts, exponential pauses with jitter."""

    def wrap(self, call: Call, target: Target) -> Call:
        """Decorate the call."""
        del target
        tenacity = _load("tenacity")
        decorate = tenacity.retry(
            stop=tenacity.stop_after_attempt(3),
            wait=tenacity.wait_random_exponential(max=30),
            retry=tenacity.retry_if_exception_type(ConnectionError),
            reraise=True,
        )
        decorated: Call = decorate(_as_function(call))
        return decorated


class Stamina(Stack):
    """stamina: retries by its own defaults."""

    def wrap(self, call: Call, target: Target) -> Call:
        """Decorate the call."""
        del target
        decorated: Call = _load("stamina").retry(on=ConnectionError)(_as_function(call))
        return decorated


class Pybreaker(Stack):
    """pybreaker: five failures, half a minute."""

    only_sync = True

    def wrap(self, call: Call, target: Target) -> Call:
        """Decorate the call."""
        del target
        breaker = _load("pybreaker").CircuitBreaker(fail_max=5, reset_timeout=30)
        decorated: Call = breaker(_as_function(call))
        return decorated


class Circuitbreaker(Stack):
    """circuitbreaker: five failures, half a minute."""

    def wrap(self, call: Call, target: Target) -> Call:
        """Decorate the call."""
        del target
        decorated: Call = _load("circuitbreaker").circuit(_as_function(call))
        return decorated


class Interlock(Stack):
    """interlock-cb: its breaker with its own defaults."""

    def wrap(self, call: Call, target: Target) -> Call:
        """Decorate the call."""
        del target
        breaker = _load("interlock").CircuitBreaker(name="bench")
        decorated: Call = breaker(_as_function(call))
        return decorated


class ByHand(Stack):
    """What one writes by hand for the same: tenacity, pybreaker, prometheus_client."""

    only_sync = True

    def wrap(self, call: Call, target: Target) -> Call:
        """Put one around the other."""
        prometheus = _load("prometheus_client")
        registry = prometheus.CollectorRegistry()
        names = ["service", "endpoint"]
        self.calls = prometheus.Counter(
            "api_request_total", "Calls", [*names, "outcome"], registry=registry
        )
        duration = prometheus.Histogram(
            "api_request_duration_seconds", "Seconds", names, registry=registry
        )
        guarded = Tenacity().wrap(Pybreaker().wrap(call, target), target)
        labels = {"service": "api.example.test", "endpoint": "/orders/{id}"}

        def by_hand() -> Any:
            begun = time.perf_counter()
            outcome = "error"
            try:
                result = guarded()
                outcome = "success"
            finally:
                duration.labels(**labels).observe(time.perf_counter() - begun)
                self.calls.labels(**labels, outcome=outcome).inc()
            return result

        return by_hand

    def counted(self) -> int | None:
        """Return what the counter says."""
        samples = next(iter(self.calls.collect())).samples
        values = [each.value for each in samples if each.name.endswith("_total")]
        return round(sum(map(float, values)))


class ByHandWithSpans(ByHand):
    """The same with an OpenTelemetry span around the call and one each attempt."""

    def wrap(self, call: Call, target: Target) -> Call:
        """Put one around the other."""
        self.spans = Spans()
        tracer = _load("opentelemetry.trace").get_tracer("by hand")

        def attempt() -> Any:
            with tracer.start_as_current_span("attempt"):
                return call()

        inner = super().wrap(attempt, target)

        def by_hand() -> Any:
            with tracer.start_as_current_span("call"):
                return inner()

        return by_hand


def _as_function(call: Call) -> Call:
    """Return the call with a name, which some decorators ask for."""
    if not hasattr(call, "__name__"):
        return functools.wraps(Stack.wrap)(call)
    return call


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _connected(port: int) -> socket.socket:
    """Connect to the metrics as soon as they are served: a thread sees to that."""
    end = time.perf_counter() + _SERVED_WITHIN
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.perf_counter() > end:
                raise
            time.sleep(0.1)


_SERVED_WITHIN: Final = 30.0


def _scrape(port: int) -> str:
    """Return the metrics, read past every library that is governed."""
    with _connected(port) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: bench\r\n\r\n")
        received = b""
        while piece := connection.recv(65536):
            received += piece
    return received.decode()


STACKS: Final[dict[str, type[Stack]]] = {
    BARE: Stack,
    WRAPT: Wrapt,
    "agent off": AgentOff,
    "agent observing": AgentObserving,
    "agent": Agent,
    "agent + spans": AgentWithSpans,
    "opentelemetry": OpenTelemetry,
    "opentelemetry + spans": OpenTelemetryWithSpans,
    "ddtrace": Ddtrace,
    "tenacity": Tenacity,
    "stamina": Stamina,
    "pybreaker": Pybreaker,
    "circuitbreaker": Circuitbreaker,
    "interlock-cb": Interlock,
    "by hand": ByHand,
    "by hand + spans": ByHandWithSpans,
}


def is_installed(stack: str) -> bool:
    """Tell whether a stack can be used in this environment."""
    needs = {
        "opentelemetry": "opentelemetry.instrumentation",
        "opentelemetry + spans": "opentelemetry.instrumentation",
        "by hand": "pybreaker",
        "by hand + spans": "pybreaker",
        "interlock-cb": "interlock",
    }.get(stack, stack)
    if stack in {BARE, WRAPT} or stack.startswith("agent"):
        return True
    if needs in sys.modules:
        return True
    try:
        return importlib.util.find_spec(needs) is not None
    except ModuleNotFoundError:
        return False
