"""One request on its way through an HTTP client, as far as all clients agree.

A room derives its `Io` from `Sending` and adds how its library sends, which
timeouts the app gave, and what the library's errors mean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from resilience_instrument import errors
from resilience_instrument.call import Call
from resilience_instrument.integrations import _http, _retriers
from resilience_instrument.integrations._frame import FRAME, settle
from resilience_instrument.integrations._room import (
    GovernedIo,
    govern_sync,
    remember,
    suppressed,
)
from resilience_instrument.integrations._url import (
    Addresses,
    path_start,
    span_attributes,
)
from resilience_instrument.observe import Would
from resilience_instrument.outcome import Raised
from resilience_instrument.verdict import Phase, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resilience_instrument.call import AttributeValue
    from resilience_instrument.config.match import Destination
    from resilience_instrument.config.model import Timeouts
    from resilience_instrument.errors import ResilienceError
    from resilience_instrument.events import Facts
    from resilience_instrument.fastpath import Lane
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.policies.timeout import Limits
    from resilience_instrument.registry import ServicePolicies
    from resilience_instrument.verdict import Judgement

    Kind = tuple[bool, bool]
    """Whether the app gave no timeout, and whether it may be sent twice."""
    OwnErrors = Mapping[Any, Any]

# Each once: every endpoint is found by one of them.
_KINDS: Final = tuple(
    tuple((unbounded, repeatable) for repeatable in (False, True))
    for unbounded in (False, True)
)
_URLS: Final = 16_384
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
        self._by_endpoint: dict[tuple[ServicePolicies, str, Kind], Lane] = (
            runtime.registry.cache()
        )

    def lanes(self, kind: Kind) -> dict[Any, Lane]:
        """Return the lanes of the URLs that were called lately, of one kind."""
        return self._by_url[kind]

    def lane(self, url: str, kind: Kind) -> Lane | None:
        """Return the lane of a URL whose service and endpoint may be known."""
        start = path_start(url)
        service, origin = self.addresses.origin(url[:start])
        to = origin._replace(path=url[start:])
        return self.known(url, service, to, kind)

    def known(self, key: Any, service: str, to: Destination, kind: Kind) -> Lane | None:
        """Return the lane of an endpoint that was called, and find it by `key` soon."""
        if suppressed():
            # Nothing is to be known of whom it goes to.
            return None
        registry = self.runtime.registry
        policies = registry.policies(service, to=to, library=self.library)
        templates = policies.settings.endpoints
        endpoint = self.addresses.endpoint(policies.service, to.path, templates)
        found = self._by_endpoint.get((policies, endpoint, kind))
        if found is not None:
            by_url = self._by_url[kind]
            if len(by_url) >= _URLS:
                by_url.clear()
            by_url[key] = found
        return found

    def remember(self, sending: Sending) -> Lane | None:
        """Keep a lane for calls like one that was told in full, if there can be one."""
        call, policies, runtime = sending.call, sending.policies, self.runtime
        if not (runtime.fast and sending.is_direct and call.measured):
            return None
        kind = _KINDS[call.unbounded][call.repeatable]
        key = (policies, call.endpoint, kind)
        found = self._by_endpoint.get(key)
        if found is None:
            found = remember(runtime, call, policies)
            if found is not None:
                self._by_endpoint[key] = found
                # It may have made room for others meanwhile.
                if not runtime.registry.keeps(policies):
                    del self._by_endpoint[key]
        return found


_REFUSALS: Final = (
    errors.CircuitBreakerOpenError,
    errors.BulkheadFullError,
    errors.RateLimitedError,
    errors.DeadlineExceededError,
)


def own_errors(*classes: type[ResilienceError]) -> OwnErrors:
    """Return a library's own classes by those of ours that they stand for."""
    return {ours: own for own in classes for ours in _REFUSALS if issubclass(own, ours)}


class Sending(ABC):
    """The facts of one request, and how to read what came of it."""

    __slots__ = (
        "_clock",
        "_frame",
        "_key",
        "_limits",
        "_method",
        "_request",
        "_route",
        "_site",
        "_upload",
        "_url",
        "call",
        "last",
        "policies",
        "would",
    )

    call: Call
    policies: ServicePolicies
    _key: dict[str, str]
    _limits: Limits
    _method: str
    _url: object
    """What reads as the URL in full."""

    def __init__(self, site: Site, request: Any) -> None:
        self._site = site
        self._request = request
        self._clock = site.runtime.clock
        self._frame = FRAME.get()
        self._route: str | None = None
        self.last: Outcome | None = None
        self.would: Would | None = None

    @property
    def is_direct(self) -> bool:
        """Whether no proxy stands between."""
        return self._route is None

    @property
    def _observes(self) -> bool:
        """Whether the call is to be as if the agent were not there."""
        return self.policies.settings.mode == "observe"

    @property
    def acts(self) -> bool:
        """Whether anything may be done about the call."""
        return self.policies.settings.enabled and not self._observes

    def _find_policies(
        self, service: str, route: str | None, to: Destination, headers: Any
    ) -> Timeouts:
        """Find what governs the call; return the service's own timeouts.

        Args:
            service: The name of the service where none is configured.
            route: The proxy, None for none.
            to: Where the call goes.
            headers: Those of the request, which say how large its body is.
        """
        self._route = route
        registry = self._site.runtime.registry
        self._upload = registry.is_upload(headers)
        self.policies = registry.policies(
            service,
            route,
            to=to,
            library=self._site.library,
            upload=self._upload,
        )
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
        ours: bool,
        streams: bool,
        end: float | None,
    ) -> None:
        """State the facts of the call, which would end at `end` by itself.

        `ours` says whether its timeouts are the service's, not the app's; `streams`
        whether the app reads an answer itself that others wait for.
        """
        service = self.policies.service
        deadline = None
        if self._observes:
            own = self.policies.settings.timeout
            total = None if end is None else end - self._clock.monotonic()
            self.would = Would(total, own.read if ours else None)
        else:
            deadline = settle(self._frame, end)
        self._method = method
        wanted = self.policies.settings.idempotency_key
        key = _http.fresh_key(method, headers, wanted)
        # Who only observes sends none, and plays as if it had been sent.
        self._key = {} if self._observes else key
        self.call = Call(
            library=self._site.library,
            service=service,
            endpoint=self._site.addresses.endpoint(
                service, path, self.policies.settings.endpoints
            ),
            operation=_http.method_label(method),
            repeatable=bool(key) or _http.is_repeatable(method, headers),
            replayable=replayable,
            app_retries=app_retries
            or self._comes_again()
            or _retriers.declared(headers),
            unbounded=unbounded,
            deadline=deadline,
            measured=not (streams or self._upload),
            # Not a method of this object, which would hold itself through its call.
            attributes=partial(_attributes, self._url, method),
        )

    def _comes_again(self) -> bool:
        """Tell whether somebody above sends again what has just failed for good."""
        frame = self._frame
        return frame is not None and frame.failed is self._request is not None

    @property
    def _carrier(self) -> Mapping[str, str]:
        """The headers of ours that this attempt carries."""
        carrier = self.call.carrier
        return {**carrier, **self._key} if self._key else carrier

    def _carried(self) -> _http.Carried:
        """Give the request the headers of this attempt."""
        return _http.Carried(self._request.headers, self._carrier)

    def _address(self) -> str:
        """Return the URL in full."""
        return str(self._url)

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


def facts(url: object, method: str) -> Facts:
    """Return what spans say of a request, which `Call` says on the long way."""
    return _http.method_label(method), _attributes(url, method)


def _attributes(url: object, method: str) -> dict[str, AttributeValue]:
    """Return the attributes of a span for a request."""
    attributes = span_attributes(str(url))
    attributes["http.request.method"] = _http.method_label(method)
    if attributes["http.request.method"] != method:
        attributes["http.request.method_original"] = method
    return attributes


class PlannedIo(GovernedIo, Protocol):
    """One call the long way that knows how calls like it may be shorter."""

    call: Call
    policies: ServicePolicies

    def plan(self) -> None:
        """Note how calls like this one are limited."""
        ...


def tell_sync(runtime: Runtime, sending: PlannedIo) -> object:
    """Make a call the long way, and note what makes calls like it shorter."""
    result = govern_sync(runtime, sending.call, sending.policies, sending)
    try:
        sending.plan()
    except Exception as fault:
        runtime.fault("describe", fault)
    return result
