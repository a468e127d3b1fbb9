"""Other answers for a request that failed, as far as all clients agree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, final

from resilience_instrument.integrations import _fallback
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resilience_instrument.call import Call
    from resilience_instrument.clock import Clock
    from resilience_instrument.config.model import CacheFallback, FallbackSettings
    from resilience_instrument.events import FallbackKind
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.policies.fallback import Memory
    from resilience_instrument.registry import ServicePolicies
    from resilience_instrument.verdict import Judgement


@final
class Keeper:
    """Keeps the answer to one request, once its body was read.

    It does not hold the response: whoever holds both would keep them alive.

    Args:
        memory: The last good answers of the service.
        key: What the answer is kept under.
        clock: The time at which it is kept.
        settings: How much is kept.
    """

    __slots__ = ("_clock", "_key", "_memory", "_settings")

    def __init__(
        self,
        memory: Memory[_fallback.Answer],
        key: tuple[object, ...],
        clock: Clock,
        settings: CacheFallback,
    ) -> None:
        self._memory = memory
        self._key = key
        self._clock = clock
        self._settings = settings

    def keep(self, answer: _fallback.Answer) -> None:
        """Keep what may be kept of an answer."""
        found = _fallback.kept(answer, self._settings.max_bytes)
        if found is not None:
            now = self._clock.monotonic()
            self._memory.keep(self._key, found, now, self._settings)


class StandIns(ABC):
    """The fallbacks of one request. `Sending` has the facts that it needs."""

    __slots__ = ()

    policies: ServicePolicies
    call: Call
    _clock: Clock
    _method: str
    _request: Any

    def remember(self, outcome: Outcome, settings: FallbackSettings) -> None:
        """Keep the answer to a GET, if its body is read as a whole."""
        cache = settings.cache
        response = outcome.value if isinstance(outcome, Returned) else None
        if cache is None or response is None or self._method != "GET":
            return
        memory, key = self.policies.memory, self._memory_key()
        self._offer(response, Keeper(memory, key, self._clock, cache))

    async def stand_in(
        self,
        kind: FallbackKind,
        settings: FallbackSettings,
        outcome: Outcome,
        *,
        may_be_sent: bool,
    ) -> Outcome | None:
        """Return the answer that `kind` has for a call that ended in `outcome`."""
        if _fallback.STANDING_IN.get():
            return None
        try:
            if kind == "service":
                url = settings.service or ""
                return await self._elsewhere(url, may_be_sent=may_be_sent)
            answer = await self._answer(kind, settings, outcome)
            if answer is None:
                return None
            return Returned(self._response(answer.marked(kind)))
        except Exception as error:
            return Raised(error)

    async def _answer(
        self, kind: FallbackKind, settings: FallbackSettings, outcome: Outcome
    ) -> _fallback.Answer | None:
        """Return what cache, function or configuration has to say."""
        cache, static = settings.cache, settings.static
        if kind == "cache":
            if cache is None or self._method != "GET":
                return None
            now = self._clock.monotonic()
            memory: Memory[_fallback.Answer] = self.policies.memory
            return memory.find(self._memory_key(), now, cache)
        if kind == "call":
            function, failed = settings.call or "", self._failed(outcome)
            return await _fallback.called(function, failed, waits=self._waits)
        if static is None:  # pragma: no cover - it is not asked for then
            return None
        return _fallback.Answer(static.status, static.headers, static.body)

    def _failed(self, outcome: Outcome) -> _fallback.FailedCall:
        response: Any = outcome.value if isinstance(outcome, Returned) else None
        return _fallback.FailedCall(
            self.policies.service,
            self._method,
            self._address(),
            dict(self._asked()),
            None if response is None else self._status(response),
            self._seen(outcome.error) if isinstance(outcome, Raised) else None,
        )

    async def _elsewhere(self, base: str, *, may_be_sent: bool) -> Outcome | None:
        """Send the request to another host, which has policies of its own."""
        if not may_be_sent:
            return None
        url = _fallback.elsewhere(base, self._address())
        token = _fallback.STANDING_IN.set(True)
        try:
            response = await self._send_to(url)
        finally:
            _fallback.STANDING_IN.reset(token)
        if self._judge_answer(response).verdict is not Verdict.SUCCESS:
            await self._close(response)
            raise ConnectionError(f"{base} answered {self._status(response)}")
        self._mark(response)
        return Returned(response)

    def _memory_key(self) -> tuple[object, ...]:
        # What one library takes for a body another may have to decode.
        return (self.call.library, _fallback.key_of(self._address(), self._asked()))

    def _asked(self) -> Iterable[tuple[str, str]]:
        """Return the headers of the request."""
        items: Iterable[tuple[str, str]] = self._request.headers.items()
        return items

    def _status(self, response: Any) -> int:
        status: int = response.status_code
        return status

    def _seen(self, error: Exception) -> Exception:
        """Return an error as the app would see it."""
        return error

    def _mark(self, response: Any) -> None:
        """Let the app see that another host answered."""
        response.headers[_fallback.HEADER] = "service"

    _waits = False
    """Whether the library is an async one."""

    @abstractmethod
    def _address(self) -> str:
        """Return the URL in full."""

    @abstractmethod
    def _judge_answer(self, response: Any) -> Judgement:
        """Read an answer."""

    @abstractmethod
    def _offer(self, response: Any, keeper: Keeper) -> None:
        """Let the answer be kept if its body was read, or when the app reads it."""

    @abstractmethod
    def _response(self, answer: _fallback.Answer) -> Any:
        """Return an answer as a response of the library."""

    @abstractmethod
    async def _send_to(self, url: str) -> Any:
        """Send the request to another URL, as the app would."""

    @abstractmethod
    async def _close(self, response: Any) -> None:
        """Give up a response that nobody gets."""
