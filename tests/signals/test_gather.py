"""What all processes counted: added up, dead ones kept, nothing counted twice."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from resilience_instrument.signals import catalog, exemplars, gather, ledger, standing
from resilience_instrument.signals.layout import EXEMPLARS, LAYOUTS
from resilience_instrument.signals.rundir import RunDirectory
from resilience_instrument.signals.standing import Standing
from resilience_instrument.signals.store import ENDPOINT, OTHER, SERVICE, Store

if TYPE_CHECKING:
    from resilience_instrument.signals.gather import Gathered

CALLS = LAYOUTS[ENDPOINT].at(catalog.API_REQUEST, "success")
SUM = LAYOUTS[ENDPOINT].sum_at(catalog.API_REQUEST_DURATION)
INFLIGHT = LAYOUTS[SERVICE].at(catalog.INFLIGHT)
TIMEOUTS = dict.fromkeys(catalog.TIMEOUT_KINDS, 3.0)
OPEN = Standing("open", math.inf, 0.5, math.inf, TIMEOUTS)


class Process(NamedTuple):
    """Another process of the command, or what is left of it."""

    directory: RunDirectory
    store: Store

    def make(self, calls: int, seconds: float = 0.0, endpoint: str = "/") -> None:
        """Count calls."""
        block = self.store.endpoint("api", endpoint)
        block.counts[CALLS] += calls
        block.sums[SUM] += seconds
        self.store.service("api").counts[INFLIGHT] += 1

    def die(self) -> None:
        """End, as a killed process does: what it held is free."""
        self.directory.leave_to_parent()


@pytest.fixture
def home(tmp_path: Path) -> RunDirectory:
    """Return the directory as the process that serves sees it."""
    return RunDirectory(str(tmp_path))


def process(home: RunDirectory) -> Process:
    """Start another process of the command."""
    directory, store = RunDirectory(home.path), Store()
    store.settle(ledger.Ledger(directory.join()).allocate)
    return Process(directory, store)


def calls(found: Gathered) -> int:
    """Return how many calls there were in all."""
    return sum(b.counts[CALLS] for b in found.blocks if b.layout.scope == ENDPOINT)


def inflight(found: Gathered) -> int:
    """Return how many calls are under way in all."""
    return sum(b.counts[INFLIGHT] for b in found.blocks if b.layout.scope == SERVICE)


def test_alone_it_is_what_the_store_has() -> None:
    """Where no directory can be had."""
    store = Store()
    store.endpoint("api", "/").counts[CALLS] += 3

    assert 3 == calls(gather.gather(store, None))


def test_live_processes_are_added_up(home: RunDirectory) -> None:
    """Counts and calls under way; the states are told one by one."""
    for number in (1, 20):
        one = process(home)
        one.make(number)
        block = one.store.service("api")
        standing.write(block.counts, block.sums, OPEN)

    found = gather.gather(Store(), home)

    assert (21, 2) == (calls(found), inflight(found))
    assert ["open", "open"] == [snapshot.state for snapshot in found.snapshots]


def test_the_dead_are_kept_once_and_their_gauges_are_not(home: RunDirectory) -> None:
    """However often one looks; the file is gone, the count is not."""
    one = process(home)
    one.make(5)
    block = one.store.service("api")
    standing.write(block.counts, block.sums, OPEN)
    one.store.block(catalog.AGENT_INFO.scope, "1.0", "enforce", "3.11")
    one.die()

    found = [gather.gather(Store(), home) for _ in range(3)]

    assert [5, 5, 5] == [calls(each) for each in found]
    assert [0, 0, 0] == [inflight(each) for each in found]
    assert [] == found[0].snapshots
    assert catalog.AGENT_INFO.scope not in {b.layout.scope for b in found[0].blocks}
    assert ([], []) == home.others()


def test_who_was_killed_while_folding_leaves_nothing_to_count_twice(
    home: RunDirectory,
) -> None:
    """The file is in the base and still there: it is removed and not added."""
    one, two = process(home), process(home)
    one.make(5)
    one.die()
    kept = Path(one.directory.own).read_bytes()
    gather.gather(Store(), home)
    Path(one.directory.own).write_bytes(kept)
    Path(home.file(".base")).write_bytes(b"half of one")

    assert 5 == calls(gather.gather(Store(), home))
    Path(one.directory.own).write_bytes(kept)
    two.make(2)
    two.die()

    assert 7 == calls(gather.gather(Store(), home))
    Path(one.directory.own).write_bytes(kept)
    assert 7 == calls(gather.gather(Store(), home))


def test_sums_do_not_go_back_when_a_process_dies(home: RunDirectory) -> None:
    """Floats added in another order could: 0.1 + 0.2 + 0.3 does."""
    processes = [process(home) for _ in range(3)]
    for number, one in enumerate(processes, start=1):
        one.make(1, seconds=number / 10 + 1e-9)

    def total() -> float:
        found = gather.gather(Store(), home)
        return sum(b.sums[SUM] for b in found.blocks if b.layout.scope == ENDPOINT)

    seen = [total()]
    for one in processes[::-1]:
        one.die()
        seen.append(total())

    assert [0.6] * 4 == seen


def test_a_crowd_of_dead_is_folded_without_a_scrape(home: RunDirectory) -> None:
    """A few may lie; more are added up by the next process that begins."""
    for _ in range(3):
        one = process(home)
        one.make(1)
        one.die()

    gather.fold_crowd(home, 3)
    assert 3 == home.crowd()
    gather.fold_crowd(home, 2)

    assert 0 == home.crowd()
    assert 3 == calls(gather.gather(Store(), home))


def test_endpoints_of_all_processes_are_bounded(
    home: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is beyond the limit is counted as `other`."""
    monkeypatch.setattr(gather, "ENDPOINTS", 2)
    for name in ("/a", "/b", "/c", "/d"):
        process(home).make(1, endpoint=name)

    found = gather.gather(Store(), home)

    endpoints = {b.labels[1] for b in found.blocks if b.layout.scope == ENDPOINT}
    assert {"/a", "/b", OTHER} == endpoints
    assert 4 == calls(found)


def test_the_latest_exemplar_is_kept(home: RunDirectory) -> None:
    """Of several processes, bucket by bucket."""
    for trace, when in ((1, 10.0), (2**128 - 1, 30.0), (3, 20.0)):
        one = process(home)
        one.make(1)
        block = one.store.block(EXEMPLARS, "api", "/")
        exemplars.note(
            *(block.counts, block.sums, 4),
            trace_id=trace,
            span_id=2**63,
            value=0.1,
            time=when,
        )

    (total,) = (
        b for b in gather.gather(Store(), home).blocks if b.layout.scope == EXEMPLARS
    )
    found = exemplars.read(total.counts, total.sums, 4)

    assert exemplars.Exemplar("f" * 32, f"{2**63:016x}", 0.1, 30.0) == found
    assert exemplars.read(total.counts, total.sums, 5) is None


def test_a_standing_is_read_at_the_moment(home: RunDirectory) -> None:
    """An opening that is over reads half-open, a withdrawal that is old is gone."""
    block = process(home).store.service("api")
    timeouts = {**TIMEOUTS, "total": None}
    standing.write(
        block.counts, block.sums, Standing("open", 50.0, 0.5, 60.0, timeouts)
    )

    at = {now: standing.read("api", block.counts, block.sums, now) for now in (49, 70)}

    early, late = at[49], at[70]
    assert early is not None
    assert late is not None
    assert ("open", 0.5, timeouts) == early[1:]
    assert ("half_open", 1.0) == late[1:3]
    assert standing.read("x", [0] * len(block.counts), block.sums, 0.0) is None


def test_locks_end_with_whoever_holds_them(home: RunDirectory) -> None:
    """A second leader waits in the kernel; a child drops what it inherited."""
    first = RunDirectory(home.path)
    first.lead()
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:  # pragma: no cover - the child is not measured
        os.close(reader)
        first.leave_to_parent()
        RunDirectory(home.path).lead()
        os.write(writer, b"leads")
        os._exit(0)
    os.close(writer)
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 5)

    first.leave_to_parent()
    first.leave_to_parent()
    os.waitpid(pid, 0)

    assert b"leads" == os.read(reader, 5)
    os.close(reader)
