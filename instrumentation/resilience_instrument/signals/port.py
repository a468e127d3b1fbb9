"""One metrics port for all processes of a command.

Each process that counts waits, in a native thread and without looking around, for
its turn to lead. The one that leads has the port and shows what all of them
counted. The kernel ends its turn when it dies, and the next one takes the port.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from resilience_instrument.activation import RUN_ID
from resilience_instrument.native import sleep, start_thread
from resilience_instrument.signals import bridge, server
from resilience_instrument.signals.exposition import Exposition
from resilience_instrument.signals.faults import debug, say
from resilience_instrument.signals.gather import (
    CROWD,
    PRESS,
    Gathered,
    fold_crowd,
    gather,
)
from resilience_instrument.signals.layout import fingerprint
from resilience_instrument.signals.ledger import Ledger
from resilience_instrument.signals.rundir import (
    RunDirectory,
    is_under_way,
    open_directory,
    removed,
)
from resilience_instrument.signals.store import in_memory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from resilience_instrument.signals.layout import Cells, Layout
    from resilience_instrument.signals.store import Store

# The port of a leader that was killed is free at once, but for a moment a child
# that it was about to start may still hold it.
_TRIES: Final = 40
_PAUSE: Final = 0.02


@final
class Port:
    """Where this process's numbers are kept and shown.

    Args:
        store: What it counts.
        host: Address on which the metrics are served.
        ports: Ports to try in order; empty for none.
        environ: Says which command this is.
        banner: Whether to say where the metrics are.
    """

    __slots__ = (
        "_banner",
        "_directory",
        "_environ",
        "_host",
        "_ledger",
        "_ports",
        "_store",
        "has_thread",
        "server",
    )

    def __init__(
        self,
        store: Store,
        host: str,
        ports: Sequence[int],
        environ: Mapping[str, str],
        *,
        banner: bool = False,
    ) -> None:
        self._banner = banner
        self._store = store
        self._host = host
        self._ports = ports
        self._environ = environ
        self._directory: RunDirectory | None = None
        self._ledger: Ledger | None = None
        self.server: server.Server | None = None
        self.has_thread = False

    def is_wanted(self) -> bool:
        """Tell whether other processes of this command have begun already.

        A worker that takes the place of another must not wait for its first call:
        it may be the only one left that can show what the others counted.
        """
        return bool(self._ports) and is_under_way(self._environ, fingerprint())

    def open(self) -> None:
        """Keep the numbers where all processes see them, and wait to serve them."""
        bridged = self._environ.get("RESILIENCE_METRICS_BRIDGE") == "1"
        if not self._ports and not bridged:
            return
        self._directory = self._join()
        debug(f"counts in {self._directory.own if self._directory else 'memory'}")
        exposition = Exposition(self.gather)
        if bridged:
            bridge.connect(exposition.render)
        if self._ports:
            start_thread(self._lead, (exposition,))
            self.has_thread = True

    def gather(self) -> Gathered:
        """Return what all processes of the command counted."""
        return gather(self._store, self._directory)

    def leave_to_parent(self) -> None:
        """Drop what was inherited, in a child that was just forked."""
        directory, self._directory = self._directory, None
        inherited, self.server = self.server, None
        self._ledger = None
        self.has_thread = False
        if directory is not None:
            directory.leave_to_parent()
        if inherited is not None:
            inherited.abandon()

    def _join(self) -> RunDirectory | None:
        """Begin this process's file; None where it has to keep to itself."""
        directory = open_directory(self._environ, fingerprint())
        try:
            if directory is not None:
                self._ledger = Ledger(directory.join())
                self._store.settle(self._allocate)
                fold_crowd(directory, PRESS)
        except OSError as error:
            self._alone(error)
            return None
        if directory is None and self._environ.get(RUN_ID):
            say("no private directory can be made: each process has its own metrics")
        return directory

    def _alone(self, error: OSError) -> None:
        self._ledger = None
        say(f"each process has its own metrics: {error}")

    def _allocate(self, layout: Layout, labels: tuple[str, ...]) -> Cells:
        if self._ledger is not None:
            try:
                return self._ledger.allocate(layout, labels)
            except OSError as error:
                self._alone(error)
        return in_memory(layout, labels)

    def _lead(self, exposition: Exposition) -> None:
        """Wait for the turn of this process, then serve. Runs in its own thread."""
        directory = self._directory
        before = 0
        try:
            if directory is not None:
                fold_crowd(directory, CROWD)
                directory.lead()
                debug("its turn to serve the metrics")
                before = _port_before(directory)
            # A name of its own: whoever leaves it to a parent takes the other away.
            bound = self.server = self._bind(exposition, before)
            if bound is not None:
                if directory is not None:
                    _note_port(directory, bound.port)
                bound.run()
        except OSError as error:
            # At the end of a short program the directory may go before its turn comes.
            if directory is None or directory.path not in removed:
                say(f"metrics are not served: {error}")

    def _bind(self, exposition: Exposition, before: int) -> server.Server | None:
        host, ports = self._host, self._ports
        for _ in range(_TRIES if before in ports else 0):
            found = server.bind(host, [before], exposition.render)
            if found is not None:
                return found
            sleep(_PAUSE)
        found = server.bind(host, ports, exposition.render)
        if found is None:
            say(f"no free port in {ports[0]}-{ports[-1]}, metrics are not served")
        elif found.port != ports[0]:
            say(f"port {ports[0]} is taken: metrics at {found.url}")
        elif self._banner:
            say(f"metrics at {found.url}")
        return found


def _port_before(directory: RunDirectory) -> int:
    """Return the port on which the command was served so far, 0 if on none."""
    try:
        with open(directory.file("port"), encoding="ascii") as file:  # noqa: PTH123 - pathlib is not loaded
            return int(file.read())
    except (OSError, ValueError):
        return 0


def _note_port(directory: RunDirectory, port: int) -> None:
    with open(directory.file("port"), "w", encoding="ascii") as file:  # noqa: PTH123 - as above
        file.write(str(port))
