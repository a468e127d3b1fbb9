"""Other answers for a request that failed, as far as all clients agree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from resilience_instrument.integrations import _fallback
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.verdict import Verdict

if TYPE_CHECKING:
    from resilience_instrument.clock import Clock
    from resilience_instrument.config.model import FallbackSettings
    from resilience_instrument.events import FallbackKind
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.policies.fallback import Memory
    from resilience_instrument.registry import ServicePolicies
    from resilience_instrument.verdict import Judgement


class StandIns(ABC):
    """The fallbacks of one request. `Sending` has the facts that it needs."""

    __slots__ = ()

    policies: ServicePolicies
    _clock: Clock
    _method: str
    _request: Any

    def remember(self, outcome: Outcome, settings: FallbackSettings) -> None:
        """Keep the answer to a GET whose body was read."""
        cache = settings.cache
        response = outcome.value if isinstance(outcome, Returned) else None
        if cache is None or response is None or self._method != "GET":
            return
        answer = self._answer_of(response)
        if answer is not None:
            answer = _fallback.kept(answer, cache.max_bytes)
        if answer is not None:
            now = self._clock.monotonic()
            self.policies.memory.keep(self._memory_key(), answer, now, cache)

    async def stand_in(
        self,
        kind: FallbackKind,
        settings: FallbackSettings,
        outcome: Outcome,
        *,
        may_be_sent: bool,
    ) -> Outcome | None:
        """Return the answer that `kind` has for a call that ended in `outcome`."""
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
            dict(self._request.headers),
            None if response is None else response.status_code,
            outcome.error if isinstance(outcome, Raised) else None,
        )

    async def _elsewhere(self, base: str, *, may_be_sent: bool) -> Outcome | None:
        """Send the request to another host, which has policies of its own."""
        if not may_be_sent or _fallback.STANDING_IN.get():
            return None
        url = _fallback.elsewhere(base, self._address())
        token = _fallback.STANDING_IN.set(True)
        try:
            response = await self._send_to(url)
        finally:
            _fallback.STANDING_IN.reset(token)
        if self._judge_answer(response).verdict is not Verdict.SUCCESS:
            await self._close(response)
            raise ConnectionError(f"{base} answered {response.status_code}")
        response.headers[_fallback.HEADER] = "service"
        return Returned(response)

    def _memory_key(self) -> tuple[object, ...]:
        return _fallback.key_of(self._address(), self._request.headers.items())

    _waits = False
    """Whether the library is an async one."""

    @abstractmethod
    def _address(self) -> str:
        """Return the URL in full."""

    @abstractmethod
    def _judge_answer(self, response: Any) -> Judgement:
        """Read an answer."""

    @abstractmethod
    def _answer_of(self, response: Any) -> _fallback.Answer | None:
        """Return a response as an answer, None if its body was not read."""

    @abstractmethod
    def _response(self, answer: _fallback.Answer) -> Any:
        """Return an answer as a response of the library."""

    @abstractmethod
    async def _send_to(self, url: str) -> Any:
        """Send the request to another URL, as the app would."""

    @abstractmethod
    async def _close(self, response: Any) -> None:
        """Give up a response that nobody gets."""
