"""What stands in, in which order; the last good answers."""

from __future__ import annotations

import pytest

from resilience_instrument.config.model import (
    CacheFallback,
    FallbackSettings,
    StaticFallback,
)
from resilience_instrument.policies.fallback import Memory, is_wanted, kinds
from resilience_instrument.verdict import Evidence, Judgement, Phase, Verdict

CACHE = CacheFallback(max_age=10.0, max_entries=2, max_bytes=100)
STATIC = StaticFallback(200, (), b"")


def test_the_service_itself_comes_first() -> None:
    """Then another host, a function, a fixed answer."""
    everything = FallbackSettings(CACHE, "https://b", "m:f", STATIC)
    nothing = FallbackSettings(None, None, None, None)

    assert ["cache", "service", "call", "static"] == kinds(everything)
    assert [] == kinds(nothing)


@pytest.mark.parametrize(
    ("judgement", "wanted"),
    [
        (None, True),
        (Judgement(Verdict.SUCCESS, Evidence.SUCCESS), False),
        (Judgement(Verdict.TRANSIENT, Evidence.SUCCESS), True),
        (Judgement(Verdict.PERMANENT, Evidence.FAILURE), True),
        (Judgement(Verdict.PERMANENT, Evidence.NEUTRAL), False),
        (Judgement(Verdict.TRANSIENT, Evidence.NEUTRAL, timeout=Phase.READ), True),
        (Judgement(Verdict.PERMANENT, Evidence.NEUTRAL, timeout=Phase.READ), True),
    ],
)
def test_a_failure_of_the_service_may_be_answered(
    judgement: Judgement | None,
    wanted: bool,
) -> None:
    """A refusal is one too; what says nothing about the service is the app's."""
    assert wanted == is_wanted(judgement)


def test_an_answer_is_kept_for_its_time() -> None:
    """A newer one takes its place."""
    memory: Memory[str] = Memory()

    memory.keep("a", "old", 0.0, CACHE)
    memory.keep("a", "new", 5.0, CACHE)

    assert "new" == memory.find("a", 15.0, CACHE)
    assert memory.find("a", 15.1, CACHE) is None
    assert memory.find("a", 5.0, CACHE) is None
    assert memory.find("b", 5.0, CACHE) is None


def test_the_longest_unused_is_forgotten() -> None:
    """There are as many as were asked for."""
    memory: Memory[str] = Memory()
    memory.keep("a", "a", 0.0, CACHE)
    memory.keep("b", "b", 0.0, CACHE)
    memory.find("a", 0.0, CACHE)

    memory.keep("c", "c", 0.0, CACHE)

    assert ["a", None, "c"] == [memory.find(k, 0.0, CACHE) for k in ("a", "b", "c")]


def test_a_child_has_a_lock_of_its_own() -> None:
    """The parent's may be held for ever."""
    memory: Memory[str] = Memory()
    memory._lock.acquire()

    memory.renew_lock()

    assert memory.find("a", 0.0, CACHE) is None
