"""What stands in for an answer: in which order, and the last good answers.

The first kind that has an answer gives it: what the service itself said last, then
another host, then a function, then a fixed answer.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar, final

from resilience_instrument.verdict import Evidence, Verdict

if TYPE_CHECKING:
    from collections.abc import Hashable

    from resilience_instrument.config.model import CacheFallback, FallbackSettings
    from resilience_instrument.events import FallbackKind
    from resilience_instrument.verdict import Judgement

T = TypeVar("T")


def kinds(settings: FallbackSettings) -> list[FallbackKind]:
    """Return the kinds that are asked for, in the order in which they are tried."""
    found: list[FallbackKind] = []
    if settings.cache is not None:
        found.append("cache")
    if settings.service is not None:
        found.append("service")
    if settings.call is not None:
        found.append("call")
    if settings.static is not None:
        found.append("static")
    return found


def is_wanted(judgement: Judgement | None) -> bool:
    """Tell whether a call that ended so may get another answer.

    What says nothing about the service (a bad URL, a certificate that nobody trusts)
    is the app's to see.

    Args:
        judgement: How its last attempt was judged, None where it was refused.
    """
    if judgement is None or judgement.timeout is not None:
        return True
    if judgement.verdict is Verdict.SUCCESS:
        return False
    return (
        judgement.verdict is Verdict.TRANSIENT
        or judgement.evidence is not Evidence.NEUTRAL
    )


class _Kept(NamedTuple, Generic[T]):
    """An answer, and when it was given."""

    answer: T
    since: float


@final
class Memory(Generic[T]):
    """The last good answers of one service, the longest unused forgotten first."""

    __slots__ = ("_kept", "_lock")

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, _Kept[T]] = OrderedDict()
        self._lock = threading.Lock()

    def keep(
        self, key: Hashable, answer: T, now: float, settings: CacheFallback
    ) -> None:
        """Keep an answer that was given at `now`."""
        with self._lock:
            self._kept[key] = _Kept(answer, now)
            self._kept.move_to_end(key)
            while len(self._kept) > settings.max_entries:
                self._kept.popitem(last=False)

    def find(self, key: Hashable, now: float, settings: CacheFallback) -> T | None:
        """Return the answer of `key`, None if there is none or it is too old."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is None:
                return None
            if now - kept.since > settings.max_age:
                del self._kept[key]
                return None
            self._kept.move_to_end(key)
            return kept.answer

    def renew_lock(self) -> None:
        """Replace the lock, in a child that was just forked."""
        self._lock = threading.Lock()
