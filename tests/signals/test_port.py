"""The port of a command: one process serves it, the next takes over, none insists."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, generate_latest

from resilience_instrument import activation
from resilience_instrument.signals import bridge, ledger, port, rundir
from resilience_instrument.signals import server as server_module
from resilience_instrument.signals.exposition import Exposition
from resilience_instrument.signals.port import Port
from resilience_instrument.signals.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Make = Callable[..., Port]

HOST = "127.0.0.1"


@pytest.fixture
def free() -> int:
    """Return a port that is free."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        found: int = probe.getsockname()[1]
    return found


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make ports of one command, whose threads can be measured and end."""
    threads: list[threading.Thread] = []
    made: list[Port] = []

    def start(function: Any, arguments: tuple[Any, ...]) -> None:
        threads.append(threading.Thread(target=function, args=arguments, daemon=True))
        threads[-1].start()

    monkeypatch.setattr(port, "start_thread", start)
    environ = {
        "RESILIENCE_RUN_DIR": str(tmp_path),
        "RESILIENCE_RUN_ID": activation.run_id(),
    }

    def build(*ports: int, **variables: str) -> Port:
        made.append(Port(Store(), HOST, ports, environ | variables))
        return made[-1]

    yield build
    for one in made:
        end(one)
    for thread in threads:
        thread.join(10)


def end(one: Port) -> None:
    """End as a process does that is killed."""
    if one.server is not None:
        one.server.close()
    one.leave_to_parent()


def served(one: Port) -> int:
    """Wait until a port is served and return which."""
    limit = time.monotonic() + 10
    while one.server is None:
        assert time.monotonic() < limit
        time.sleep(0.01)
    return one.server.port


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def scrape(number: int) -> str:
    """Ask for the metrics."""
    with urllib.request.urlopen(f"http://{HOST}:{number}/metrics", timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def test_the_second_process_takes_over_when_the_first_ends(
    make: Make, free: int
) -> None:
    """The same port, with what both counted."""
    first, second = make(free), make(free)
    assert not first.is_wanted()
    first.open()
    assert served(first) == free
    assert second.is_wanted()
    second.open()
    for one in (first, second):
        one._store.service("api").counts[0] += 1

    end(first)

    assert served(second) == free
    assert 'policy="breaker",service="api"' in scrape(free)
    assert second.has_thread


def test_without_ports_nothing_is_opened(make: Make, tmp_path: Path) -> None:
    """No directory, no thread."""
    none = make()

    none.open()

    assert not none.is_wanted()
    assert not none.has_thread
    assert [] == list(tmp_path.iterdir())


def test_a_port_that_is_taken_sends_it_to_the_next(
    make: Make, free: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says which."""
    with socket.socket() as taken, socket.socket() as other:
        taken.bind((HOST, free))
        taken.listen()
        other.bind((HOST, 0))
        after = other.getsockname()[1]
        other.close()
        one = make(free, after)
        one.open()

        assert after == served(one)
    assert f"port {free} is taken: metrics at" in capsys.readouterr().err


def test_the_port_of_the_last_leader_is_waited_for(
    make: Make, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that it was about to start may hold it for a moment."""
    asked: list[list[int]] = []

    def bind(host: str, ports: Any, render: Any) -> Any:
        del host, render
        asked.append(list(ports))
        return None

    monkeypatch.setattr(server_module, "bind", bind)
    monkeypatch.setattr(port, "sleep", lambda _: None)
    one = make(free, free + 1)

    exposition = Exposition(one.gather)

    assert one._bind(exposition, free + 1) is None
    assert [[free + 1]] * port._TRIES + [[free, free + 1]] == asked


def test_the_port_of_the_last_leader_is_taken_once_it_is_free(
    make: Make, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no other is looked for, nor anything said."""
    left: list[Any] = [object(), None]
    said: list[str] = []
    monkeypatch.setattr(server_module, "bind", lambda *_: left.pop())
    monkeypatch.setattr(port, "sleep", lambda _: None)
    monkeypatch.setattr(port, "say", said.append)
    expected = left[0]
    one = make(free, free + 1)

    assert expected is one._bind(Exposition(one.gather), free + 1)
    assert ([], []) == (left, said)


def test_without_a_directory_the_numbers_stay_in_memory(
    make: Make, free: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """That is said, once, and the port is served."""
    one = make(free, RESILIENCE_RUN_DIR="/dev/null")

    one.open()

    assert served(one) == free
    line = "no private directory can be made: each process has its own metrics"
    assert f"resilience-instrument: {line}\n" == capsys.readouterr().err


def test_a_process_without_a_launcher_keeps_its_numbers_and_is_quiet(
    make: Make, free: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """It belongs to no command that others could look for."""
    one = make(free, RESILIENCE_RUN_ID="")

    one.open()

    assert served(one) == free
    assert "" == capsys.readouterr().err


def test_a_disk_that_is_full_leaves_the_rest_in_memory(
    make: Make,
    free: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whether it was full at the start or becomes so."""

    def full(*_: Any) -> None:
        message = "No space left on device"
        raise OSError(message)

    one, late = make(free), make(free)
    late.open()
    monkeypatch.setattr(ledger, "_reserve", full)
    one.open()
    for number in range(500):
        late._store.endpoint("api", f"/{number}").counts[0] += 1

    assert one._directory is None
    said = "each process has its own metrics: No space left on device\n"
    assert 2 == capsys.readouterr().err.count(said)


def wait_for(events: list[str]) -> None:
    """Wait until the thread has left a mark."""
    limit = time.monotonic() + 10
    while not events and time.monotonic() < limit:
        time.sleep(0.01)


def test_a_directory_that_vanishes_is_said(
    make: Make, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread ends; the calls go on."""
    said: list[str] = []
    monkeypatch.setattr(port, "say", said.append)

    def gone(_: Any) -> None:
        message = "gone"
        raise FileNotFoundError(message)

    monkeypatch.setattr(rundir.RunDirectory, "lead", gone)
    one = make(free)
    one.open()
    wait_for(said)

    assert ["metrics are not served: gone"] == said


def test_a_directory_that_went_with_its_command_is_not_said(
    make: Make, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short program may be over before the turn of its thread comes."""
    said: list[str] = []
    monkeypatch.setattr(port, "say", said.append)
    came: list[str] = []

    def gone(directory: rundir.RunDirectory) -> None:
        came.append(directory.path)
        monkeypatch.setattr(port, "removed", {directory.path})
        raise FileNotFoundError(directory.path)

    monkeypatch.setattr(rundir.RunDirectory, "lead", gone)
    one = make(free)
    one.open()
    wait_for(came)
    time.sleep(0.1)

    assert (1, []) == (len(came), said)


def test_a_child_leaves_everything_to_its_parent(make: Make, free: int) -> None:
    """Its copies are closed; the parent's stay."""
    one = make(free)
    one.open()
    served(one)
    before = descriptors()
    server: Any = one.server
    server.close()  # a child has no thread that waits there

    one.leave_to_parent()

    assert descriptors() < before
    assert one.server is None


def test_the_bridge_leaves_the_apps_names_alone() -> None:
    """Whether they were there before or come later."""
    registry = CollectorRegistry()
    text = b"# TYPE a_total counter\na_total 1.0\n# TYPE b gauge\nb 2.0\n"
    registry.register(bridge.Bridge(lambda _: (text, ""), registry))
    assert b"a_total 1.0" in generate_latest(registry)

    Counter("a", "the app's own", registry=registry)

    shown = generate_latest(registry).decode()
    assert "a_total 0.0" in shown
    assert "a_total 1.0" not in shown
    assert "b 2.0" in shown


def test_a_bridged_process_is_shown_in_the_apps_registry(make: Make) -> None:
    """Also where it has no port of its own."""
    before = set(REGISTRY._collector_to_names)
    one = make(RESILIENCE_METRICS_BRIDGE="1")
    one.open()
    added = set(REGISTRY._collector_to_names) - before
    try:
        one._store.service("bridged")
        assert b'service="bridged"' in generate_latest(REGISTRY)
    finally:
        for collector in added:
            with contextlib.suppress(KeyError):
                REGISTRY.unregister(collector)
    assert not one.has_thread


def test_a_banner_is_there_for_who_asks(
    free: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says where the metrics are."""
    one = Port(Store(), HOST, [free], {}, banner=True)

    found = one._bind(Exposition(one.gather), 0)

    assert found is not None
    found.close()
    assert f"metrics at http://{HOST}:{free}/metrics" in capsys.readouterr().err
