"""botocore: the call at `Endpoint.make_request`, attempts at `URLLib3Session.send`.

botocore retries by itself: its loop is kept, and the policies follow it. What answers
in the place of a service, such as a stubber, answers before the call or in it, and sees
it once. What botocore asks for on its own account, such as credentials of a metadata
service, is no call of the app and is left alone.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import inspect
import weakref
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

import urllib3
import urllib3.connection
import urllib3.exceptions

# Not `import botocore.client`: while that is being imported its parent lacks it.
from botocore import awsrequest, exceptions, httpsession, retryhandler, utils
from botocore import client as clients
from botocore import endpoint as endpoints
from botocore.config import Config
from botocore.retries import standard

from resilience_instrument import errors
from resilience_instrument.call import Call
from resilience_instrument.config.model import Timeouts
from resilience_instrument.following import Followed
from resilience_instrument.integrations import _http, _urllib3
from resilience_instrument.integrations._clamp import (
    CLAMP,
    Clamp,
    clamp_response,
    send_unhurried,
)
from resilience_instrument.integrations._patch import Target
from resilience_instrument.integrations._room import deliver, described, govern_sync
from resilience_instrument.integrations._sending import own_errors
from resilience_instrument.integrations._url import (
    Addresses,
    path_start,
    span_attributes,
)
from resilience_instrument.observe import Would
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.policies.deadline import CURRENT, nearer
from resilience_instrument.policies.timeout import Limits, call_deadline, limits
from resilience_instrument.verdict import Phase, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience_instrument.call import AttributeValue
    from resilience_instrument.errors import ResilienceError
    from resilience_instrument.events import CallOutcome
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.verdict import Judgement

_CONNECT: Final = "connect_timeout"
_READ: Final = "read_timeout"
_TIMEOUTS: Final = frozenset({_CONNECT, _READ})

# What waits for the customer's own work, or for something to happen: a read timeout
# that fits other calls would cut it. By the names of services, None for all they do.
_WAITING: Final[dict[str, frozenset[str] | None]] = {
    "bedrock-agent-runtime": None,
    "bedrock-runtime": None,
    "kinesis": frozenset({"ReceiveDeadLetterQueueRecords", "ReceiveQueueRecords"}),
    "lambda": frozenset({"Invoke", "InvokeWithResponseStream"}),
    "sagemaker-runtime": None,
    "sqs": frozenset({"ReceiveMessage"}),
    "stepfunctions": frozenset({"GetActivityTask", "StartSyncExecution"}),
    "swf": frozenset({"PollForActivityTask", "PollForDecisionTask"}),
}


class CircuitBreakerOpenError(
    errors.CircuitBreakerOpenError,
    exceptions.EndpointConnectionError,  # type: ignore[misc]  # untyped
):
    """The circuit is open; to an app of botocore, an endpoint that is not there."""

    def __init__(self, message: str, **facts: Any) -> None:
        _begin(self, message, **facts)


class BulkheadFullError(
    errors.BulkheadFullError,
    exceptions.EndpointConnectionError,  # type: ignore[misc]  # untyped
):
    """Too many calls are under way; to an app, an endpoint that is not there."""

    def __init__(self, message: str, **facts: Any) -> None:
        _begin(self, message, **facts)


class RateLimitedError(
    errors.RateLimitedError,
    exceptions.EndpointConnectionError,  # type: ignore[misc]  # untyped
):
    """The service is overloaded; to an app, an endpoint that is not there."""

    def __init__(self, message: str, **facts: Any) -> None:
        _begin(self, message, **facts)


class DeadlineExceededError(
    errors.DeadlineExceededError,
    exceptions.ReadTimeoutError,  # type: ignore[misc]  # untyped
):
    """No time is left; to an app of botocore, a read timeout."""

    def __init__(self, message: str, **facts: Any) -> None:
        _begin(self, message, **facts)
        # What botocore's and urllib3's classes have besides.
        self.request = self.response = self.pool = self.url = None


_OWN: Final = own_errors(
    CircuitBreakerOpenError, BulkheadFullError, RateLimitedError, DeadlineExceededError
)


def _begin(error: Any, message: str, **facts: Any) -> None:
    """Make an error of ours, which botocore's classes would word by themselves."""
    _urllib3.begin(error, message, **facts)
    error.kwargs = {"endpoint_url": facts.get("service", ""), "error": message}


def targets(runtime: Runtime) -> list[Target]:
    """Return what is wrapped, for one `runtime`."""
    endpoint = endpoints.Endpoint
    session = httpsession.URLLib3Session
    site = _Site(runtime)
    found = [
        Target(http.client.HTTPResponse, "__init__", clamp_response),
        Target(urllib3.connection.HTTPConnection, "request", send_unhurried),
        Target(clients.ClientCreator, "create_client", _client(site)),
        Target(endpoint, "make_request", _calls(site)),
        Target(endpoint, "_needs_retry", _needs_retry),
        Target(standard.RetryHandler, "needs_retry", _pause),
        Target(retryhandler.RetryHandler, "__call__", _pause),
        Target(session, "send", _send),
    ]
    if hasattr(session, "_get_request_timeout"):
        # Of later versions; before, a client's timeouts hold for all that it does.
        found.append(Target(session, "_get_request_timeout", _request_timeout))
    return found


@final
class _Site:
    """What all calls have at hand.

    Attributes:
        runtime: What the agent gives to the room.
        addresses: Finds the service of an endpoint.
        left: For each endpoint the timeouts that the app did not give.
    """

    __slots__ = ("addresses", "left", "runtime")

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.addresses = Addresses()
        self.left: weakref.WeakKeyDictionary[Any, frozenset[str]] = (
            weakref.WeakKeyDictionary()
        )


# -- clients ----------------------------------------------------------------


def _client(site: _Site) -> Any:
    def create_client(
        wrapped: Any, creator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        left: frozenset[str] = frozenset()
        try:
            bound = inspect.signature(wrapped).bind(*args, **kwargs)
            given = bound.arguments
            config = given.get("client_config")
            aws_connect = creator._config_store.get_config_variable(_CONNECT)  # noqa: SLF001 - as it asks itself
            left = _left_to_us(config, aws_connect)
            settings = site.runtime.registry.settings
            if settings.enabled and settings.mode == "enforce":
                own = {_CONNECT: settings.timeout.connect, _READ: settings.timeout.read}
                ours = {name: own[name] for name in left}
                given["client_config"] = _merged(
                    given["service_name"], config, ours, aws_connect
                )
            args, kwargs = bound.args, bound.kwargs
        except Exception as fault:
            site.runtime.fault("describe", fault)
        client = wrapped(*args, **kwargs)
        with contextlib.suppress(AttributeError, TypeError):
            # A test may have made something else of it.
            site.left[client._endpoint] = left  # noqa: SLF001 - it is shown nowhere
        return client

    return create_client


def _left_to_us(config: Any, aws_connect: Any) -> frozenset[str]:
    """Return the timeouts that neither the app nor its AWS settings gave."""
    given = set() if config is None else set(config._user_provided_options)  # noqa: SLF001 - asked for nowhere else
    if aws_connect is not None:
        given.add(_CONNECT)
    return _TIMEOUTS - given


def _merged(service: str, config: Any, ours: dict[str, Any], aws_connect: Any) -> Any:
    """Return the configuration of a client that is being made, with our timeouts."""
    if service in _WAITING:
        # What waits and what does not has one configuration there.
        ours.pop(_READ, None)
    options = {name: value for name, value in ours.items() if value is not None}
    if not options:
        return config
    if config is not None:
        return config.merge(Config(**options))
    if aws_connect is not None:
        # Which holds only where there is no other configuration.
        options[_CONNECT] = aws_connect
    return Config(**options)


# -- calls ------------------------------------------------------------------


def _calls(site: _Site) -> Any:
    def make_request(
        wrapped: Any, endpoint: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        make = functools.partial(wrapped, *args, **kwargs)
        facts = (site, make, endpoint, args, kwargs)
        api = described(site.runtime, _governed, *facts)
        if api is None:
            return make()
        if api.follows:
            return api.run()
        return govern_sync(site.runtime, api.call, api.policies, api)

    return make_request


def _governed(
    site: _Site,
    make: Callable[[], Any],
    endpoint: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> _Api | None:
    pool = awsrequest.AWSHTTPConnectionPool
    session = httpsession.URLLib3Session
    if not isinstance(endpoint.http_session, session):
        # Of another kind, such as an asynchronous one.
        return None
    if _http.is_played(pool.ConnectionCls):
        return None
    return _Api(site, make, endpoint, *_facts(*args, **kwargs))


def _facts(operation_model: Any, request_dict: Any) -> tuple[Any, Any]:
    return operation_model, request_dict


def _send(
    wrapped: Any, session: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    api = _HERE.get()
    make = functools.partial(wrapped, *args, **kwargs)
    if api is None or api.endpoint.http_session is not session:
        return make()
    return api.send(make)


def _needs_retry(
    wrapped: Any, endpoint: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    api = _HERE.get()
    ask = functools.partial(wrapped, *args, **kwargs)
    if api is None or api.endpoint is not endpoint:
        return ask()
    return api.is_repeated(ask)


def _pause(
    wrapped: Any,
    handler: Any,  # noqa: ARG001 - the shape of a wrapper
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Wrap what says after which pause there is another attempt, None for no more."""
    pause = wrapped(*args, **kwargs)
    api = _HERE.get()
    return pause if api is None or not pause or api.has_time(pause) else None


def _request_timeout(
    wrapped: Any, session: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    api = _HERE.get()
    if api is None or api.endpoint.http_session is not session or api.limits is None:
        return wrapped(*args, **kwargs)
    return urllib3.Timeout(connect=api.limits.connect, read=api.limits.read)


@final
class _Api:
    """One call of an operation: the `Io` whose attempts botocore's loop makes."""

    __slots__ = (
        "_clamp",
        "_clock",
        "_followed",
        "_given",
        "_is_late",
        "_is_lost",
        "_left",
        "_make",
        "_method",
        "_model",
        "_runtime",
        "_succeeded",
        "_url",
        "_usual",
        "_waits",
        "call",
        "endpoint",
        "last",
        "limits",
        "policies",
        "would",
    )

    def __init__(
        self,
        site: _Site,
        make: Callable[[], Any],
        endpoint: Any,
        model: Any,
        request: Any,
    ) -> None:
        self._runtime = site.runtime
        self._clock = site.runtime.clock
        self.endpoint = endpoint
        self._make = make
        self._model = model
        self._method: str = request["method"]
        self._url: str = request["url"]
        self._left = site.left.get(endpoint, frozenset())
        self._followed: Followed | None = None
        self._is_late = self._is_lost = self._succeeded = False
        self.last: Outcome | None = None
        self.limits: Limits | None = None
        self.would: Would | None = None
        self._find_policies(site, request)
        self._find_timeouts(request["context"].get(_READ))
        self._describe(request)

    @property
    def follows(self) -> bool:
        """Whether the policies act on the call."""
        settings = self.policies.settings
        return settings.enabled and settings.mode == "enforce"

    def _find_policies(self, site: _Site, request: Any) -> None:
        host: str = self.endpoint.host
        service, origin = site.addresses.origin(host[: path_start(host)])
        registry = site.runtime.registry
        self.policies = registry.policies(
            service,
            self.endpoint.http_session._proxy_config.proxy_url_for(self._url),  # noqa: SLF001 - as it asks itself
            to=origin._replace(path=request["url_path"]),
            library="botocore",
            upload=registry.is_upload(_size(request)),
        )

    def _find_timeouts(self, of_request: float | None) -> None:
        """Find what holds without the agent, and what holds with it."""
        left = self._left
        timeout = self.endpoint.http_session._timeout  # noqa: SLF001 - it is shown nowhere
        usual = _urllib3.app_timeouts(timeout) or _urllib3.NONE
        connect = _DEFAULT if _CONNECT in left else usual.connect
        read = _DEFAULT if _READ in left else usual.read
        if of_request is not None:
            read, left = of_request, left - {_READ}
        self._usual = read
        self._waits = _is_waiting(self._model)
        own = self.policies.settings.timeout
        if _CONNECT in left and own.connect is not None:
            connect = own.connect
        if _READ in left and own.read is not None and not self._waits:
            read = own.read
        self._given = Timeouts(connect, read, None, None, None)

    def _describe(self, request: Any) -> None:
        now, own = self._clock.monotonic(), self.policies.settings.timeout
        end = None if self._waits else call_deadline(self._given, own, now)
        deadline = nearer(end, CURRENT.get())
        if not self.follows:
            total = None if end is None else end - now
            ours = _READ in self._left and not self._waits
            self.would, deadline = Would(total, own.read if ours else None), None
        name = f"{self._model.service_model.service_id}.{self._model.name}"
        self.call = Call(
            library="botocore",
            service=self.policies.service,
            endpoint=name,
            operation=name,
            repeatable=_http.is_repeatable(self._method, request["headers"]),
            app_retries=True,
            unbounded=self._left == _TIMEOUTS,
            deadline=deadline,
            measured=not self._waits,
            # Not a method of this object, which would hold itself through its call.
            attributes=partial(_attributes, self._url, self._method, self._model),
        )

    # -- the call -----------------------------------------------------------

    def run(self) -> Any:
        """Make the call, each of its attempts through `send`."""
        refusal = self._begin()
        if refusal is not None:
            try:
                raise refusal
            finally:
                # The traceback holds this frame; the frame must not hold the error.
                del refusal
        label: CallOutcome | None = None
        token = _HERE.set(self)
        try:
            return self._make()
        except Exception:
            label = "error" if self._succeeded or self._is_untried() else None
            raise
        except BaseException:
            label = "cancelled"
            raise
        finally:
            _HERE.reset(token)
            self._end(label)

    def _is_untried(self) -> bool:
        return self.limits is None

    def _begin(self) -> Exception | None:
        runtime = self._runtime
        try:
            runtime.begin()
            self._followed = Followed(
                self.call, self.policies, self, runtime.observer, self._clock
            )
            return self._followed.begin()
        except Exception as fault:
            self._lose(fault)
            return None

    def _end(self, label: CallOutcome | None) -> None:
        self.last = None
        if self._followed is not None:
            try:
                self._followed.end("error" if self._is_lost else label)
            except Exception as fault:
                self._lose(fault)

    def send(self, make: Callable[[], Any]) -> Any:
        """Make one attempt, told to the policies."""
        self._make = make
        followed = self._followed
        if followed is not None and not self._is_lost:
            try:
                followed.attempt()
            except Exception as fault:
                self._lose(fault)
        return make() if self.last is None else deliver(self._take())

    def _take(self) -> Outcome:
        """Return what the attempt came to, once: nobody must keep it alive."""
        last, self.last = self.last, None
        assert last is not None
        return last

    def is_repeated(self, ask: Callable[[], Any]) -> Any:
        """Tell whether there is another attempt: botocore decides, if it may."""
        followed = self._followed
        if followed is None:
            return ask()
        if not self._hears(followed.may_pause):
            return False
        self._is_late = False
        wanted = ask()
        if wanted:
            return self._hears(followed.may_go_on)
        if not self._is_late:
            self._hears(followed.give_up)
        return wanted

    def has_time(self, pause: float) -> bool:
        """Tell whether botocore may pause for so many seconds."""
        followed = self._followed
        if followed is not None:
            self._is_late = not self._hears(lambda: followed.has_time(pause))
        return not self._is_late

    def _hears(self, ask: Callable[[], bool]) -> bool:
        """Ask a policy; one that fails has nothing to say from then on."""
        if not self._is_lost:
            try:
                return ask()
            except Exception as fault:
                self._lose(fault)
        return True

    def _lose(self, fault: Exception) -> None:
        """Report a fault of ours, once: what follows passes untouched."""
        if not self._is_lost:
            self._is_lost = True
            self._runtime.fault("engine", fault)

    # -- the Io -------------------------------------------------------------

    async def attempt(self, number: int, deadline: float | None) -> Outcome:  # noqa: ARG002 - botocore counts them
        """Send the request once; only observed, make the whole call."""
        now, monotonic = self._clock.monotonic(), self._clock.monotonic
        self.limits = limits(self._given, deadline, now)
        self._clamp = Clamp(deadline, monotonic, sending=_CONNECT in self._left)
        token = CLAMP.set(self._clamp if self.follows else None)
        try:
            response = self._make()
            # The app reads a stream itself, with the pauses that botocore allows.
            self._clamp.release(free=True, pause=self._usual)
            self.last = Returned(response)
        except Exception as error:
            self.last = Raised(error)
        finally:
            CLAMP.reset(token)
        return self.last

    def judge(self, outcome: Outcome) -> Judgement:
        """Read what the last attempt came to."""
        judgement = self._read(outcome)
        self._succeeded = judgement.verdict is Verdict.SUCCESS
        return judgement

    def _read(self, outcome: Outcome) -> Judgement:
        if isinstance(outcome, Returned):
            answer: Any = outcome.value
            # A whole call has the parsed answer beside it.
            answer = answer[0] if isinstance(answer, tuple) else answer
            return _http.judge_status(answer.status_code, answer.headers)
        error = outcome.error
        inner = _inner(error)
        reason = getattr(inner, "original_error", inner)
        sent = not _urllib3.is_never_sent(reason)
        phase = _urllib3.phase(inner)
        if phase is not None and self.limits is not None:
            waited = self._clock.monotonic() - self.limits.start
            phase = Phase.TOTAL if self._clamp.fired else phase
            own = self.policies.settings.timeout
            return _http.judge_timeout(error, phase, waited, own, sent=sent)
        if isinstance(error, _TRANSPORT) and isinstance(inner, _FAILURES):
            name = type(error).__name__
            return _http.judge_transport(inner, sent=sent).revised(reason=name)
        return _http.judge_ours(error)

    def reject(self, error: ResilienceError) -> Exception:
        """Return `error` as one of botocore."""
        own: Exception = _OWN[type(error)](
            str(error),
            service=error.service,
            retry_after=error.retry_after,
            last_error=error.last_error,
        )
        return own

    async def discard(self, outcome: Outcome) -> None:
        """Do nothing: botocore has the outcome."""

    async def sleep(self, seconds: float) -> None:
        """Wait, as a thread waits."""
        _http.sleep_sync(seconds)

    async def untouched(self) -> Outcome:
        """Make the call as if the agent were not there."""
        try:
            return Returned(self._make())
        except Exception as error:
            return Raised(error)


_HERE: Final[ContextVar[_Api | None]] = ContextVar("resilience_botocore", default=None)
"""The call that is under way in this context."""

_DEFAULT: Final = float(endpoints.DEFAULT_TIMEOUT)

_TRANSPORT: Final = (
    exceptions.ConnectionError,
    exceptions.HTTPClientError,
)
_FAILURES: Final = (
    exceptions.BotoCoreError,
    urllib3.exceptions.TimeoutError,
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.ProxyError,
    urllib3.exceptions.SSLError,
    OSError,
)


def _inner(error: Exception) -> Exception:
    """Return what an error of botocore tells in its own words."""
    found = getattr(error, "kwargs", {}).get("error")
    return found if isinstance(found, Exception) else error


def _size(request: Any) -> dict[str, str]:
    """Return the headers that say how large the body is and of which kind."""
    size = None
    with contextlib.suppress(Exception):
        # A body that cannot say is none that we hurry.
        size = utils.determine_content_length(request["body"])
    kind = request["headers"].get("Content-Type", "")
    return {
        "Content-Length": "" if size is None else str(size),
        "Content-Type": kind if isinstance(kind, str) else "",
    }


def _is_waiting(model: Any) -> bool:
    """Tell whether an operation waits by its nature."""
    service = model.service_model
    operations = _WAITING.get(service.service_name, frozenset())
    if operations is None or model.name in operations:
        return True
    # botocore's own list, which may know more.
    handler = standard.RetryHandler
    known: Any = getattr(handler, "_LONG_POLLING_OPERATIONS", {})
    return model.name in known.get(service.service_id.hyphenize(), ())


def _attributes(url: str, method: str, model: Any) -> dict[str, AttributeValue]:
    """Return the attributes of a span for an attempt at an operation."""
    return {
        **span_attributes(url),
        "http.request.method": method,
        "rpc.system": "aws-api",
        "rpc.service": str(model.service_model.service_id),
        "rpc.method": str(model.name),
    }
