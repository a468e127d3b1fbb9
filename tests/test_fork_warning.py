"""Python's warning about forks: never because of us, always because of the app."""

from __future__ import annotations

import re
import warnings

import pytest

from resilience_instrument import _fork

TEXT = "This process (pid=1) is multi-threaded, use of fork() may lead to deadlocks"


def is_warned() -> bool:
    """Tell whether Python's warning would be shown now."""
    for action, message, category, _, _ in warnings.filters:
        pattern = message and re.compile(message)
        if issubclass(DeprecationWarning, category) and (
            not pattern or pattern.match(TEXT)
        ):
            return action != "ignore"
    return True


@pytest.mark.parametrize(
    ("threads", "ours", "expected"),
    [(2, True, False), (3, True, True), (2, False, True), (0, True, True)],
)
def test_only_a_thread_of_ours_is_excused(
    threads: int, *, ours: bool, expected: bool
) -> None:
    """One thread of the app's own, and it is told as without us."""
    with warnings.catch_warnings():
        _fork.excuse(lambda: threads, ours=ours)

        assert expected == is_warned()


def test_an_excuse_ends_when_the_app_starts_threads() -> None:
    """The next fork warns again."""
    with warnings.catch_warnings():
        before = list(warnings.filters)
        _fork.excuse(lambda: 2, ours=True)
        _fork.excuse(lambda: 5, ours=True)

        assert before == list(warnings.filters)


def test_the_system_counts_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it does not say, nothing is excused."""
    assert _fork.count_threads() >= 1

    def fail(_: str) -> list[str]:
        raise FileNotFoundError

    monkeypatch.setattr("os.listdir", fail)

    assert 0 == _fork.count_threads()
