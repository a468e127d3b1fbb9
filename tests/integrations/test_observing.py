"""Observe mode over real connections: a plain run, and a report that comes true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from integrations.harness import Wish
from loopback import Delay, Hang, Server, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from integrations.governing import Governed
    from integrations.harness import Harness

    Govern = Callable[..., Governed]

pytestmark = pytest.mark.usefixtures("harness")


def acts(governed: Governed) -> list[str]:
    """Return which policies would have acted, call by call."""
    return [facts[0] for facts in governed.told.of("would_act")]


def test_a_failure_passes_as_it_is(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """One request, the service's own answer, and a note of what would have been."""
    governed = govern(MODE="observe")
    server.script("/x", Status(503, body=b"down"), Status(200))

    answer = harness.send(Wish(server.url("/x")))

    assert (503, b"down") == (answer.status, answer.body)
    assert 1 == len(server.hits("/x"))
    assert ["retry"] == acts(governed)
    assert ["error"] == governed.told.outcomes


def test_nothing_is_refused(harness: Harness, govern: Govern, server: Server) -> None:
    """However often the service failed."""
    governed = govern(MODE="observe", RETRY_MAX_ATTEMPTS="1", BREAKER_CONSECUTIVE="2")
    server.script("/x", Status(503))

    for _ in range(4):
        assert 503 == harness.send(Wish(server.url("/x"))).status

    assert 4 == len(server.hits("/x"))
    assert ["breaker", "breaker"] == acts(governed)
    assert "closed" == governed.state()


def test_no_time_is_set(harness: Harness, govern: Govern, server: Server) -> None:
    """A call that would have been cut gets its answer."""
    governed = govern(
        MODE="observe",
        TIMEOUT_READ="0.05",
        TIMEOUT_TOTAL="0.1",
        RETRY_MAX_ATTEMPTS="1",
    )
    server.script("/x", Delay(0.3, Status(200, body=b"late")))

    answer = harness.send(Wish(server.url("/x")))

    assert (200, b"late") == (answer.status, answer.body)
    ((policy, saved, lost),) = governed.told.of("would_act")
    assert ("timeout", 1) == (policy, lost)
    assert 0.1 < saved < 5.0


def test_the_apps_own_timeout_holds(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """It is no work of ours."""
    governed = govern(MODE="observe", RETRY_MAX_ATTEMPTS="1")
    server.script("/x", Hang())

    answer = harness.send(Wish(server.url("/x"), timeout=0.2))

    assert isinstance(answer.error, harness.timeout_errors)
    assert [] == acts(governed)
    # urllib3 repeats by itself, as it does without the agent.
    assert {"timeout"} == set(governed.told.outcomes)


@pytest.mark.parametrize("mode", ["observe", "enforce"])
def test_a_cascade_is_predicted(
    harness: Harness, govern: Govern, server: Server, mode: str
) -> None:
    """Calls that are retried and refused: as many as were predicted."""
    governed = govern(
        MODE=mode, RETRY_BASE_DELAY="0", RETRY_BUDGET_MIN="100", BREAKER_OPEN_FOR="60"
    )
    server.script("/ok", Status(200))
    server.script("/down", Status(503))

    for path in ["/ok"] * 4 + ["/down"] * 6 + ["/ok"] * 2:
        harness.send(Wish(server.url(path)))

    told: Any = governed.told
    retried = [facts[0] for facts in told.of("retry_scheduled")].count(2)
    refused = len(told.of("rejected"))
    if mode == "observe":
        retried, refused = (
            acts(governed).count("retry"),
            acts(governed).count("breaker"),
        )
        assert 12 == len(server.hits())
    # Three attempts of the first, two of the second, then six calls are refused.
    assert (2, 6) == (retried, refused)
