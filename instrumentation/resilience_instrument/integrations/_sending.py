"""One request on its way through an HTTP client, as far as all clients agree.

A room derives its `Io` from `Sending` and adds how its library sends, which
timeouts the app gave, and what the library's errors mean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final, final

from resilience_instrument.call import Call
from resilience_instrument.integrations import _http, _retriers
from resilience_instrument.integrations._frame import FRAME, settle
from resilience_instrument.integrations._room import remember
from resilience_instrument.integrations._url import (
    Addresses,
    path_start,
    span_attributes,
)
from resilience_instrument.outcome import Raised
from resilience_instrument.verdict import Phase, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resilience_instrument.call import AttributeValue
    from resilience_instrument.config.model import Timeouts
    from resilience_instrument.errors import ResilienceError
    from resilience_instrument.fastpath import Lane
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.policies.timeout import Limits
    from resilience_instrument.registry import ServicePolicies
    from resilience_instrument.verdict import Judgement

    Kind = tuple[bool, bool]
    """Whether the app gave no timeout, and whether it may be sent twice."""
    OwnErrors = Mapping[Any, Any]

_URLS: Final = 4096
"""URLs whose lanes are found without reading them."""


@final
class Site:
    """What all requests through one library have at hand.

    Args:
        runtime: What the agent gives to the room.
        library: The name that an app imports.
        own_errors: Our errors as classes of the library.
        proxied_errors: The same for a call through a proxy, where they differ.
    """

    __slots__ = (
        "_by_endpoint",
        "_by_url",
        "addresses",
        "library",
        "own_errors",
        "proxied_errors",
        "runtime",
    )

    def __init__(
        self,
        runtime: Runtime,
        library: str,
        own_errors: OwnErrors,
        proxied_errors: OwnErrors,
    ) -> None:
        self.runtime = runtime
        self.library = library
        self.own_errors = own_errors
        self.proxied_errors = proxied_errors
        self.addresses = Addresses()
        self._by_url: dict[Kind, dict[Any, Lane]] = {
            (unbounded, repeatable): runtime.registry.cache()
            for unbounded in (False, True)
            for repeatable in (False, True)
        }
        self._by_endpoint: dict[tuple[str, str, Kind], Lane] = runtime.registry.cache()

    def lanes(self, kind: Kind) -> dict[Any, Lane]:
        """Return the lanes of the URLs that were called lately, of one kind."""
        return self._by_url[kind]

    def lane(self, url: str, kind: Kind) -> Lane | None:
        """Return the lane of a URL whose service and endpoint may be known."""
        start = path_start(url)
        service = self.addresses.service(url[:start])
        return self.known(url, service, url[start:], kind)

    def known(self, key: Any, service: str, path: str, kind: Kind) -> Lane | None:
        """Return the lane of an endpoint that was called, and find it by `key` soon."""
        endpoint = self.addresses.endpoint(service, path)
        found = self._by_endpoint.get((service, endpoint, kind))
        if found is not None:
            by_url = self._by_url[kind]
            if len(by_url) >= _URLS:
                by_url.clear()
            by_url[key] = found
        return found

    def remember(self, sending: Sending) -> Lane | None:
        """Keep a lane for calls like one that was told in full, if there can be one."""
        call, policies, runtime = sending.call, sending.policies, self.runtime
        if not (runtime.fast and sending.is_direct):
            return None
        kind = (call.unbounded, call.repeatable)
        key = (call.service, call.endpoint, kind)
        found = self._by_endpoint.get(key)
        if found is None:
            found = remember(runtime, call, policies)
            if found is not None:
                self._by_endpoint[key] = found
                # It may have made room for others meanwhile.
                if not runtime.registry.keeps(policies):
                    del self._by_endpoint[key]
        return found


class Sending(ABC):
    """The facts of one request, and how to read what came of it."""

    __slots__ = (
        "_clock",
        "_frame",
        "_limits",
        "_method",
        "_request",
        "_route",
        "_site",
        "_url",
        "call",
        "last",
        "policies",
    )

    call: Call
    policies: ServicePolicies
    _limits: Limits
    _method: str
    _url: str

    def __init__(self, site: Site, request: Any) -> None:
        self._site = site
        self._request = request
        self._clock = site.runtime.clock
        self._frame = FRAME.get()
        self._route: str | None = None
        self.last: Outcome | None = None

    @property
    def is_direct(self) -> bool:
        """Whether no proxy stands between."""
        return self._route is None

    def _find_policies(self, service: str, route: str | None) -> Timeouts:
        """Find what governs the call; return the service's own timeouts."""
        self._route = route
        self.policies = self._site.runtime.registry.policies(service, route)
        return self.policies.settings.timeout

    def _describe(  # noqa: PLR0913 - the facts of a call; every one is named
        self,
        *,
        method: str,
        path: str,
        headers: Mapping[str, Any],
        replayable: bool,
        app_retries: bool,
        unbounded: bool,
        end: float | None,
    ) -> None:
        """State the facts of the call, which would end at `end` by itself."""
        service = self.policies.service
        self._method = method
        self.call = Call(
            library=self._site.library,
            service=service,
            endpoint=self._site.addresses.endpoint(service, path),
            operation=_http.method_label(method),
            repeatable=_http.is_repeatable(method, headers),
            replayable=replayable,
            app_retries=app_retries
            or self._comes_again()
            or _retriers.declared(headers),
            unbounded=unbounded,
            deadline=settle(self._frame, end),
            attributes=self._attributes,
        )

    def _comes_again(self) -> bool:
        """Tell whether somebody above sends again what has just failed for good."""
        frame = self._frame
        return frame is not None and frame.failed is self._request is not None

    def _address(self) -> str:
        """Return the URL in full, for a span."""
        return self._url

    def _attributes(self) -> dict[str, AttributeValue]:
        attributes = span_attributes(self._address())
        attributes["http.request.method"] = _http.method_label(self._method)
        if attributes["http.request.method"] != self._method:
            attributes["http.request.method_original"] = self._method
        return attributes

    def judge(self, outcome: Outcome) -> Judgement:
        """Read what the last attempt came to."""
        judgement = self._read(outcome)
        call = self.call
        failed = judgement.verdict is Verdict.TRANSIENT
        if self._frame is not None:
            self._frame.failed = self._request if failed else None
        if failed and not call.app_retries:
            # Asked after a failure only: a walk over the callers costs something.
            call.app_retries = self._is_retried_below(outcome) or _retriers.around()
        return judgement

    def _is_retried_below(self, outcome: Outcome) -> bool:  # noqa: ARG002 - by default nothing is
        """Tell whether the library has tried again what failed like this."""
        return False

    def _read(self, outcome: Outcome) -> Judgement:
        if not isinstance(outcome, Raised):
            return self._judge_answer(outcome.value)
        error = outcome.error
        sent = not self._is_never_sent(error)
        phase = self._phase(error)
        if phase is not None:
            waited = self._clock.monotonic() - self._limits.start
            phase = Phase.TOTAL if self._is_over() else phase
            own = self.policies.settings.timeout
            return _http.judge_timeout(error, phase, waited, own, sent=sent)
        if self._is_transport(error):
            return _http.judge_transport(error, sent=sent)
        return _http.judge_ours(error)

    def _judge_answer(self, response: Any) -> Judgement:
        return _http.judge_status(response.status_code, response.headers)

    @abstractmethod
    def _phase(self, error: Exception) -> Phase | None:
        """Return in which phase a timeout struck, None if `error` is none."""

    @abstractmethod
    def _is_never_sent(self, error: Exception) -> bool:
        """Tell whether it is proven that no byte of the request left."""

    @abstractmethod
    def _is_transport(self, error: Exception) -> bool:
        """Tell whether `error` is one of the connection."""

    def _is_over(self) -> bool:
        """Tell whether it was the end of the call that cut the attempt."""
        end = self._limits.end
        return end is not None and self._clock.monotonic() >= end

    def reject(self, error: ResilienceError) -> Exception:
        """Return `error` as one of the library, with the request that it refuses."""
        site = self._site
        kind = site.own_errors[type(error)]
        if self._route is not None:
            kind = site.proxied_errors.get(type(error), kind)
        own: Exception = kind(
            str(error),
            service=error.service,
            retry_after=error.retry_after,
            last_error=error.last_error,
        )
        own.request = self._shown()  # type: ignore[attr-defined]
        return own

    def _shown(self) -> object:
        """Return the request as an error may carry it."""
        return self._request
