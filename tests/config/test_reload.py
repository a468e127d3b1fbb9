"""A changed file: looked at during calls, checked first, circuits kept."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fakes import FakeClock, RecordingObserver, a_call, open_circuit, works
from resilience_instrument.config import reload
from resilience_instrument.config.load import agent_settings, examine
from resilience_instrument.config.match import Destination
from resilience_instrument.config.reload import Watch
from resilience_instrument.engine import execute
from resilience_instrument.registry import Registry

if TYPE_CHECKING:
    from resilience_instrument.config.plan import Plan
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.registry import ServicePolicies
    from resilience_instrument.verdict import Judgement

FILE = "r.toml"
PAY = Destination("https", "pay.example.com")


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a directory of the test's own."""
    monkeypatch.chdir(tmp_path)


def write(text: str) -> None:
    """Put a file in the place of another at once."""
    Path("new").write_text(text, encoding="utf-8")
    Path("new").replace(FILE)


def version(number: int) -> str:
    """Return a configuration that is as good as any, with a number in it."""
    return (
        f'[services.pay]\nmatch = "pay.example.com"\n'
        f"timeout = {{ read = {number}, total = {2 * number} }}\n"
        f'[services.down]\nmatch = "down.example.com"\nbreaker.consecutive = 3\n'
    )


class World:
    """A file, a watch, a registry, and what was said."""

    def __init__(self, text: str = "[defaults]\n") -> None:
        write(text)
        plan, findings = examine({}, FILE)
        assert [] == findings
        settings = agent_settings(plan)
        self.clock = FakeClock()
        self.registry = Registry(settings.defaults, self.clock)
        self.registry.adopt(settings)
        self.adopted = 0
        self.refused: list[str] = []
        self.watch = Watch(FILE, plan.checksum, {}, self._adopt, self._refuse)
        self.registry.look = self.watch.look

    def _adopt(self, plan: Plan) -> None:
        self.adopted += 1
        self.registry.adopt(agent_settings(plan))

    def _refuse(self, error: Exception) -> None:
        self.refused.append(str(error))

    def call(self, to: Destination = PAY) -> ServicePolicies:
        """Return what governs a call that starts now."""
        return self.registry.policies(to.host, to=to)

    def read(self) -> float | None:
        """Return the read timeout of a call a second from now."""
        self.clock.advance(1.0)
        return self.call().settings.timeout.read


def test_a_changed_file_holds_from_the_next_call_on() -> None:
    """And a call that is under way ends by what it began with."""
    world = World(version(1))
    begun = world.call()

    write(version(2))

    assert 2.0 == world.read()
    assert 1.0 == begun.settings.timeout.read
    assert (1, []) == (world.adopted, world.refused)


def test_the_file_is_looked_at_once_a_second_at_most() -> None:
    """However many calls there are."""
    world = World(version(1))
    world.call()

    write(version(2))
    world.clock.advance(0.9)

    assert 1.0 == world.call().settings.timeout.read
    assert 2.0 == world.read()


def test_a_bad_file_leaves_everything_as_it_was() -> None:
    """It is said once, not once a second."""
    world = World(version(1))

    write("[services.pay]\nmatch = 3\n")

    assert 1.0 == world.read()
    assert 1.0 == world.read()
    (said,) = world.refused
    assert said.startswith("r.toml:2: services.pay.match = 3: use ")
    write(version(2))
    assert 2.0 == world.read()


@pytest.mark.parametrize("spoil", [lambda: write(""), lambda: Path(FILE).unlink()])
def test_a_file_that_is_empty_or_gone_changes_nothing(spoil: object) -> None:
    """An editor leaves it so for a moment."""
    world = World(version(1))
    assert callable(spoil)

    spoil()

    assert 1.0 == world.read()
    assert 1 == len(world.refused)
    write(version(3))
    assert 3.0 == world.read()


def test_a_file_that_was_only_touched_is_the_same() -> None:
    """Its content counts."""
    world = World(version(1))
    first = world.call()

    os.utime(FILE, (1, 1))
    world.read()
    os.utime(FILE, (2, 2))
    world.read()

    assert (0, []) == (world.adopted, world.refused)
    assert first is world.call()


def test_a_second_change_within_one_tick_is_seen() -> None:
    """Size and time may be the same: while the file is fresh its content is read."""
    world = World(version(1))
    world.read()
    status = Path(FILE).stat()

    with Path(FILE).open("r+", encoding="utf-8") as opened:
        opened.write(version(3))
    os.utime(FILE, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert 3.0 == world.read()


def test_an_old_file_that_did_not_change_is_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A look is one `stat`."""
    world = World(version(1))
    os.utime(FILE, (1, 1))
    world.read()
    monkeypatch.setattr(Watch, "_checksum", lambda _: pytest.fail("it was read"))

    assert 1.0 == world.read()


def test_a_change_before_the_first_call_is_seen() -> None:
    """The watch compares with what is in use, not with what it finds first."""
    world = World(version(1))

    write(version(2))

    assert 2.0 == world.call().settings.timeout.read


def test_whoever_comes_while_another_looks_goes_on() -> None:
    """Nobody waits for a file."""
    world = World(version(1))
    write(version(2))

    with world.watch._lock:
        assert 1.0 == world.read()
    assert 2.0 == world.read()


def test_a_fault_while_adopting_is_no_fault_of_the_call() -> None:
    """It counts as a refusal."""
    world = World(version(1))
    world.watch._adopt = lambda _: 1 / 0  # type: ignore[assignment]

    write(version(2))

    assert 1.0 == world.read()
    assert ["division by zero"] == world.refused


def test_a_child_has_a_lock_of_its_own() -> None:
    """A fork while another thread looks must not end all looking."""
    world = World(version(1))
    write(version(2))
    world.watch._lock.acquire()

    world.watch.renew_lock()

    assert 2.0 == world.read()


def test_a_lower_threshold_holds_for_the_failures_so_far() -> None:
    """Four failures in a row, then 3 instead of 5: the next one opens."""
    world = World("[defaults]\n")
    policies = world.call()
    for _ in range(4):
        permit, _ = policies.breaker.acquire(world.clock.now)
        policies.breaker.record(permit, works().judgement.evidence, world.clock.now)  # type: ignore[arg-type]
    before = policies.breaker

    write("[defaults]\nbreaker.consecutive = 3\n")
    world.clock.advance(1.0)

    assert before is world.call().breaker
    assert 3 == world.call().settings.breaker.consecutive


def test_an_open_circuit_stays_open() -> None:
    """For as long as it was to be."""
    world = World(version(1))
    down = Destination("https", "down.example.com")
    open_circuit(world.call(down).breaker, world.clock.now)
    until = world.call(down).breaker.acquire(world.clock.now)[0]

    write(version(2))
    world.clock.advance(1.0)

    policies = world.call(down)
    rejection = policies.breaker.acquire(world.clock.now)[0]
    assert "open" == policies.breaker.state(world.clock.now)
    assert until.retry_after - 1.0 == rejection.retry_after  # type: ignore[union-attr]


# -- under load -------------------------------------------------------------


class Waiting:
    """An `Io` whose attempt takes until somebody says so."""

    def __init__(self, over: asyncio.Event) -> None:
        self._over = over
        self._step = works()

    async def attempt(self, number: int, deadline: float | None) -> Outcome:  # noqa: ARG002
        await self._over.wait()
        outcome = self._step.outcome
        assert not isinstance(outcome, BaseException)
        return outcome

    def judge(self, outcome: Outcome) -> Judgement:  # noqa: ARG002
        return self._step.judgement


def texts(changes: int) -> list[tuple[str, float]]:
    """Return files, every third one bad, each with the timeout that holds then."""
    found, good = [], 1
    for number in range(2, changes + 2):
        if number % 3 == 0:
            bad = ("[services.pay]\nmatch = 3\n", "", "[services", version(0))
            found.append((bad[number % 4], float(good)))
        else:
            good = number
            found.append((version(number), float(good)))
    return found


def test_two_thousand_calls_in_flight_outlive_fifty_changes() -> None:
    """No call lost, no wrong policy, circuits kept; every third file is bad."""
    world = World(version(1))
    down = Destination("https", "down.example.com")
    breaker = world.call(down).breaker
    open_circuit(breaker, world.clock.now)
    circuit = world.call().breaker
    seen: list[tuple[float | None, float | None]] = []

    async def one(over: asyncio.Event, read: float) -> Outcome:
        policies = world.call()
        assert (read, 2 * read) == (
            policies.settings.timeout.read,
            policies.settings.timeout.total,
        )
        outcome = await execute(
            a_call(),
            policies,
            Waiting(over),  # type: ignore[arg-type]
            RecordingObserver(),
            world.clock,
        )
        seen.append((read, policies.settings.timeout.read))
        return outcome

    async def all_of_them() -> list[Outcome]:
        over = asyncio.Event()
        calls = []
        for text, read in texts(50):
            write(text)
            world.clock.advance(0.5)
            world.watch._next = 0.0
            calls += [asyncio.create_task(one(over, read)) for _ in range(40)]
            await asyncio.sleep(0)
        over.set()
        return await asyncio.gather(*calls)

    outcomes = asyncio.run(all_of_them())

    assert 2000 == len(outcomes) == len(seen)
    assert all(begun == ended for begun, ended in seen)
    assert (33, 17) == (world.adopted, len(world.refused))
    assert circuit is world.call().breaker
    assert breaker is world.call(down).breaker
    assert "open" == breaker.state(world.clock.now)


def test_threads_never_see_half_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of a file belong together in every call."""
    monkeypatch.setattr(reload, "INTERVAL", 0.0)
    world = World(version(1))
    over = threading.Event()
    wrong: list[object] = []
    counts = itertools.count()

    def call() -> None:
        while not over.is_set():
            timeout = world.call().settings.timeout
            if timeout.total != 2 * (timeout.read or 0):
                wrong.append(timeout)
            next(counts)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for text, _ in texts(50):
        write(text)
        begin = next(counts)
        while next(counts) < begin + 20:
            over.wait(0.0005)
    write(version(60))
    over.set()
    for thread in threads:
        thread.join()

    assert [] == wrong
    assert 60.0 == world.read()
    assert 1 == len(world.registry.known())
