"""The cascade: its figures, its honesty, and one short run of the whole."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import demo
import figures
import measure
import pytest
import stage
from figures import Answer, Figures, Step, Window

from resilience_instrument.config import defaults
from resilience_instrument.config.load import from_environment
from resilience_instrument.signals import catalog

CASCADE = Path(demo.__file__).parent
WINDOW = Window(start=4.0, end=16.0, story_end=24.0)
DIED = Figures(0.2, 0.0, 0.2, 5.0, 80, None)
STAYED = Figures(1.0, 1.0, 0.5, 0.5, 12, 2.0)
CHANGES = catalog.BREAKER_CHANGES.name
EXPOSED = f"""\
circuit_breaker_state{{service="c:1"}} 0.0
{CHANGES}{{service="c:1",from_state="closed",to_state="open"}} 1.0
{CHANGES}{{service="c:1",from_state="open",to_state="half_open"}} 3.0
{CHANGES}{{service="c:1",from_state="open",to_state="closed"}} 0.0
"""


def order(sent: float, took: float = 0.1, status: int = 200) -> Answer:
    """Return an answer to somebody who wanted to see an order."""
    return Answer("/orders/1", sent, took, status)


def products(sent: float, took: float = 0.1, status: int = 200) -> Answer:
    """Return an answer to somebody who wanted products."""
    return Answer("/products", sent, took, status)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(order(0.0, 1.0), (True, True), id="just-in-time"),
        pytest.param(order(0.0, 1.01), (False, False), id="too-late"),
        pytest.param(order(0.0, 0.1, 500), (True, False), id="refused-at-once"),
        pytest.param(order(0.0, 0.1, 0), (False, False), id="no-answer"),
    ],
)
def test_answer_is_judged_by_time_and_status(
    answer: Answer, expected: tuple[bool, bool]
) -> None:
    """A quick refusal is in time but not right; no answer is neither."""
    assert expected == (answer.is_in_time, answer.is_right)


def test_p99_is_what_99_of_100_wait_at_most() -> None:
    """One slow answer in a hundred does not count, two do."""
    one = [order(0.0, 0.1)] * 99 + [order(0.0, 5.0)]
    two = [order(0.0, 0.1)] * 98 + [order(0.0, 5.0, 0)] * 2

    assert (0.1, 5.0, 0.0) == (figures.p99(one), figures.p99(two), figures.p99([]))


def test_recovery_counts_from_the_recovery_of_c() -> None:
    """A is healthy where a whole second in which all is right begins."""
    ill = [order(16.0 + n / 10, 0.1, 500) for n in range(20)]
    well = [order(18.0 + n / 10) for n in range(60)]

    after = figures.healthy_after([*well, *ill], WINDOW, 1.0)

    assert after == pytest.approx(2.0)


def test_recovery_needs_a_whole_second_before_the_end() -> None:
    """What was right in the last half second only proves nothing."""
    ill = [order(16.0 + n / 10, 0.1, 500) for n in range(75)]
    well = [order(23.5 + n / 10) for n in range(5)]

    assert figures.healthy_after([*ill, *well], WINDOW, 1.0) is None


def test_no_answer_at_all_is_no_recovery() -> None:
    """Silence is not health."""
    assert figures.healthy_after([order(15.0)], WINDOW, 1.0) is None


def test_run_is_summarized_by_what_was_asked_and_when() -> None:
    """Products count in the outage, orders always, calls of C in the outage."""
    answers = [order(1.0), order(5.0, 0.2, 500), products(5.0), products(6.0, 3.0)]

    summary = figures.summarize(answers, [3.9, 4.0, 15.9, 16.0], WINDOW, 1.0)

    assert Figures(0.75, 0.5, 0.5, 3.0, 2, None) == summary


def test_changes_are_read_from_the_exposition() -> None:
    """The names are those of the catalogue; what never happened is 0."""
    expected = Counter({("closed", "open"): 1, ("open", "half_open"): 3})

    assert expected == +figures.read_changes(EXPOSED)


def test_changes_seen_at_once_are_put_in_order() -> None:
    """Each change starts where the one before ended."""
    new = Counter({("half_open", "open"): 1, ("open", "half_open"): 2})

    path = figures.order_changes(new, "open")

    expected = [("open", "half_open"), ("half_open", "open"), ("open", "half_open")]
    assert expected == path


def test_circuit_tells_its_story() -> None:
    """Probes that failed one after the other stand together."""
    steps = [
        Step(4.6, ("closed", "open")),
        Step(6.6, ("open", "half_open")),
        Step(7.1, ("half_open", "open")),
        Step(9.2, ("half_open", "open")),
        Step(17.0, ("half_open", "closed")),
    ]

    assert "opened 4.6; probe failed 7.1, 9.2; closed 17.0" == figures.tell(steps)
    assert "did nothing" == figures.tell([])


def test_table_shows_both_runs_side_by_side() -> None:
    """Each row has a name and two values; what did not happen is said so."""
    lines = figures.table(DIED, STAYED, rest=8.0)

    rows = [re.split(r"  +", line.strip()) for line in lines]
    assert ["plain", "with the agent"] == rows[0]
    assert ["A answered within 1 s", "20 %", "100 %"] == rows[1]
    assert ["A's p99", "5.00 s", "0.50 s"] == rows[4]
    assert ["until A was healthy after C was", "not within 8 s", "2.0 s"] == rows[6]


def test_contrast_that_was_seen_misses_nothing() -> None:
    """A died without the agent and stayed up with it."""
    assert [] == figures.missing(DIED, STAYED)


@pytest.mark.parametrize(
    ("plain", "governed", "said"),
    [
        pytest.param(DIED._replace(apart=0.9), STAYED, "A did not die", id="alive"),
        pytest.param(DIED, STAYED._replace(apart=0.7), "stay up", id="died"),
        pytest.param(DIED, STAYED._replace(in_time=0.2), "sooner", id="late"),
        pytest.param(DIED, STAYED._replace(p99=5.0), "p99", id="p99"),
        pytest.param(DIED, STAYED._replace(calls=80), "spared", id="calls"),
        pytest.param(DIED, STAYED._replace(healthy_after=None), "recover", id="ill"),
        pytest.param(
            DIED._replace(healthy_after=2.0), STAYED, "no sooner", id="no-sooner"
        ),
    ],
)
def test_contrast_that_was_not_seen_is_said(
    plain: Figures, governed: Figures, said: str
) -> None:
    """Each part of the claim can fail, and is then named."""
    assert said in " and ".join(figures.missing(plain, governed))


def watched(*changes: figures.Change) -> measure.Watch:
    """Return a watch of a port that answered, which saw `changes`."""
    load = measure.Load(0, asyncio.TaskGroup())
    watch = measure.Watch(9469, load)
    watch.answered = True
    watch.notice(Counter(changes))
    return watch


OPENED = ("closed", "open")
PROBED = ("open", "half_open")
CLOSED = ("half_open", "closed")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param([OPENED, PROBED, CLOSED], 0, id="opened-and-closed"),
        pytest.param([OPENED, PROBED], 1, id="never-closed"),
        pytest.param([], 1, id="never-opened"),
    ],
)
def test_exit_code_is_0_only_if_both_circuits_opened_and_closed(
    monkeypatch: pytest.MonkeyPatch, changes: list[figures.Change], expected: int
) -> None:
    """Good figures without a circuit at work are no proof."""
    runs = {
        False: demo.Run(DIED, {}),
        True: demo.Run(
            STAYED, {"a": watched(*changes), "b": watched(OPENED, PROBED, CLOSED)}
        ),
    }
    monkeypatch.setattr(demo, "play", lambda *_, governed: runs[governed])

    assert expected == demo.demonstrate(demo.QUICK)


def test_metrics_are_said_to_be_where_they_answered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A port that nobody served is not named."""
    silent = watched()
    silent.answered = False
    run = demo.Run(STAYED, {"a": watched(OPENED), "b": silent})

    demo.report(demo.Run(DIED, {}), run, demo.QUICK)

    said = capsys.readouterr().out
    assert "The metrics were at http://127.0.0.1:9469/metrics (A).\n" in said


@pytest.mark.parametrize("plan", [demo.FULL, demo.QUICK], ids=["full", "quick"])
def test_settings_of_the_demo_are_settings_of_the_agent(plan: demo.Plan) -> None:
    """The agent takes them, and who is asked gives up before who asks."""
    a, b = (
        from_environment(plan.settings[name]).defaults.timeout.read for name in "ab"
    )

    assert a is not None
    assert b is not None
    assert b < a < defaults.READ


def test_environment_of_the_services_has_no_settings_from_outside() -> None:
    """What the user has set for the agent does not change the demo."""
    environ = {"RESILIENCE_ENABLED": "0", "PATH": "/bin"}

    assert {"PATH": "/bin"} == stage.clean(environ)


def test_metrics_ports_are_free_and_start_at_the_agents_first() -> None:
    """A port that somebody has is passed over."""
    assert defaults.METRICS_FIRST_PORT == stage.FIRST_METRICS_PORT
    first = next(stage.free_ports())
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", first))
        taken.listen()

        assert first < next(stage.free_ports())


def test_get_says_0_where_nobody_answers() -> None:
    """A refused connection and a mute server are no answer, not an error."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        port = mute.getsockname()[1]
        refused = asyncio.run(measure.get(port, "/"))
        mute.listen()
        unanswered = asyncio.run(measure.get(port, "/", patience=0.05))

    assert [(0, "")] * 2 == [refused, unanswered]


def test_ctrl_c_waits_until_a_process_is_known() -> None:
    """An interrupt in the middle of a start comes after it, and is not lost."""
    known = []

    def start() -> None:
        with stage.undisturbed():
            signal.raise_signal(signal.SIGINT)
            known.append("a process")

    with pytest.raises(KeyboardInterrupt):
        start()

    assert ["a process"] == known
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def run_demo(*options: str) -> subprocess.Popen[str]:
    """Start the demo as the head of a process group of its own."""
    return subprocess.Popen(
        [sys.executable, str(CASCADE / "demo.py"), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def is_group_gone(group: int) -> bool:
    """Say whether no process of the group is left, some moments given."""
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    os.killpg(group, signal.SIGKILL)
    return False


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.long
def test_short_run_shows_the_contrast_and_leaves_nothing_behind() -> None:
    """Three real services: without the agent A dies, with it A stays up."""
    process = run_demo("--quick")

    said, _ = process.communicate(timeout=90)

    assert process.returncode == 0, said
    shares = re.search(r"products, in the outage +(\d+) % +(\d+) %", said)
    assert shares is not None, said
    assert int(shares[1]) < 50 < int(shares[2])
    assert is_group_gone(process.pid)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_leaves_nothing_behind(number: signal.Signals) -> None:
    """Ctrl-C in the middle ends the services too, and says 130."""
    process = run_demo()
    assert process.stdout is not None
    said = ""
    while "C is well" not in said:
        said += process.stdout.readline()

    process.send_signal(number)

    rest, _ = process.communicate(timeout=30)
    assert 130 == process.returncode, said + rest
    assert "Traceback" not in rest
    assert is_group_gone(process.pid)
