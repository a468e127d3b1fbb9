"""`timeout.max`: a limit on what an app allows its calls."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import requests

from integrations.governing import governing
from integrations.harness import Wish
from loopback import Delay, Server, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from integrations.governing import Governed
    from integrations.harness import Harness

    Govern = Callable[..., Governed]


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [30, None])
def test_no_call_takes_longer_whatever_the_app_allows(
    harness: Harness, govern: Govern, server: Server, timeout: float | None
) -> None:
    """Also where it said that there is no limit; retries included."""
    govern(TIMEOUT_MAX="0.5")
    server.script("/x", Delay(5.0, Status(200)))
    begun = time.monotonic()

    answer = harness.send(Wish(server.url("/x"), timeout=timeout))

    assert isinstance(answer.error, harness.timeout_errors)
    assert time.monotonic() - begun < 4.0


@pytest.mark.slow
def test_a_shorter_timeout_of_the_app_holds(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """It is a limit and no timeout to be given."""
    governed = govern(TIMEOUT_MAX="20", RETRY_MAX_ATTEMPTS="1")
    server.script("/x", Delay(5.0, Status(200)))
    begun = time.monotonic()

    harness.send(Wish(server.url("/x"), timeout=0.2))

    assert time.monotonic() - begun < 4.0
    assert not governed.told.calls[0].unbounded


def test_a_call_that_is_cut_shorter_than_the_app_says_goes_the_long_way(
    server: Server,
) -> None:
    """Its own timeouts would hold on the short one."""
    server.script("/x", Status(200))
    with (
        governing(("requests",), fast=True, TIMEOUT_MAX="5") as governed,
        requests.Session() as session,
    ):
        for timeout in (30, (3, 30), 4):
            for _ in range(3):
                session.get(server.url("/x"), timeout=timeout)

        assert ["short"] * 2 == [name for name, *_ in governed.told.events][-2:]
        assert 2 == len(governed.told.of("short"))
