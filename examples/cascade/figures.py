"""What the demo makes of what it measured. Nothing here waits, sends or prints."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

IN_TIME: Final = 1.0
ORDERS: Final = "/orders"
_ENOUGH: Final = 0.95
_CHANGE: Final = re.compile(
    r"circuit_breaker_state_changes_total\{"
    r'.*from_state="(\w+)".*to_state="(\w+)"\} (\S+)'
)

Change = tuple[str, str]
_T = TypeVar("_T")


class Answer(NamedTuple):
    """One request to A; times are seconds, those of the story where they are points.

    Attributes:
        path: What was asked for.
        sent: When it was sent.
        took: Until it was answered, or given up.
        status: Of the answer, 0 if none came.
    """

    path: str
    sent: float
    took: float
    status: int

    @property
    def is_in_time(self) -> bool:
        """Whether A answered soon enough, whatever it said."""
        return self.status > 0 and self.took <= IN_TIME

    @property
    def is_right(self) -> bool:
        """Whether A said in time what it was asked."""
        return self.is_in_time and self.status == 200

    @property
    def needs_c(self) -> bool:
        """Whether A has to ask B and B has to ask C."""
        return self.path.startswith(ORDERS)


class Window(NamedTuple):
    """When in the story C was not well, and when the story ended."""

    start: float
    end: float
    story_end: float

    def holds(self, moment: float) -> bool:
        """Say whether C was not well at that moment."""
        return self.start <= moment < self.end


class Step(NamedTuple):
    """One transition of a circuit and when it was seen."""

    seen: float
    change: Change


class Figures(NamedTuple):
    """One run in figures.

    Attributes:
        in_time: Share of A's answers that came in time.
        apart: The same for what does not need C, while C was not well.
        orders: Share of the orders that were shown in time.
        p99: Seconds that 99 of 100 requests waited at most, also for nothing.
        calls: Calls that C received while it was not well.
        healthy_after: Seconds from C's recovery to A's, None if A stayed ill.
    """

    in_time: float
    apart: float
    orders: float
    p99: float
    calls: int
    healthy_after: float | None


def share(answers: Iterable[Answer], is_good: Callable[[Answer], bool]) -> float:
    """Return the share of `answers` that are good, 0.0 of none."""
    judged = [is_good(answer) for answer in answers]
    return sum(judged) / len(judged) if judged else 0.0


def p99(answers: Iterable[Answer]) -> float:
    """Return the seconds that 99 of 100 requests waited at most, 0.0 of none."""
    waits = sorted(answer.took for answer in answers)
    return waits[math.ceil(0.99 * len(waits)) - 1] if waits else 0.0


def healthy_after(
    answers: Iterable[Answer], window: Window, span: float
) -> float | None:
    """Return the seconds from C's recovery to A's, None if A was ill to the end.

    A is healthy from the first request on that begins `span` seconds in which 95 %
    of all requests were right.
    """
    later = sorted((a for a in answers if a.sent >= window.end), key=lambda a: a.sent)
    for index, first in enumerate(later):
        until = first.sent + span
        if until > window.story_end:
            return None
        following = [a for a in later[index:] if a.sent < until]
        if share(following, lambda a: a.is_right) >= _ENOUGH:
            return first.sent - window.end
    return None


def summarize(
    answers: Sequence[Answer], calls: Iterable[float], window: Window, span: float
) -> Figures:
    """Put one run into figures; `calls` are the times at which C was called."""
    outage = [a for a in answers if window.holds(a.sent)]
    return Figures(
        in_time=share(answers, lambda a: a.is_in_time),
        apart=share((a for a in outage if not a.needs_c), lambda a: a.is_right),
        orders=share((a for a in answers if a.needs_c), lambda a: a.is_right),
        p99=p99(answers),
        calls=sum(window.holds(moment) for moment in calls),
        healthy_after=healthy_after(answers, window, span),
    )


def read_changes(exposition: str) -> Counter[Change]:
    """Return how often the circuit changed from which state to which."""
    found = _CHANGE.findall(exposition)
    return Counter({(before, after): int(float(n)) for before, after, n in found})


def order_changes(new: Counter[Change], state: str) -> list[Change]:
    """Put changes that were seen at once into the only order that is possible."""
    left = Counter(new)
    path: list[Change] = []
    while change := next((c for c in left if left[c] > 0 and c[0] == state), None):
        left[change] -= 1
        path.append(change)
        state = change[1]
    return path


def tell(steps: Iterable[Step]) -> str:
    """Say what a circuit did, and when."""
    words = {
        ("closed", "open"): "opened",
        ("half_open", "open"): "probe failed",
        ("half_open", "closed"): "closed",
    }
    told = [(words[s.change], s.seen) for s in steps if s.change in words]
    parts: list[str] = []
    for index, (word, seen) in enumerate(told):
        again = index > 0 and told[index - 1][0] == word
        parts.append(f", {seen:.1f}" if again else f"; {word} {seen:.1f}")
    return "".join(parts).removeprefix("; ") or "did nothing"


def table(plain: Figures, governed: Figures, rest: float) -> list[str]:
    """Return the lines that show both runs side by side."""
    rows = [
        ("", "plain", "with the agent"),
        _row("A answered within 1 s", _percent, plain.in_time, governed.in_time),
        _row("  products, in the outage", _percent, plain.apart, governed.apart),
        _row(
            "  orders shown, in the whole run", _percent, plain.orders, governed.orders
        ),
        _row("A's p99", _seconds, plain.p99, governed.p99),
        _row("calls that C got in the outage", str, plain.calls, governed.calls),
        (
            "until A was healthy after C was",
            _after(plain.healthy_after, rest),
            _after(governed.healthy_after, rest),
        ),
    ]
    return [f"{name:<34}{left:>16}{right:>18}" for name, left, right in rows]


def missing(plain: Figures, governed: Figures) -> list[str]:
    """Return what should have been seen and was not; nothing if all was seen."""
    healthy = governed.healthy_after
    claims = {
        "A did not die without the agent": plain.apart < 0.5,
        "A did not stay up with the agent": governed.apart > max(0.8, plain.apart),
        "A's answers did not come sooner": governed.in_time > plain.in_time,
        "A's p99 did not fall": governed.p99 < plain.p99,
        "C was not spared": governed.calls < plain.calls,
        "A did not recover with the agent": healthy is not None,
        "A recovered no sooner with the agent": healthy is not None
        and (plain.healthy_after is None or healthy < plain.healthy_after),
    }
    return [claim for claim, holds in claims.items() if not holds]


def _row(
    name: str, show: Callable[[_T], str], plain: _T, governed: _T
) -> tuple[str, str, str]:
    return name, show(plain), show(governed)


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _after(seconds: float | None, rest: float) -> str:
    return f"not within {rest:g} s" if seconds is None else f"{seconds:.1f} s"
