"""What the database rooms share: how a call is described, gated, judged, counted.

The breaker is asked at a connect and at the first statement of a transaction and
nowhere else: what is under way may always end. A statement is sent again only
where the server says that it rolled it back and where it provably was the whole
transaction. Nothing is ever reconnected in place.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, final

from resilience_instrument import errors
from resilience_instrument.call import Call
from resilience_instrument.config import defaults
from resilience_instrument.fastpath import NO_WAY, Begun, Lane
from resilience_instrument.integrations import _dblane, _reads
from resilience_instrument.integrations._endpoint import LIMIT, OTHER
from resilience_instrument.integrations._http import sleep_sync
from resilience_instrument.integrations._room import (
    deliver,
    deliver_as_made,
    govern,
    govern_sync,
    resume_sync,
)
from resilience_instrument.integrations._room import resume as resume_async
from resilience_instrument.integrations._sql import ENDING
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.policies.breaker import Permit
from resilience_instrument.policies.deadline import CURRENT, nearer
from resilience_instrument.policies.timeout import is_evidence
from resilience_instrument.registry import NO_LIMITS
from resilience_instrument.transactions import REPLAYED
from resilience_instrument.verdict import Evidence, Judgement, Phase, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resilience_instrument.call import AttributeValue
    from resilience_instrument.config.model import ServiceSettings, Timeouts
    from resilience_instrument.errors import ResilienceError
    from resilience_instrument.events import Facts, SkipReason
    from resilience_instrument.integrations._dblane import AnyLane, Lanes, Within
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.integrations._sql import Dialect, Statement
    from resilience_instrument.observe import Would
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.registry import ServicePolicies

CONNECT: Final = "CONNECT"
"""The endpoint of a connect."""

SUCCESS: Final = Judgement(Verdict.SUCCESS, Evidence.SUCCESS)

SERVER_LIMIT: Final = "RESILIENCE_DATABASE_SERVER_LIMIT"
"""`1` where servers are asked to limit statements too."""

LINKS: Final = 1024
"""Databases that are remembered for each library."""


class Driver(Protocol):
    """What a room knows of its library."""

    library: str
    scheme: str
    dialect: Dialect
    default_port: int
    rolled_back: frozenset[str]
    """Codes by which the server says that it undid the statement."""
    once: frozenset[str]
    """Those among them after which one more try is enough."""

    @property
    def refusals(self) -> Mapping[type[ResilienceError], Callable[..., Exception]]:
        """Each error of ours as one that is also the library's."""
        ...

    def code(self, error: Exception) -> str:
        """Return the SQLSTATE or the number of an error, "" if it has none."""
        ...

    def judge_connect(self, error: Exception) -> Judgement:
        """Read why a connect failed."""
        ...

    def judge_statement(self, error: Exception, code: str) -> Judgement:
        """Read why a statement failed, lateness and roll-backs apart."""
        ...


@final
class Link:
    """One database of one server, as one library reaches it.

    Args:
        runtime: What the agent gave to the room.
        driver: What the room knows of its library.
        address: The host, the first one of several.
        port: The port.
        database: The name of the database.
        service: The label, None for one made of the three above.
        lanes: Where the lanes of the library's links are kept.
    """

    __slots__ = (
        "_base",
        "_endpoints",
        "_plain",
        "_settings",
        "_where",
        "acts",
        "address",
        "database",
        "driver",
        "known",
        "lanes",
        "limit",
        "monotonic",
        "port",
        "runtime",
        "server_limit",
        "service",
        "system",
        "timeouts",
    )

    def __init__(  # noqa: PLR0913 - what a link is, all of it
        self,
        runtime: Runtime,
        driver: Driver,
        *,
        address: str,
        port: int,
        database: str,
        service: str | None,
        lanes: dict[Link, Lanes],
    ) -> None:
        self.runtime = runtime
        self.monotonic = runtime.clock.monotonic
        self.lanes = lanes
        self.known: Lanes | None = None
        """Those of this link, as long as they are kept there."""
        self.driver = driver
        self.address = address
        self.port = port
        self.database = database
        self.system = driver.dialect.name
        # Until a server refuses it.
        self.server_limit = os.environ.get(SERVER_LIMIT) == "1"
        self._where = service or _service(driver, address, port, database)
        self._base: ServiceSettings | None = None
        self._endpoints: set[str] = set()
        self._plain: dict[tuple[str, bool], Call] = {}
        self.policies  # noqa: B018 - finds the settings

    @property
    def policies(self) -> ServicePolicies:
        """What governs the service, with a database's timeouts as defaults."""
        registry = self.runtime.registry
        if registry.settings is not self._base:
            self._base = registry.settings
            self._settings = database_settings(self._base)
        policies = registry.policies(
            self._where, settings=self._settings, library=self.driver.library
        )
        self.service = policies.service
        # All limits come from here: where nothing may be done there are none.
        self.acts = policies.settings.enabled and policies.settings.mode == "enforce"
        self.timeouts = policies.settings.timeout if self.acts else NO_LIMITS
        self.limit = self.timeouts.read
        return policies

    def end(self, limit: float | None) -> float | None:
        """Return the monotonic time that is `limit` seconds away, or the app's end."""
        end = None if limit is None else self.runtime.clock.monotonic() + limit
        return nearer(end, CURRENT.get())

    def endpoint(self, summary: str) -> str:
        """Return the endpoint label of a statement; there are at most 200."""
        if summary not in self._endpoints:
            if len(self._endpoints) >= LIMIT:
                return OTHER
            self._endpoints.add(summary)
        return summary

    def call(
        self, summary: str, *, unbounded: bool, deadline: float | None = None
    ) -> Call:
        """Describe a call that goes through the engine."""
        endpoint = self.endpoint(summary)
        return Call(
            library=self.driver.library,
            service=self.service,
            endpoint=endpoint,
            operation=endpoint,
            repeatable=False,
            unbounded=unbounded,
            deadline=deadline,
            brief=True,
            attributes=lambda: self.attributes(summary),
        )

    def plain(self, summary: str, *, unbounded: bool) -> Call:
        """Describe a call that is only counted; one object serves all of a kind.

        A call that is traced has a span of its own and so an object of its own.
        """
        if "opentelemetry.trace" in sys.modules:
            return self.call(summary, unbounded=unbounded)
        found = self._plain.get((summary, unbounded))
        if found is None:
            found = self.call(summary, unbounded=unbounded)
            if len(self._plain) < 2 * LIMIT:
                self._plain[summary, unbounded] = found
        return found

    def attributes(self, summary: str) -> dict[str, AttributeValue]:
        """Return a span's attributes by the database semantic conventions."""
        attributes: dict[str, AttributeValue] = {
            "db.system.name": self.system,
            "db.namespace": self.database,
            "db.query.summary": summary,
        }
        if self.address:
            attributes["server.address"] = self.address
        if self.port != self.driver.default_port:
            attributes["server.port"] = self.port
        return attributes

    def facts(self, summary: str) -> Facts:
        """Return what spans say of a statement, which `call` says otherwise."""
        return self.endpoint(summary), self.attributes(summary)

    def refusal(self, error: ResilienceError) -> Exception:
        """Return an error of ours as one that is also the library's."""
        return self.driver.refusals[type(error)](
            str(error),
            service=error.service,
            retry_after=error.retry_after,
            last_error=error.last_error,
        )


@final
class Links:
    """The links of one library, so that connections to one database share one.

    Args:
        runtime: What the agent gave to the room.
        driver: What the room knows of its library.
    """

    __slots__ = ("_known", "_lanes", "driver", "runtime")

    def __init__(self, runtime: Runtime, driver: Driver) -> None:
        self.runtime = runtime
        self.driver = driver
        self._lanes: dict[Link, Lanes] = runtime.registry.cache(_dblane.Kept())
        self._known: dict[tuple[str, int, str], Link] = {}

    def find(
        self, address: str, port: int, database: str, service: str | None = None
    ) -> Link:
        """Return the link to a database, made when it is first asked for."""
        key = (address, port, database)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= LINKS:
                self._known.clear()
                self._lanes.clear()
            found = self._known[key] = Link(
                self.runtime,
                self.driver,
                address=address,
                port=port,
                database=database,
                service=service,
                lanes=self._lanes,
            )
        return found


def _service(driver: Driver, address: str, port: int, database: str) -> str:
    host = f"[{address}]" if ":" in address else address
    shown = f":{port}" if port != driver.default_port else ""
    return f"{driver.scheme}://{host}{shown}/{database}"


def database_settings(settings: ServiceSettings) -> ServiceSettings:
    """Return settings with a database's timeouts where they are those of HTTP."""
    given = settings.timeout
    connect, read, pool = given.connect, given.read, given.pool
    timeout = dataclasses.replace(
        given,
        connect=defaults.DATABASE_CONNECT if connect == defaults.CONNECT else connect,
        read=defaults.DATABASE_STATEMENT if read == defaults.READ else read,
        pool=defaults.DATABASE_POOL if pool == defaults.POOL else pool,
    )
    return dataclasses.replace(settings, timeout=timeout)


# -- errors ---------------------------------------------------------------------


def own_errors(
    module: str, base: type[Exception], number: int | None = None
) -> dict[type[ResilienceError], type[Exception]]:
    """Make classes of ours that are also the library's own error class.

    Args:
        module: The room, whose names the classes become, so that they pickle.
        base: The library's class, as a rule `OperationalError`.
        number: The first argument of the library's errors, where they have one:
            what handles them looks there.
    """
    kinds = (errors.CircuitBreakerOpenError, errors.DeadlineExceededError)
    made: dict[type[ResilienceError], type[Exception]] = {}
    for kind in kinds:
        own = kind if number is None else type(kind.__name__, (_Numbered, kind), {})
        facts = {
            "__module__": module,
            "__doc__": kind.__doc__,
            # psycopg2's own would forget what it does not know.
            "__setstate__": _remember,
            "errno": number,
        }
        made[kind] = type(kind.__name__, (own, base), facts)
        setattr(sys.modules[module], kind.__name__, made[kind])
    return made


def _remember(error: Exception, state: dict[str, Any]) -> None:
    vars(error).update(state)


class _Numbered(errors.ResilienceError):
    """An error whose arguments are a number and a message."""

    errno: int

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        # Again: a library's own constructor may have set another number.
        self.errno = type(self).errno
        self.args = (self.errno, message)
        self.msg = message

    def __str__(self) -> str:
        return str(self.args[-1])


def answered(code: str) -> Judgement:
    """Read an error that the server answered with: it is alive."""
    return Judgement(Verdict.PERMANENT, Evidence.SUCCESS, reason=code)


def troubled(reason: str, *, sent: bool = True) -> Judgement:
    """Read a failure of the server or of the way to it."""
    return Judgement(Verdict.TRANSIENT, Evidence.FAILURE, sent=sent, reason=reason)


def unreachable(error: Exception) -> Judgement:
    """Read a failure that will be the same at the next try."""
    reason = type(error).__name__
    return Judgement(Verdict.PERMANENT, Evidence.FAILURE, reason=reason)


def local(error: Exception) -> Judgement:
    """Read an error that never left the process: the app's own."""
    reason = type(error).__name__
    return Judgement(Verdict.PERMANENT, Evidence.NEUTRAL, reason=reason)


def late(
    error: Exception, phase: Phase, waited: float, timeouts: Timeouts, *, sent: bool
) -> Judgement:
    """Read a timeout in `phase` after `waited` seconds, and say so in the error.

    The driver's own words for it are those of a cancel or of a lost connection.
    """
    error.add_note(f"resilience: it was ended after {waited:.1f} s, its limit")
    evident = is_evidence(phase, waited, timeouts)
    return Judgement(
        Verdict.TRANSIENT,
        Evidence.FAILURE if evident else Evidence.NEUTRAL,
        sent=sent,
        timeout=phase,
        reason=type(error).__name__,
    )


class Sending:
    """A call of a library's function, the base of what rooms send.

    Args:
        perform: The function.
        args: Its arguments by position.
        kwargs: Its arguments by name.
        whole: The statement's text where it might be sent again, None where it
            must not.
    """

    __slots__ = ("args", "kwargs", "late", "perform", "whole")

    def __init__(
        self,
        perform: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        whole: str | bytes | None = None,
    ) -> None:
        self.perform = perform
        self.args = args
        self.kwargs = kwargs
        self.whole = whole
        self.late = False

    def text(self) -> str | None:
        """Return the statement's text where it might be sent again."""
        text = self.whole
        return text.decode("latin-1") if isinstance(text, bytes) else text

    def is_single(self, dialect: Dialect) -> bool:
        """Tell whether the text that might be sent again is one statement."""
        text = self.text()
        return text is not None and dialect.is_single(text)

    def is_whole(self) -> bool:
        """Tell that nothing is known that would allow a second try."""
        return False

    def restart(self) -> Any:
        """Need nothing."""


class Watching(Sending):
    """A statement that the watchdog ends when its time is over.

    A room says by `strike` how, and by `settle` what has to be done afterwards.
    """

    __slots__ = ("connection", "end", "strikes")

    connection: Any
    end: float

    def __call__(self, deadline: float | None) -> Any:
        """Send it once."""
        self.late = False
        if deadline is None:
            return self.perform(*self.args, **self.kwargs)
        watchdog = self.connection._resilience_watchdog  # noqa: SLF001 - ours
        self.end, self.strikes = deadline, 0
        # As `arm` and `disarm`, which would be calls for every statement.
        armed, key = watchdog.armed, id(self)
        armed[key] = self
        if not watchdog.running:
            watchdog.start()
        try:
            return self.perform(*self.args, **self.kwargs)
        finally:
            if armed.pop(key, None) is None or self.strikes:
                self.late = watchdog.disarm(self)
                self.settle()

    def settle(self) -> None:
        """Need nothing."""


# -- through the engine: connects and first statements ----------------------------


class Attempt(Protocol):
    """One try of a call: makes it, and knows afterwards how it went."""

    late: bool
    """Whether its time was over, so that it was ended."""

    def __call__(self, deadline: float | None) -> Any:
        """Make the try, over by the monotonic time `deadline`."""
        ...

    def is_whole(self) -> bool:
        """Tell whether the statement was provably the whole transaction."""
        ...

    def restart(self) -> Any:
        """Roll back, so that the next try begins the transaction anew."""
        ...


class _Io:
    """What connects and statements have in common on their way through the engine."""

    __slots__ = ("_attempt", "_begun", "_link", "call", "last")

    would: Would | None = None
    """No cut is predicted: what a statement waited for is not known."""

    def __init__(self, link: Link, call: Call, attempt: Attempt) -> None:
        self._link = link
        self._attempt = attempt
        self._begun = 0.0
        self.call = call
        self.last: Outcome | None = None

    async def attempt(self, number: int, deadline: float | None) -> Outcome:
        """Make the try."""
        self._begin(number)
        try:
            self.last = Returned(self._attempt(deadline))
        except Exception as error:
            self.last = Raised(error)
        return self.last

    def _begin(self, number: int) -> None:  # noqa: ARG002 - for those who count
        self._begun = self._link.runtime.clock.monotonic()

    def _late(self, error: Exception, phase: Phase, *, sent: bool) -> Judgement:
        waited = self._link.runtime.clock.monotonic() - self._begun
        return late(error, phase, waited, self._link.timeouts, sent=sent)

    def reject(self, error: ResilienceError) -> Exception:
        """Return `error` as one of the library."""
        return self._link.refusal(error)

    async def discard(self, outcome: Outcome) -> None:  # noqa: ARG002
        """Forget a failure that will be tried again."""
        self.last = None

    async def sleep(self, seconds: float) -> None:
        """Wait, as a thread waits."""
        sleep_sync(seconds)

    async def untouched(self) -> Outcome:
        """Make the try as if the agent were not there."""
        try:
            return Returned(self._attempt(None))
        except Exception as error:
            return Raised(error)


class ConnectIo(_Io):
    """A connect on its way through the engine."""

    __slots__ = ()

    def judge(self, outcome: Outcome) -> Judgement:
        """Read what the last try came to."""
        if not isinstance(outcome, Raised):
            return SUCCESS
        driver, error = self._link.driver, outcome.error
        if self._attempt.late:
            read = self._late(error, Phase.CONNECT, sent=False)
        else:
            read = driver.judge_connect(error)
        return read.revised(code=driver.code(error))


class StatementIo(_Io):
    """A statement that begins a transaction, on its way through the engine."""

    __slots__ = ("_number",)

    def _begin(self, number: int) -> None:
        super()._begin(number)
        self._number = number

    def take_over(self, begun: Begun) -> None:
        """Stand where the first try has been made already."""
        self._begun = begun.started
        self._number = 1
        if isinstance(begun.made, Raised):
            self.last = begun.made

    def judge(self, outcome: Outcome) -> Judgement:
        """Read what the last try came to."""
        if not isinstance(outcome, Raised):
            return SUCCESS
        code = self._link.driver.code(outcome.error)
        return self._read(outcome.error, code).revised(code=code)

    def _read(self, error: Exception, code: str) -> Judgement:
        driver = self._link.driver
        if self._attempt.late:
            return self._late(error, Phase.READ, sent=True)
        if code not in driver.rolled_back:
            return self._unless_read(driver.judge_statement(error, code), code)
        if REPLAYED.get() or not self._attempt.is_whole():
            # Either something went before it, or the app replays all of it.
            return self._skip("transaction", code)
        if self._number > 1 and code in driver.once:
            return self._skip("attempts", code)
        # The server undid it: it had no effect, as if it had never been sent.
        return Judgement(Verdict.TRANSIENT, Evidence.SUCCESS, sent=False, reason=code)

    def _unless_read(self, judgement: Judgement, code: str) -> Judgement:
        """Let a statement that only read be as one that was never sent, by opt-in."""
        attempt = self._attempt
        text = attempt.text() if isinstance(attempt, Sending) else None
        if not _reads.may_repeat(text, code, self._link.driver.dialect):
            return judgement
        return troubled(code, sent=REPLAYED.get() or not self._attempt.is_whole())

    def _skip(self, reason: SkipReason, code: str) -> Judgement:
        self._link.runtime.observer.retry_skipped(self.call, reason)
        return answered(code)

    async def discard(self, outcome: Outcome) -> None:
        """Begin the transaction anew."""
        await super().discard(outcome)
        self._attempt.restart()


_Statement = TypeVar("_Statement", bound=StatementIo)


def connect(link: Link, attempt: Attempt, *, unbounded: bool, limit: Any) -> Any:
    """Connect: through the engine, within `limit` seconds for all tries of it."""
    try:
        call = link.call(CONNECT, unbounded=unbounded, deadline=link.end(limit))
        policies = link.policies
    except Exception as fault:
        link.runtime.fault("describe", fault)
        return attempt(None)
    return govern_sync(link.runtime, call, policies, ConnectIo(link, call, attempt))


def send(
    link: Link, attempt: Attempt, statement: Statement, *, first: bool, own: bool
) -> Any:
    """Send a statement: through the engine if it begins a transaction.

    Args:
        link: Where it goes.
        attempt: Sends it.
        statement: What it is.
        first: Whether no transaction is under way.
        own: Whether the app limits its statements itself.
    """
    try:
        call, policies, end = _planned(link, statement, first=first, own=own)
    except Exception as fault:
        link.runtime.fault("describe", fault)
        return attempt(None)
    if policies is None:
        return counted(link, call, attempt, end)
    io = StatementIo(link, call, attempt)
    result = govern_sync(link.runtime, call, policies, io)
    _keep(link, call, policies)
    return result


def _planned(
    link: Link, statement: Statement, *, first: bool, own: bool
) -> tuple[Call, ServicePolicies | None, float | None]:
    """Return the call of a statement, its policies if it has any, and its end."""
    end = link.end(None if own or statement.unlimited else link.limit)
    if not first or statement.verb in ENDING:
        return link.plain(statement.summary, unbounded=not own), None, end
    call = link.call(statement.summary, unbounded=not own, deadline=end)
    return call, link.policies, end


def _keep(link: Link, call: Call, policies: ServicePolicies) -> None:
    """Keep a lane for further statements like one that succeeded."""
    try:
        _dblane.keep(link, call, policies)
    except Exception as fault:
        link.runtime.fault("describe", fault)


# -- from the short way on ---------------------------------------------------------


def hasten(
    link: Link, lane: AnyLane, attempt: Attempt, text: str | bytes, *, own: bool
) -> Any:
    """Send a statement on the short way.

    Args:
        link: Where it goes.
        lane: What `_dblane.find` returned.
        attempt: Sends it.
        text: The statement.
        own: Whether the app limits its statements itself.
    """
    limit = None if own else link.limit
    generation = NO_WAY
    try:
        started = link.monotonic()
        generation = lane.enter(started)
    except Exception:  # noqa: S110 - the long way meets it again, and tells
        pass
    if generation == NO_WAY:
        statement, first = link.driver.dialect.read(text), lane.asks
        return send(link, attempt, statement, first=first, own=own)
    try:
        result = attempt(None if limit is None else started + limit)
    except BaseException as error:
        begun = Begun(generation, started, error)
    else:
        try:
            lane.succeed(generation, started, link.monotonic())
        except Exception as fault:
            link.runtime.fault("engine", fault)
        return result
    return go_on(link, lane, begun, attempt, limit)


def go_on(
    link: Link, lane: AnyLane, begun: Begun, attempt: Attempt, limit: float | None
) -> Any:
    """Go on with a statement that was sent on the short way and did not succeed.

    Args:
        link: Where it went.
        lane: On which way.
        begun: What was raised.
        attempt: Knows how it went, and sends it again if that may be.
        limit: The seconds that it had, None for no limit.
    """
    made = begun.made
    if isinstance(made, Exception):
        begun.made = Raised(made)
    # The error's traceback holds this frame; the frame must not hold the error.
    del made
    end = None if limit is None else begun.started + limit
    lane = lane.withdraw(begun)
    if not isinstance(lane, Lane):
        tell(link, lane, begun, attempt)
        return deliver_as_made(begun)
    io = _in_full(StatementIo, link, lane, begun, attempt, end)
    return resume_sync(link.runtime, lane, io.call, io, begun)


def _in_full(  # noqa: PLR0913, PLR0917 - all that was at hand
    kind: type[_Statement],
    link: Link,
    lane: Lane,
    begun: Begun,
    attempt: Attempt,
    end: float | None,
) -> _Statement:
    """Return what tells a call in full that came off the short way."""
    short = lane.call
    call = link.call(short.endpoint, unbounded=short.unbounded, deadline=end)
    io = kind(link, call, attempt)
    io.take_over(begun)
    return io


def tell(link: Link, lane: Within, begun: Begun, attempt: Attempt) -> None:
    """Tell of a statement that nothing may refuse and that did not succeed."""
    call = link.plain(lane.call.endpoint, unbounded=lane.call.unbounded)
    begun.hand_over(call)
    if not _started(link.runtime, call):
        return
    if isinstance(begun.made, Raised):
        _failed(link, call, attempt, begun.made.error, begun.started)
    else:
        _cancelled(link.runtime, call, begun.started)


# -- where it has to be awaited ------------------------------------------------------


class _Async(_Io):
    """The same for a try that has to be awaited."""

    __slots__ = ()

    async def attempt(self, number: int, deadline: float | None) -> Outcome:
        """Make the try."""
        self._begin(number)
        try:
            self.last = Returned(await self._attempt(deadline))
        except Exception as error:
            self.last = Raised(error)
        return self.last

    async def sleep(self, seconds: float) -> None:
        """Wait, as a task waits."""
        await asyncio.sleep(seconds)

    async def untouched(self) -> Outcome:
        """Make the try as if the agent were not there."""
        try:
            return Returned(await self._attempt(None))
        except Exception as error:
            return Raised(error)


class AsyncConnectIo(_Async, ConnectIo):
    """A connect that has to be awaited."""

    __slots__ = ()


class AsyncStatementIo(_Async, StatementIo):
    """A statement that begins a transaction and has to be awaited."""

    __slots__ = ()

    async def discard(self, outcome: Outcome) -> None:  # noqa: ARG002
        """Begin the transaction anew."""
        self.last = None
        await self._attempt.restart()


async def connect_async(
    link: Link, attempt: Attempt, *, unbounded: bool, limit: Any
) -> Any:
    """Connect as `connect` does, awaiting."""
    try:
        call = link.call(CONNECT, unbounded=unbounded, deadline=link.end(limit))
        policies = link.policies
    except Exception as fault:
        link.runtime.fault("describe", fault)
        return await attempt(None)
    io = AsyncConnectIo(link, call, attempt)
    return deliver(await govern(link.runtime, call, policies, io))


async def send_async(
    link: Link, attempt: Attempt, statement: Statement, *, first: bool, own: bool
) -> Any:
    """Send a statement as `send` does, awaiting."""
    try:
        call, policies, end = _planned(link, statement, first=first, own=own)
    except Exception as fault:
        link.runtime.fault("describe", fault)
        return await attempt(None)
    if policies is None:
        return await counted_async(link, call, attempt, end)
    io = AsyncStatementIo(link, call, attempt)
    result = deliver(await govern(link.runtime, call, policies, io))
    _keep(link, call, policies)
    return result


async def hasten_async(
    link: Link, lane: AnyLane, attempt: Attempt, text: str | bytes, *, own: bool
) -> Any:
    """Send a statement as `hasten` does, awaiting."""
    limit = None if own else link.limit
    generation = NO_WAY
    try:
        started = link.monotonic()
        generation = lane.enter(started)
    except Exception:  # noqa: S110 - the long way meets it again, and tells
        pass
    if generation == NO_WAY:
        statement, first = link.driver.dialect.read(text), lane.asks
        return await send_async(link, attempt, statement, first=first, own=own)
    end = None if limit is None else started + limit
    made: Outcome | BaseException
    try:
        result = await attempt(end)
    except Exception as error:
        made = Raised(error)
    except BaseException as error:
        made = error
    else:
        try:
            lane.succeed(generation, started, link.monotonic())
        except Exception as fault:
            link.runtime.fault("engine", fault)
        return result
    begun = Begun(generation, started, made)
    del made
    lane = lane.withdraw(begun)
    if not isinstance(lane, Lane):
        tell(link, lane, begun, attempt)
        return deliver_as_made(begun)
    io = _in_full(AsyncStatementIo, link, lane, begun, attempt, end)
    return deliver(await resume_async(link.runtime, lane, io.call, io, begun))


# -- around the engine: whatever must not be held up ------------------------------


def counted(link: Link, call: Call, attempt: Attempt, end: float | None) -> Any:
    """Make a call that nothing may refuse: measure it, and do no more."""
    runtime = link.runtime
    if not _started(runtime, call):
        return attempt(end)
    begun = runtime.clock.monotonic()
    try:
        result = attempt(end)
    except Exception as error:
        _failed(link, call, attempt, error, begun)
        raise
    except BaseException:
        _cancelled(runtime, call, begun)
        raise
    _succeeded(link, call, begun)
    return result


async def counted_async(
    link: Link, call: Call, attempt: Attempt, end: float | None
) -> Any:
    """Make a call as `counted` does, awaiting."""
    runtime = link.runtime
    if not _started(runtime, call):
        return await attempt(end)
    begun = runtime.clock.monotonic()
    try:
        result = await attempt(end)
    except Exception as error:
        _failed(link, call, attempt, error, begun)
        raise
    except BaseException:
        _cancelled(runtime, call, begun)
        raise
    _succeeded(link, call, begun)
    return result


def _started(runtime: Runtime, call: Call) -> bool:
    try:
        runtime.begin()
        runtime.observer.call_started(call)
        runtime.observer.attempt_started(call, 1)
    except Exception as fault:
        runtime.fault("engine", fault)
        return False
    return True


def _succeeded(link: Link, call: Call, begun: float) -> None:
    runtime = link.runtime
    try:
        seconds = runtime.clock.monotonic() - begun
        runtime.observer.attempt_ended(call, 1, SUCCESS, seconds)
        runtime.observer.call_ended(call, "success", 1, seconds)
        _dblane.keep(link, call, None)
    except Exception as fault:
        runtime.fault("engine", fault)


def _cancelled(runtime: Runtime, call: Call, begun: float) -> None:
    try:
        seconds = runtime.clock.monotonic() - begun
        runtime.observer.attempt_cancelled(call, 1)
        runtime.observer.call_ended(call, "cancelled", 1, seconds)
    except Exception as fault:
        runtime.fault("engine", fault)


def _failed(
    link: Link, call: Call, attempt: Attempt, error: Exception, begun: float
) -> None:
    runtime = link.runtime
    observer = runtime.observer
    try:
        now = runtime.clock.monotonic()
        read = _judge_within(link, attempt, error, now - begun)
        judgement = read.revised(code=link.driver.code(error))
        observer.attempt_ended(call, 1, judgement, now - begun)
        if judgement.verdict is Verdict.TRANSIENT:
            # What went before it in the transaction cannot be repeated here.
            observer.retry_skipped(call, "transaction")
        _bear_witness(link, call, judgement, now)
        observer.call_ended(call, judgement.outcome, 1, now - begun)
    except Exception as fault:
        runtime.fault("engine", fault)


def _judge_within(
    link: Link, attempt: Attempt, error: Exception, waited: float
) -> Judgement:
    """Read the failure of a statement inside a transaction."""
    if attempt.late:
        return late(error, Phase.READ, waited, link.timeouts, sent=True)
    code = link.driver.code(error)
    if code in link.driver.rolled_back:
        return Judgement(Verdict.TRANSIENT, Evidence.SUCCESS, reason=code)
    return link.driver.judge_statement(error, code)


def _bear_witness(link: Link, call: Call, judgement: Judgement, now: float) -> None:
    """Let a failure count for a closed breaker, which was not asked before."""
    breaker = link.policies.breaker
    if not link.acts:
        return
    if judgement.evidence is Evidence.FAILURE and breaker.state(now) == "closed":
        permit, _ = breaker.acquire(now)
        if isinstance(permit, Permit):
            transition = breaker.record(
                permit, judgement.evidence, now, judgement.reason
            )
            if transition is not None:
                link.runtime.observer.transitioned(call, transition)
