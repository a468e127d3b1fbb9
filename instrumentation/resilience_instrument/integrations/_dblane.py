"""The short way of a statement of which there is nothing to tell: it succeeds at once.

What a statement needs on its way is found by its text, in dictionaries that are bounded
and emptied when anything changes: another configuration, a fork. Whatever else happens,
and whatever is not known here, is told in full by `_dbapi`.
"""

from __future__ import annotations

from sys import modules
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, final

from resilience_instrument.events import numbers_of
from resilience_instrument.fastpath import Lane
from resilience_instrument.integrations._room import remember
from resilience_instrument.integrations._sql import ENDING, READ, REPEATABLE
from resilience_instrument.integrations._traced import Traced, traced
from resilience_instrument.policies.deadline import CURRENT
from resilience_instrument.signals.plain import QUICK

if TYPE_CHECKING:
    from resilience_instrument.call import Call
    from resilience_instrument.events import Tally, Track, Trail
    from resilience_instrument.fastpath import Begun
    from resilience_instrument.integrations._dbapi import Link
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.integrations._sql import Statement
    from resilience_instrument.registry import ServicePolicies

# Asked for as an attribute, a method of an object in C is made anew each time.
_deadline: Final = CURRENT.get

TEXTS: Final = 512
"""Texts whose lanes are found without reading them, for each database and kind."""


T = TypeVar("T")


@final
class Within:
    """A lane of statements that nothing may refuse: they are counted, no more.

    Args:
        call: One of them, for its labels.
        tally: Counts them.
    """

    __slots__ = ("_block", "call", "tally", "trail")

    asks = False

    def __init__(self, call: Call, tally: Tally) -> None:
        self._block = numbers_of(tally)
        self.call = call
        self.tally = tally
        self.trail: Trail | None = None

    def enter(self, now: float) -> int:  # noqa: ARG002 - the shape of a lane
        """Begin a statement; there is nobody to ask."""
        block = self._block
        if block is None:
            self.tally.begin()
        else:
            block.whole[block.first] += 1
        return 0

    def succeed(
        self,
        generation: int,  # noqa: ARG002 - likewise
        begun: float,
        now: float,
        status: int | None = None,  # noqa: ARG002 - likewise
        track: Track | None = None,  # noqa: ARG002 - likewise
    ) -> None:
        """End a statement that succeeded."""
        block, seconds = self._block, now - begun
        if block is None or seconds > QUICK:
            self.tally.succeed(seconds)
        else:
            # At once, as all of it may be laid elsewhere while another thread runs.
            ended, spent, first = block.ended, block.spent, block.first
            ended[first] += 1
            spent[first] += seconds

    def withdraw(self, begun: Begun) -> Within:  # noqa: ARG002 - likewise
        """Take a statement off the short way."""
        self.tally.withdraw()
        return self


AnyLane: TypeAlias = Lane | Within | Traced


@final
class Lanes:
    """The lanes of the statements to one database.

    Args:
        link: The database.

    `firsts` has those that begin a transaction, `others` all others by their texts,
    `ends` those that end one by their names, each in two dictionaries: of statements
    with and without a limit of the app's own.
    """

    __slots__ = ("_firsts", "_link", "_others", "ends", "firsts", "others")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._firsts: dict[tuple[str, bool], Lane] = {}
        self._others: dict[tuple[str, bool], Within] = {}
        self.firsts: tuple[dict[Any, Lane], dict[Any, Lane]] = ({}, {})
        self.others: tuple[dict[Any, Within], dict[Any, Within]] = ({}, {})
        self.ends: tuple[dict[str, Within], dict[str, Within]] = ({}, {})

    def first(self, text: str | bytes, *, unbounded: bool) -> Lane | None:
        """Return the lane of a text that begins a transaction, if its like was sent.

        It is found by the text alone from then on.

        Args:
            text: The statement.
            unbounded: Whether the app sets it no limit of its own.
        """
        found = self._find(self._firsts, text, unbounded=unbounded)
        _note(self.firsts[unbounded], text, found)
        return found

    def other(self, text: str | bytes, *, unbounded: bool) -> Within | None:
        """Return the lane of a text that begins no transaction, likewise."""
        found = self._find(self._others, text, unbounded=unbounded)
        _note(self.others[unbounded], text, found)
        return found

    def named(self, summary: str, *, unbounded: bool) -> Within | None:
        """Return the lane of statements of a name that begin no transaction."""
        return self._others.get((self._link.endpoint(summary), unbounded))

    def _find(
        self, known: dict[tuple[str, bool], T], text: str | bytes, *, unbounded: bool
    ) -> T | None:
        statement = self._link.driver.dialect.read(text)
        if not is_plain(statement):
            return None
        return known.get((self._link.endpoint(statement.summary), unbounded))

    def keep(self, call: Call, policies: ServicePolicies | None) -> None:
        """Keep a lane for statements like one that was told in full, if it can be.

        Args:
            call: That one.
            policies: Who was asked, None if nobody was.
        """
        key = (call.endpoint, call.unbounded)
        runtime = self._link.runtime
        if policies is None:
            if key not in self._others:
                tally = _tally(runtime, call)
                if tally is not None:
                    self._others[key] = Within(call, tally)
        elif key not in self._firsts:
            lane = remember(runtime, call, policies)
            # Making it may have made room for others.
            if lane is not None and runtime.registry.keeps(policies):
                self._firsts[key] = lane


def _note(texts: dict[Any, T], text: str | bytes, found: T | None) -> None:
    if found is not None and len(text) <= READ:
        if len(texts) >= TEXTS:
            texts.clear()
        texts[text] = found


def _tally(runtime: Runtime, call: Call) -> Tally | None:
    make: Any = getattr(runtime.observer, "tally", None)
    return None if make is None else make(call)


def is_plain(statement: Statement) -> bool:
    """Tell whether a statement changes nothing about how others are sent."""
    return statement.verb in REPEATABLE and not (
        statement.unlimited or statement.sets_limit
    )


def keep(link: Link, call: Call, policies: ServicePolicies | None) -> None:
    """Keep a lane for statements to `link`, as `Lanes.keep` does."""
    if not link.runtime.fast:
        return
    lanes = link.lanes.get(link)
    if lanes is None:
        lanes = link.lanes[link] = Lanes(link)
    lanes.keep(call, policies)
    _make_known(link, lanes)


def _make_known(link: Link, lanes: Lanes) -> None:
    """Let lanes be found by their link alone, as long as they are kept."""
    link.known = lanes
    # Looked at afterwards: `Kept` forgets in the other order, so one of both notices.
    if link.lanes.get(link) is not lanes:
        link.known = None


@final
class Kept(dict["Link", Lanes]):
    """The lanes of the links of one library, which forget them as they are emptied."""

    def clear(self) -> None:
        """Forget all of them."""
        links = list(self)
        super().clear()
        for link in links:
            link.known = None


def named(link: Link, summary: str, *, unbounded: bool) -> Within | None:
    """Return the lane of statements of a name, if their like was sent to `link`."""
    lanes = link.lanes.get(link)
    return None if lanes is None else lanes.named(summary, unbounded=unbounded)


def find(link: Link, text: Any, *, first: bool, own: bool) -> AnyLane | None:
    """Return the lane of a statement, None where it has to be told in full.

    Args:
        link: Where it goes.
        text: The statement, whatever the app took for one.
        first: Whether it begins a transaction.
        own: Whether the app limits its statements itself.
    """
    kind = type(text)
    if (
        (kind is not str and kind is not bytes)
        # A text of 10 MB must not even be hashed.
        or len(text) > READ
        or CURRENT.get() is not None
    ):
        return None
    lanes = link.lanes.get(link)
    if lanes is None:
        return None
    if link.known is not lanes:
        _make_known(link, lanes)
    unbounded = not own
    lane: AnyLane | None
    if first:
        lane = lanes.firsts[unbounded].get(text)
        lane = lane or lanes.first(text, unbounded=unbounded)
    else:
        lane = lanes.others[unbounded].get(text)
        lane = lane or lanes.other(text, unbounded=unbounded)
    if "opentelemetry.context" in modules:
        return recorded(link, lane, link.driver.dialect.read(text).summary)
    return lane


def ending(link: Link, statement: Statement, *, own: bool) -> AnyLane | None:
    """Return the lane of what ends a transaction, None for others, and likewise."""
    if statement.verb not in ENDING or CURRENT.get() is not None:
        return None
    lane = named(link, statement.summary, unbounded=not own)
    if lane is not None and statement.summary == statement.verb:
        # What is more than its verb may have many names.
        link.lanes[link].ends[not own][statement.verb] = lane
    return recorded(link, lane, statement.summary)


def ended(link: Link, kind: int, command: str) -> Within | None:
    """Return the lane of a command that ends a transaction, if it is known by that.

    Args:
        link: Where it goes.
        kind: 0 where the app limits its statements itself, else 1.
        command: Its verb and no more.
    """
    known = link.known
    if known is None or "opentelemetry.context" in modules or _deadline() is not None:
        return None
    return known.ends[kind].get(command)


def recorded(link: Link, lane: AnyLane | None, summary: str) -> AnyLane | None:
    """Return what stands for a lane during one statement, as `traced` does."""
    if lane is None or "opentelemetry.context" not in modules:
        return lane
    found: AnyLane | None = traced(link.runtime.observer, lane, link.facts, (summary,))
    return found
